//! Nodes of the crate mainline on 127.0.0.1: `dht-nodes PORT...` (0: any) says `ready PORT...` and
//! serves until its standard input is closed.

use std::io::Read;
use std::net::Ipv4Addr;

use mainline::Dht;

#[allow(deprecated)] // its successor needs an async runtime
fn main() -> anyhow::Result<()> {
    let mut nodes = vec![];
    let mut addresses: Vec<String> = vec![];
    for port in std::env::args().skip(1) {
        let node = Dht::builder()
            .server_mode()
            .bind_address(Ipv4Addr::LOCALHOST)
            .port(port.parse()?)
            .bootstrap(&addresses)
            .build()?;
        addresses.push(node.info().local_addr().to_string());
        nodes.push(node);
    }
    for node in &nodes[1..] {
        node.bootstrapped();
    }
    let ports = nodes
        .iter()
        .map(|node| node.info().local_addr().port().to_string());
    println!("ready {}", ports.collect::<Vec<_>>().join(" "));
    std::io::stdin().read_to_end(&mut vec![])?;
    Ok(())
}
