//! A node of the Rust crate mainline on loopback: `mainline-server HOST:PORT...` (its bootstrap
//! nodes) says `ready PORT` and serves until its standard input is closed.  With `--client` it does
//! not serve, but asks only; with `--bind=ADDRESS` it is not on loopback.
//!
//! A line there is a number and a command, its words in hex (`-`: empty): `put SEED SALT SEQ VALUE`,
//! `get KEY SALT`, `put_immutable VALUE`, `get_immutable TARGET`.  The answer is a line: the
//! number, and what was found, the target of what was put, `-` for nothing, or `error WORDS`.

use std::fmt::Display;
use std::io::BufRead;
use std::net::Ipv4Addr;

use mainline::{Dht, Id, MutableItem, SigningKey};

fn bytes(word: &str) -> Result<Vec<u8>, String> {
    let digits = word.trim_matches('-');
    (0..digits.len())
        .step_by(2)
        .map(|at| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("no hex: {word}"))
}

fn array<const N: usize>(word: &str) -> Result<[u8; N], String> {
    bytes(word)?.try_into().map_err(|_| format!("not {N} bytes"))
}

fn hex(data: &[u8]) -> String {
    if data.is_empty() {
        return "-".into();
    }
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn words(error: impl Display) -> String {
    error.to_string()
}

#[allow(deprecated)] // its successor needs an async runtime
fn obey(dht: &Dht, command: &[&str]) -> Result<String, String> {
    match command {
        ["put", seed, salt, seq, value] => {
            let salt = bytes(salt)?;
            let item = MutableItem::new(
                SigningKey::from_bytes(&array(seed)?),
                &bytes(value)?,
                seq.parse().map_err(words)?,
                (!salt.is_empty()).then_some(&salt[..]),
            );
            dht.put_mutable(item, None).map(|id| hex(id.as_bytes())).map_err(words)
        }
        ["get", key, salt] => {
            let salt = bytes(salt)?;
            let salt = (!salt.is_empty()).then_some(&salt[..]);
            Ok(dht.get_mutable_most_recent(&array(key)?, salt).map_or("-".into(), |item| hex(item.value())))
        }
        ["put_immutable", value] => {
            dht.put_immutable(&bytes(value)?).map(|id| hex(id.as_bytes())).map_err(words)
        }
        ["get_immutable", target] => {
            let target = Id::from_bytes(array::<20>(target)?).map_err(words)?;
            Ok(dht.get_immutable(target).map_or("-".into(), |value| hex(&value)))
        }
        _ => Err("unknown command".into()),
    }
}

fn main() -> std::io::Result<()> {
    let (options, bootstrap): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let mut builder = Dht::builder();
    if !options.iter().any(|word| word == "--client") {
        builder.server_mode();
    }
    let address = options.iter().find_map(|word| word.strip_prefix("--bind=")?.parse().ok());
    let dht = builder
        .bind_address(address.unwrap_or(Ipv4Addr::LOCALHOST))
        .port(0)
        .bootstrap(&bootstrap)
        .build()?;
    #[allow(deprecated)] // its successor needs an async runtime
    let info = dht.info();
    println!("ready {}", info.local_addr().port());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let dht = dht.clone();
        std::thread::spawn(move || {
            let (number, command) = line.split_once(' ').unwrap_or((&line, ""));
            let command: Vec<&str> = command.split_whitespace().collect();
            let answer = obey(&dht, &command).unwrap_or_else(|error| format!("error {error}"));
            println!("{number} {answer}");
        });
    }
    Ok(())
}
