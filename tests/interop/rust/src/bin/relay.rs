//! A relay on 127.0.0.1 over plain HTTP, as iroh-relay's `--dev` is one: tells `ready` with its
//! `url`, and serves until its standard input is closed.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use interop_peers::member::tell;
use iroh_relay::server::{RelayConfig, Server, ServerConfig};
use serde_json::json;
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> Result<()> {
    let mut config = ServerConfig::default();
    config.relay = Some(RelayConfig::new((Ipv4Addr::LOCALHOST, 0)));
    let server = Server::spawn(config).await?;
    let address = server.http_addr().context("not bound")?;
    tell("ready", json!({ "url": format!("http://{address}/") }));
    tokio::io::stdin().read_to_end(&mut vec![]).await?;
    server.shutdown().await?;
    Ok(())
}
