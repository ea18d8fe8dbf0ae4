//! An endpoint, on loopback as a rule, with iroh-gossip on it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{anyhow, Context, Result};
use iroh::address_lookup::memory::MemoryLookup;
use iroh::address_lookup::AddrFilter;
use iroh::endpoint::{presets, Builder};
use iroh::protocol::Router;
use iroh::tls::CaTlsConfig;
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, RelayUrl, SecretKey};
use iroh_gossip::net::Gossip;
use iroh_gossip::proto::HyparviewConfig;
use iroh_mainline_address_lookup::DhtAddressLookup;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use tracing_subscriber::EnvFilter;

use crate::hex;

/// How long a relay may take to let us in.
const ONLINE_WITHIN: Duration = Duration::from_secs(10);

/// What all peers can be told.
#[derive(clap::Args)]
pub struct EndpointOptions {
    /// File with the seed of the key, 64 hex digits; made when it is not there.
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// Publish and resolve addresses as pkarr packets in the DHT.
    #[arg(long)]
    pkarr: bool,
    /// ID@HOST:PORT or ID@URL of a relay: where a peer is; may be repeated.
    #[arg(long)]
    peer: Vec<String>,
    /// URL of the relay to use; none otherwise.
    #[arg(long)]
    relay: Option<RelayUrl>,
    /// Use iroh's own defaults: n0's relays, DNS and pkarr servers, on all addresses of this host.
    #[arg(long, conflicts_with = "relay")]
    n0: bool,
    /// File with the only certificate (PEM) that is trusted to sign those of n0's servers.
    #[arg(long, requires = "n0")]
    trust: Option<PathBuf>,
    /// HOST:PORT that it listens on.
    #[arg(long, default_value = "127.0.0.1:0", conflicts_with = "n0")]
    bind: SocketAddr,
    /// Seconds between two Shuffles.
    #[arg(long)]
    shuffle_interval: Option<f64>,
}

/// An endpoint that runs.
pub struct Running {
    pub key: SecretKey,
    pub endpoint: Endpoint,
    pub gossip: Gossip,
    pub router: Router,
    /// The peers of `--peer`.
    pub peers: Vec<EndpointId>,
    known: MemoryLookup,
}

/// `ID`, or `ID@` and an address.
fn parse_peer(text: &str) -> Result<EndpointAddr> {
    let (id, place) = text.split_once('@').unwrap_or((text, ""));
    let addr = EndpointAddr::new(EndpointId::from_bytes(&hex::array(id)?)?);
    if place.is_empty() {
        return Ok(addr);
    }
    if let Ok(socket) = SocketAddr::from_str(place) {
        return Ok(addr.with_ip_addr(socket));
    }
    Ok(addr
        .with_relay_url(RelayUrl::from_str(place).with_context(|| format!("no address: {place}"))?))
}

fn load_key(file: Option<&PathBuf>) -> Result<SecretKey> {
    let Some(file) = file else {
        return Ok(SecretKey::generate());
    };
    if !file.exists() {
        std::fs::write(file, hex::encode(&SecretKey::generate().to_bytes()))?;
    }
    let seed = std::fs::read_to_string(file)?;
    Ok(SecretKey::from_bytes(
        &hex::array(seed.trim()).map_err(|_| anyhow!("{}: no key", file.display()))?,
    ))
}

impl EndpointOptions {
    fn builder(&self) -> Result<Builder> {
        if self.n0 {
            let builder = Endpoint::builder(presets::N0);
            let Some(file) = &self.trust else {
                return Ok(builder);
            };
            let root = CertificateDer::from_pem_file(file)?;
            return Ok(builder.ca_tls_config(CaTlsConfig::custom_roots([root])));
        }
        let relay_mode = self
            .relay
            .clone()
            .map_or(RelayMode::Disabled, |url| RelayMode::custom([url]));
        Ok(Endpoint::builder(presets::Minimal)
            .relay_mode(relay_mode)
            .clear_ip_transports()
            .bind_addr(self.bind)?)
    }

    /// Bind it; log to standard error what `RUST_LOG` says.
    pub async fn run(&self) -> Result<Running> {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into()))
            .with_writer(std::io::stderr)
            .try_init()
            .ok();
        let key = load_key(self.key_file.as_ref())?;
        let known = MemoryLookup::new();
        let mut builder = self
            .builder()?
            .secret_key(key.clone())
            .address_lookup(known.clone());
        if self.pkarr {
            builder = builder
                .address_lookup(DhtAddressLookup::builder().addr_filter(AddrFilter::unfiltered()));
        }
        let endpoint = builder.bind().await?;
        if self.relay.is_some() {
            tokio::time::timeout(ONLINE_WITHIN, endpoint.online())
                .await
                .context("no relay")?;
        }
        let mut membership = HyparviewConfig::default();
        if let Some(seconds) = self.shuffle_interval {
            membership.shuffle_interval = Duration::from_secs_f64(seconds);
        }
        let gossip = Gossip::builder()
            .membership_config(membership)
            .spawn(endpoint.clone());
        let router = Router::builder(endpoint.clone())
            .accept(iroh_gossip::ALPN, gossip.clone())
            .spawn();
        let mut running = Running {
            key,
            endpoint,
            gossip,
            router,
            peers: vec![],
            known,
        };
        for peer in &self.peer {
            let id = running.learn(peer)?;
            running.peers.push(id);
        }
        Ok(running)
    }
}

impl Running {
    /// Where a peer is: `ID@...`, as `--peer`.
    pub fn learn(&self, text: &str) -> Result<EndpointId> {
        let addr = parse_peer(text)?;
        let id = addr.id;
        if !addr.is_empty() {
            self.known.add_endpoint_info(addr);
        }
        Ok(id)
    }
}
