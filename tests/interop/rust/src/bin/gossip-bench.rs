//! Three iroh-gossip members in one process, on loopback: how many contents a second reach both
//! others, when one broadcasts as fast as it can.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use futures_lite::StreamExt;
use interop_peers::endpoint::{EndpointOptions, Running};
use interop_peers::member::numbered;
use iroh_gossip::api::{Event, GossipReceiver, GossipTopic};
use iroh_gossip::proto::TopicId;
use serde_json::json;
use tokio::time::timeout;

/// So long nothing arrives any more.
const SILENCE: Duration = Duration::from_secs(1);

/// How long the members may take to meet.
const MEET_WITHIN: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Options {
    /// Bytes of a content.
    size: usize,
    /// How many.
    #[arg(long, default_value_t = 20_000)]
    count: u32,
}

/// No options.
#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    endpoint: EndpointOptions,
}

struct Arrived {
    count: u32,
    last: Instant,
}

async fn listen(mut receiver: GossipReceiver, wanted: u32) -> Arrived {
    let mut arrived = Arrived {
        count: 0,
        last: Instant::now(),
    };
    while arrived.count < wanted {
        match timeout(SILENCE, receiver.next()).await {
            Ok(Some(Ok(Event::Received(_)))) => {
                arrived = Arrived {
                    count: arrived.count + 1,
                    last: Instant::now(),
                };
            }
            Ok(Some(Ok(_))) => (),
            _ => break,
        }
    }
    arrived
}

async fn meet(topic: &mut GossipTopic) -> Result<()> {
    while topic.neighbors().count() < 2 {
        timeout(MEET_WITHIN, topic.next())
            .await?
            .context("ended")??;
    }
    Ok(())
}

async fn member(topic_id: TopicId, others: &[&Running]) -> Result<(Running, GossipTopic)> {
    let running = Defaults::parse_from(["member"]).endpoint.run().await?;
    let mut ids = vec![];
    for other in others {
        let addr = other.endpoint.addr();
        let place = addr.ip_addrs().next().context("no address")?;
        ids.push(running.learn(&format!("{}@{place}", addr.id))?);
    }
    let topic = running.gossip.subscribe(topic_id, ids).await?;
    Ok((running, topic))
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let topic_id = TopicId::from_bytes([7; 32]);
    let (a, mut topic_a) = member(topic_id, &[]).await?;
    let (b, mut topic_b) = member(topic_id, &[&a]).await?;
    let (c, mut topic_c) = member(topic_id, &[&a, &b]).await?;
    for topic in [&mut topic_a, &mut topic_b, &mut topic_c] {
        meet(topic).await?;
    }
    let (sender, _receiver) = topic_a.split();
    let (_sender_b, receiver_b) = topic_b.split();
    let (_sender_c, receiver_c) = topic_c.split();
    let listeners = [receiver_b, receiver_c].map(|it| tokio::spawn(listen(it, options.count)));
    let begun = Instant::now();
    for number in 0..options.count {
        sender
            .broadcast(numbered(&[], number, options.size).into())
            .await?;
    }
    let mut rates = vec![];
    let mut lost = 0;
    for listener in listeners {
        let arrived = listener.await?;
        lost += options.count - arrived.count;
        rates.push(f64::from(arrived.count) / (arrived.last - begun).as_secs_f64());
    }
    let rate = rates.into_iter().fold(f64::INFINITY, f64::min);
    for running in [a, b, c] {
        running.router.shutdown().await?;
    }
    println!(
        "{}",
        json!({ "size": options.size, "messages_per_second": rate.round(), "lost": lost })
    );
    Ok(())
}
