//! What n0 runs for its preset, by n0's own crates: the server of `dns.iroh.link` (DNS, and pkarr over
//! HTTPS) and a relay (HTTP, HTTPS, QUIC address discovery), on the ports that they have there.
//!
//! Tells `ready`, then `relay.connected` (`peer`) for each endpoint that the relay lets in, and serves
//! until its standard input is closed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{anyhow, Context, Result};
use clap::Parser;
use interop_peers::hex;
use interop_peers::member::tell;
use iroh_dns_server::config::{CertMode, Config, MetricsConfig};
use iroh_relay::defaults::{DEFAULT_HTTPS_PORT, DEFAULT_HTTP_PORT, DEFAULT_RELAY_QUIC_PORT};
use iroh_relay::server::{
    Access, AccessControl, CertConfig, ClientRequest, QuicConfig, RelayConfig, ServerConfig,
    TlsConfig,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::AsyncReadExt;

/// The origin of n0's names, and the host of its pkarr relay.
const ORIGIN: &str = "dns.iroh.link";

#[derive(Parser)]
struct Options {
    /// Where DNS and pkarr are served.
    dns: IpAddr,
    /// Where the relay is.
    relay: IpAddr,
    /// For data; `cert_cache/dns.iroh.link.crt` and `.key` there are the certificate of both.
    folder: PathBuf,
}

/// Lets everybody in, and tells it.
#[derive(Debug)]
struct Told;

impl AccessControl for Told {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        let peer = hex::encode(request.endpoint_id().as_bytes());
        tell("relay.connected", json!({ "peer": peer }));
        Access::Allow
    }
}

impl Options {
    async fn serve_names(&self) -> Result<iroh_dns_server::Server> {
        let mut config = Config::default();
        config.data_dir = Some(self.folder.clone());
        config.metrics = Some(MetricsConfig::disabled());
        config.http = None;
        let https = config.https.as_mut().context("no default")?;
        https.bind_addr = Some(self.dns);
        https.port = DEFAULT_HTTPS_PORT;
        https.domains = vec![ORIGIN.into()];
        https.cert_mode = CertMode::Manual;
        config.dns.bind_addr = Some(self.dns);
        config.dns.port = 53;
        config.dns.origins = vec![format!("{ORIGIN}."), ".".into()];
        config.dns.default_soa = format!("{ORIGIN} hostmaster.{ORIGIN} 0 10800 3600 604800 3600");
        config.dns.rr_ns = None;
        config.dns.rr_a = match self.dns {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        };
        iroh_dns_server::Server::bind(config)
            .await
            .map_err(|error| anyhow!("{error:#}"))
    }

    async fn serve_relay(&self) -> Result<iroh_relay::server::Server> {
        let folder = self.folder.join("cert_cache");
        let chain = CertificateDer::pem_file_iter(folder.join(format!("{ORIGIN}.crt")))?;
        let key = PrivateKeyDer::from_pem_file(folder.join(format!("{ORIGIN}.key")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server_config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain.collect::<Result<_, _>>()?, key)?;
        let mut relay = RelayConfig::new((self.relay, DEFAULT_HTTP_PORT));
        relay.tls = Some(TlsConfig::new(
            (self.relay, DEFAULT_HTTPS_PORT),
            CertConfig::Manual { server_config },
        ));
        relay.access = Arc::new(Told);
        let mut config = ServerConfig::default();
        config.relay = Some(relay);
        config.quic = Some(QuicConfig::new((self.relay, DEFAULT_RELAY_QUIC_PORT)));
        Ok(iroh_relay::server::Server::spawn(config).await?)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let _names = options.serve_names().await?;
    let _relay = options.serve_relay().await?;
    tell("ready", json!({}));
    tokio::io::stdin().read_to_end(&mut vec![]).await?;
    Ok(())
}
