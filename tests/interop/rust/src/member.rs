//! One topic: commands on standard input, events on standard output.
//!
//! Commands are lines; CONTENT and PREFIX are hex, `-` for empty:
//!
//! - `say CONTENT`, `neighbors CONTENT`: broadcast, to all or to direct neighbours;
//! - `bulk PREFIX COUNT SIZE RATE`: COUNT contents of SIZE bytes: the prefix, the number (4 bytes,
//!   big-endian), zeros; RATE a second, or as fast as they are taken (0);
//! - `quiet PREFIX`: from now on, count the contents with this prefix instead of telling them;
//! - `count PREFIX`: tell how many came, and how many different ones;
//! - `learn ID@HOST:PORT` or `learn ID@URL`: where a peer is, or which relay it uses;
//! - `join ID...`: ask peers to take us in.
//!
//! Events are JSON objects with `event` and `time` (unix seconds): `node.started` (`peer_id`, `listen`,
//! `relays`), `topic.joined`, `neighbor.up` and `neighbor.down` (`peer`), `message` (`content_hex`,
//! `delivered_from`, `scope`), `lagged` (`words`: the crate dropped some, we were too slow), `sent` and `count`
//! (answers), `error` (`words`).  The end of the input is the end of the member.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{bail, Result};
use iroh::EndpointId;
use iroh_gossip::api::{Event, Message};
use iroh_gossip::proto::DeliveryScope;
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::MissedTickBehavior;

use crate::endpoint::Running;
use crate::hex;

/// Print one event.
pub fn tell(name: &str, mut fields: Value) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    fields["event"] = name.into();
    fields["time"] = now.as_secs_f64().into();
    println!("{fields}");
}

/// A topic that can be written to.
pub trait Sender: Clone + Send + Sync + 'static {
    /// To all.
    fn broadcast(&self, content: Vec<u8>) -> impl Future<Output = Result<()>> + Send;
    /// To direct neighbours.
    fn broadcast_neighbors(&self, content: Vec<u8>) -> impl Future<Output = Result<()>> + Send;
    /// Ask peers to take us in.
    fn join(&self, peers: Vec<EndpointId>) -> impl Future<Output = Result<()>> + Send;
}

impl Sender for iroh_gossip::api::GossipSender {
    async fn broadcast(&self, content: Vec<u8>) -> Result<()> {
        Ok(self.broadcast(content.into()).await?)
    }
    async fn broadcast_neighbors(&self, content: Vec<u8>) -> Result<()> {
        Ok(self.broadcast_neighbors(content.into()).await?)
    }
    async fn join(&self, peers: Vec<EndpointId>) -> Result<()> {
        Ok(self.join_peers(peers).await?)
    }
}

impl Sender for distributed_topic_tracker::GossipSender {
    async fn broadcast(&self, content: Vec<u8>) -> Result<()> {
        self.broadcast(content).await
    }
    async fn broadcast_neighbors(&self, content: Vec<u8>) -> Result<()> {
        self.broadcast_neighbors(content).await
    }
    async fn join(&self, peers: Vec<EndpointId>) -> Result<()> {
        self.join_peers(peers, None).await
    }
}

#[derive(Default)]
struct Counted {
    count: usize,
    distinct: HashSet<Vec<u8>>,
}

/// Tells what happens in a topic.
#[derive(Clone, Default)]
pub struct Reporter {
    counted: Arc<Mutex<HashMap<Vec<u8>, Counted>>>,
    neighbors: Arc<Mutex<HashSet<EndpointId>>>,
}

impl Reporter {
    /// Something happened.
    pub fn event(&self, event: Event) {
        match event {
            Event::NeighborUp(peer) => {
                let mut neighbors = self.neighbors.lock().expect("poisoned");
                let joined = neighbors.is_empty();
                neighbors.insert(peer);
                tell(
                    "neighbor.up",
                    json!({ "peer": hex::encode(peer.as_bytes()) }),
                );
                if joined {
                    tell("topic.joined", json!({}));
                }
            }
            Event::NeighborDown(peer) => {
                self.neighbors.lock().expect("poisoned").remove(&peer);
                tell(
                    "neighbor.down",
                    json!({ "peer": hex::encode(peer.as_bytes()) }),
                );
            }
            Event::Received(message) => self.message(message),
            Event::Lagged => tell("error", json!({ "words": "iroh-gossip lagged" })),
        }
    }

