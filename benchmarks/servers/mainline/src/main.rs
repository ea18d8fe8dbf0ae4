//! A node of the Rust crate mainline on loopback: `mainline-server HOST:PORT...` (its bootstrap
//! nodes) says `ready PORT` and serves until its standard input is closed.

use std::io::Read;
use std::net::Ipv4Addr;

use mainline::Dht;

fn main() -> std::io::Result<()> {
    let bootstrap: Vec<String> = std::env::args().skip(1).collect();
    let dht = Dht::builder()
        .server_mode()
        .bind_address(Ipv4Addr::LOCALHOST)
        .port(0)
        .bootstrap(&bootstrap)
        .build()?;
    #[allow(deprecated)] // its successor needs an async runtime
    let info = dht.info();
    println!("ready {}", info.local_addr().port());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
