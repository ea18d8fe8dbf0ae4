//! A member of a topic by the crate distributed-topic-tracker, unchanged.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use distributed_topic_tracker::{
    AutoDiscoveryGossip, BubbleMergeConfig, Config, MergeConfig, MessageOverlapMergeConfig,
    PublisherConfig, RecordPublisher, RotationHandle, SecretRotation, TopicId,
};
use interop_peers::endpoint::EndpointOptions;
use interop_peers::member::{self, tell, Reporter};
use mainline::SigningKey;
use serde_json::json;
use sha2::{Digest, Sha512};

/// See `member` for its lines.
#[derive(Parser)]
struct Options {
    /// The name of the topic.
    topic: String,
    /// File with the secret, all bytes of it; empty without.
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// How the key of the records comes about.
    #[arg(long, default_value = "default", value_parser = ["default", "reversed"])]
    rotation: String,
    /// INITIAL,BASE,JITTER in seconds; the crate's own otherwise.
    #[arg(long, value_delimiter = ',')]
    publisher: Vec<f64>,
    /// The same of bubble merge; `0`: without.
    #[arg(long, value_delimiter = ',')]
    bubble_merge: Vec<f64>,
    /// The same of message overlap merge.
    #[arg(long, value_delimiter = ',')]
    overlap_merge: Vec<f64>,
    #[command(flatten)]
    endpoint: EndpointOptions,
}

/// A rotation of one's own: the default one's hash, its parts in the reverse order.
struct Reversed;

impl SecretRotation for Reversed {
    fn derive(&self, topic: [u8; 32], unix_minute: u64, secret_hash: [u8; 32]) -> [u8; 32] {
        let hash = Sha512::new()
            .chain_update(secret_hash)
            .chain_update(unix_minute.to_be_bytes())
            .chain_update(topic)
            .finalize();
        hash[..32].try_into().expect("64 bytes")
    }
}

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value)
}

impl Options {
    fn config(&self) -> Config {
        let mut config = Config::builder();
        if let [initial, base, jitter] = self.publisher[..] {
            let publisher = PublisherConfig::builder()
                .initial_delay(seconds(initial))
                .base_interval(seconds(base))
                .max_jitter(seconds(jitter));
            config = config.publisher_config(publisher.build());
        }
        let mut merge = MergeConfig::builder();
        match self.bubble_merge[..] {
            [initial, base, jitter] => {
                let bubble = BubbleMergeConfig::builder()
                    .initial_interval(seconds(initial))
                    .base_interval(seconds(base))
                    .max_jitter(seconds(jitter));
                merge = merge.bubble_merge(bubble.build());
            }
            [_] => merge = merge.bubble_merge(BubbleMergeConfig::Disabled),
            _ => (),
        }
        match self.overlap_merge[..] {
            [initial, base, jitter] => {
                let overlap = MessageOverlapMergeConfig::builder()
                    .initial_interval(seconds(initial))
                    .base_interval(seconds(base))
                    .max_jitter(seconds(jitter));
                merge = merge.message_overlap_merge(overlap.build());
            }
            [_] => merge = merge.message_overlap_merge(MessageOverlapMergeConfig::Disabled),
            _ => (),
        }
        config.merge_config(merge.build()).build()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let secret = options
        .secret_file
        .as_ref()
        .map_or(Ok(vec![]), std::fs::read)?;
    let running = options.endpoint.run().await?;
    member::started(&running);
    let rotation = (options.rotation == "reversed").then(|| RotationHandle::new(Reversed));
    let publisher = RecordPublisher::new(
        TopicId::new(options.topic.clone()),
        SigningKey::from_bytes(&running.key.to_bytes()),
        rotation,
        secret,
        options.config(),
    );
    let topic = running
        .gossip
        .subscribe_and_join_with_auto_discovery_no_wait(publisher)
        .await?;
    let (sender, mut receiver) = topic.split().await?;
    let reporter = Reporter::default();
    let listening = reporter.clone();
    tokio::spawn(async move {
        loop {
            match receiver.next().await {
                Ok(event) => listening.event(event),
                // The error's type has no public name.
                Err(error) if error.to_string().contains("lagged") => {
                    tell("lagged", json!({ "words": error.to_string() }));
                }
                // The topic is left.
                Err(_) => return,
            }
        }
    });
    member::serve(sender, reporter, running).await
}