    fn message(&self, message: Message) {
        let mut counted = self.counted.lock().expect("poisoned");
        for (prefix, counter) in counted.iter_mut() {
            if message.content.starts_with(prefix) {
                counter.count += 1;
                counter
                    .distinct
                    .insert(message.content[..message.content.len().min(prefix.len() + 4)].into());
                return;
            }
        }
        let scope = match message.scope {
            DeliveryScope::Swarm(_) => "swarm",
            DeliveryScope::Neighbors => "neighbors",
        };
        tell(
            "message",
            json!({
                "content_hex": hex::encode(&message.content),
                "delivered_from": hex::encode(message.delivered_from.as_bytes()),
                "scope": scope,
            }),
        );
    }
}

/// `bulk`'s contents.
pub fn numbered(prefix: &[u8], number: u32, size: usize) -> Vec<u8> {
    let mut content = [prefix, &number.to_be_bytes()].concat();
    content.resize(size.max(content.len()), 0);
    content
}

async fn bulk(
    sender: &impl Sender,
    prefix: &[u8],
    count: u32,
    size: usize,
    rate: f64,
) -> Result<()> {
    let begun = Instant::now();
    let mut pace = (rate > 0.0).then(|| tokio::time::interval(Duration::from_secs_f64(1.0 / rate)));
    if let Some(pace) = &mut pace {
        // What is late is not made up for: no bursts.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    for number in 0..count {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        sender.broadcast(numbered(prefix, number, size)).await?;
    }
    tell(
        "sent",
        json!({ "prefix": hex::encode(prefix), "seconds": begun.elapsed().as_secs_f64() }),
    );
    Ok(())
}

async fn obey(
    line: &str,
    sender: &impl Sender,
    reporter: &Reporter,
    running: &Running,
) -> Result<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["say", content] => sender.broadcast(hex::decode(content)?).await,
        ["neighbors", content] => sender.broadcast_neighbors(hex::decode(content)?).await,
        ["bulk", prefix, count, size, rate] => {
            let (prefix, sender) = (hex::decode(prefix)?, sender.clone());
            let (count, size, rate) = (count.parse()?, size.parse()?, rate.parse()?);
            tokio::spawn(async move {
                if let Err(error) = bulk(&sender, &prefix, count, size, rate).await {
                    tell("error", json!({ "words": error.to_string() }));
                }
            });
            Ok(())
        }
        ["quiet", prefix] => {
            reporter
                .counted
                .lock()
                .expect("poisoned")
                .insert(hex::decode(prefix)?, Counted::default());
            Ok(())
        }
        ["count", prefix] => {
            let counted = reporter.counted.lock().expect("poisoned");
            let (count, distinct) = counted
                .get(&hex::decode(prefix)?)
                .map_or((0, 0), |it| (it.count, it.distinct.len()));
            tell(
                "count",
                json!({ "prefix": prefix, "count": count, "distinct": distinct }),
            );
            Ok(())
        }
        ["learn", peer] => running.learn(peer).map(|_| ()),
        ["join", ref peers @ ..] => {
            let peers = peers
                .iter()
                .map(|peer| running.learn(peer))
                .collect::<Result<_>>()?;
            sender.join(peers).await
        }
        _ => bail!("unknown command: {line}"),
    }
}

/// Tell that it runs.
pub fn started(running: &Running) {
    let addr = running.endpoint.addr();
    tell(
        "node.started",
        json!({
            "peer_id": hex::encode(addr.id.as_bytes()),
            "listen": addr.ip_addrs().map(|place| format!("iroh:{place}")).collect::<Vec<_>>(),
            "relays": addr.relay_urls().map(ToString::to_string).collect::<Vec<_>>(),
        }),
    );
}

/// Obey the input until its end, then leave.
pub async fn serve(sender: impl Sender, reporter: Reporter, running: Running) -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if let Err(error) = obey(&line, &sender, &reporter, &running).await {
            tell("error", json!({ "words": error.to_string() }));
        }
    }
    running.router.shutdown().await?;
    Ok(())
}
