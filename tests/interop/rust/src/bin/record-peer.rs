//! A program that uses the crate's records alone, with a content type of its own: a pair of a name
//! and a port, in the crate's encoding.
//!
//! Every few seconds it reads the slots of the current minute and the last one, and then, once a
//! minute, publishes its content in the current one, as the crate's own loop does.  (In the other
//! order it would replace the records of others on the mainline nodes that it is about to read.)
//! Events are JSON objects: `node.started` (`peer_id`), `found` (`publisher`, `minute`, `name`,
//! `port`) once for each publisher, minute and content, `error` (`words`).  The end of the input is
//! its end.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Parser;
use distributed_topic_tracker::{Config, RecordPublisher, TopicId};
use interop_peers::hex;
use interop_peers::member::tell;
use mainline::SigningKey;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_util::sync::CancellationToken;

/// See above.
#[derive(Parser)]
struct Options {
    /// The name of the topic.
    topic: String,
    /// File with the secret, all bytes of it.
    #[arg(long)]
    secret_file: PathBuf,
    /// The name to publish.
    #[arg(long)]
    name: String,
    /// The port to publish.
    #[arg(long)]
    port: u16,
    /// Seconds between two rounds.
    #[arg(long, default_value_t = 3.0)]
    interval: f64,
}

type Content = (String, u16);

fn unix_minute() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs() / 60
}

async fn round(
    publisher: &RecordPublisher,
    content: &Content,
    told: &mut HashSet<(Vec<u8>, u64, Content)>,
    published: &mut u64,
) -> Result<()> {
    let current = unix_minute();
    let mut held = HashSet::new();
    for minute in [current - 1, current] {
        let found = publisher
            .get_records(minute, CancellationToken::new())
            .await?;
        for record in &found {
            let content: Content = record.content()?;
            let key = (
                record.pub_key().to_vec(),
                record.unix_minute(),
                content.clone(),
            );
            if told.insert(key) {
                tell(
                    "found",
                    json!({
                        "publisher": hex::encode(&record.pub_key()),
                        "minute": record.unix_minute(),
                        "name": content.0,
                        "port": content.1,
                    }),
                );
            }
        }
        held = found;
    }
    if *published == current {
        return Ok(());
    }
    *published = current;
    let record = publisher.new_record(current, content.clone())?;
    publisher
        .publish_record_cached_records(record, Some(held), CancellationToken::new())
        .await
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let secret = std::fs::read(&options.secret_file)?;
    let key = SigningKey::from_bytes(&iroh::SecretKey::generate().to_bytes());
    tell(
        "node.started",
        json!({ "peer_id": hex::encode(key.verifying_key().as_bytes()) }),
    );
    let topic = TopicId::new(options.topic.clone());
    let publisher = RecordPublisher::new(topic, key, None, secret, Config::default());
    let content = (options.name.clone(), options.port);
    let interval = Duration::from_secs_f64(options.interval);
    tokio::spawn(async move {
        let mut told = HashSet::new();
        let mut published = 0;
        loop {
            if let Err(error) = round(&publisher, &content, &mut told, &mut published).await {
                tell("error", json!({ "words": error.to_string() }));
            }
            tokio::time::sleep(interval).await;
        }
    });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {}
    Ok(())
}
