//! A member of a topic by the crate iroh-gossip alone.

use anyhow::Result;
use clap::Parser;
use futures_lite::StreamExt;
use interop_peers::endpoint::EndpointOptions;
use interop_peers::hex;
use interop_peers::member::{self, tell, Reporter};
use serde_json::json;

/// See `member` for its lines.
#[derive(Parser)]
struct Options {
    /// The topic id, 64 hex digits.
    topic: String,
    #[command(flatten)]
    endpoint: EndpointOptions,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let running = options.endpoint.run().await?;
    member::started(&running);
    let topic_id = hex::array::<32>(&options.topic)?.into();
    let topic = running
        .gossip
        .subscribe(topic_id, running.peers.clone())
        .await?;
    let (sender, mut receiver) = topic.split();
    let reporter = Reporter::default();
    let listening = reporter.clone();
    tokio::spawn(async move {
        while let Some(event) = receiver.next().await {
            match event {
                Ok(event) => listening.event(event),
                Err(error) => tell("error", json!({ "words": error.to_string() })),
            }
        }
    });
    member::serve(sender, reporter, running).await
}
