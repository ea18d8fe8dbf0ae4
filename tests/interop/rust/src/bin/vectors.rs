//! What the crates make of the inputs in `tests/vectors`: a JSON object with `slots`, `records`
//! (the gossip ones) and `pkarr`, each a list, comes in; the same lists go out, with every value
//! that the crates compute.  Of each record also `opened`: what each of its `encrypted` holds, and
//! `contents`: the peers and hashes that the crate reads there.

use anyhow::{anyhow, Context, Result};
use distributed_topic_tracker::{
    encryption_keypair, salt, signing_keypair, Config, EncryptedRecord, GossipRecordContent,
    Record, RecordPublisher, RotationHandle, TopicId,
};
use interop_peers::hex;
use iroh::endpoint_info::{EndpointData, EndpointInfo, UserData};
use iroh::{SecretKey, TransportAddr};
use iroh_dns::pkarr::SignedPacket;
use mainline::{MutableItem, SigningKey};
use serde_json::{json, Value};

/// Of the TXT records, as iroh's lookups have it.
const TTL: u32 = 30;

fn text<'a>(case: &'a Value, name: &str) -> Result<&'a str> {
    case[name]
        .as_str()
        .with_context(|| format!("no text: {name}"))
}

fn bytes<const N: usize>(case: &Value, name: &str) -> Result<[u8; N]> {
    hex::array(text(case, name)?)
}

fn list<'a>(case: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    case[name]
        .as_array()
        .with_context(|| format!("no list: {name}"))
}

/// A minute is a number, or a string where it is too large for one.
fn minute(case: &Value) -> Result<u64> {
    let value = &case["unix_minute"];
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .context("no unix_minute")
}

fn secret_hash(topic: &TopicId, secret: Vec<u8>) -> [u8; 32] {
    let anybody = SigningKey::from_bytes(&[0; 32]);
    RecordPublisher::new(topic.clone(), anybody, None, secret, Config::default())
        .initial_secret_hash()
}

fn slot(case: &Value) -> Result<Value> {
    let topic = TopicId::new(hex::decode(text(case, "topic_name")?)?);
    let minute = minute(case)?;
    let hash = secret_hash(&topic, hex::decode(text(case, "initial_secret")?)?);
    let rotation = RotationHandle::default();
    let signing = signing_keypair(&topic, minute);
    let salt = salt(&topic, minute);
    let encryption = encryption_keypair(&topic, &rotation, hash, minute);
    let target = MutableItem::target_from_key(signing.verifying_key().as_bytes(), Some(&salt));
    Ok(json!({
        "topic_id": hex::encode(&topic.hash()),
        "initial_secret_hash": hex::encode(&hash),
        "rotated_secret": hex::encode(&rotation.derive(topic.hash(), minute, hash)),
        "encryption_public_key": hex::encode(encryption.verifying_key().as_bytes()),
        "signing_seed": hex::encode(signing.as_bytes()),
        "signing_public_key": hex::encode(signing.verifying_key().as_bytes()),
        "salt": hex::encode(&salt),
        "target": hex::encode(target.as_bytes()),
    }))
}

fn ids(case: &Value, name: &str) -> Result<[[u8; 32]; 5]> {
    let ids: Result<Vec<_>> = list(case, name)?
        .iter()
        .map(|id| hex::array(id.as_str().unwrap_or_default()))
        .collect();
    ids?.try_into().map_err(|_| anyhow!("not 5: {name}"))
}

fn record(case: &Value) -> Result<Value> {
    let topic = TopicId::from_hash(&bytes(case, "topic_id")?);
    let minute = minute(case)?;
    let hash = secret_hash(&topic, hex::decode(text(case, "initial_secret")?)?);
    let publisher = SigningKey::from_bytes(&bytes(case, "publisher_seed")?);
    let content = GossipRecordContent {
        active_peers: ids(case, "active_peers")?,
        last_message_hashes: ids(case, "last_message_hashes")?,
    };
    let record = Record::sign(topic.hash(), minute, content, &publisher)?;
    let key = encryption_keypair(&topic, &RotationHandle::default(), hash, minute);
    let (mut opened, mut contents) = (vec![], vec![]);
    for encrypted in list(case, "encrypted")? {
        let encrypted = hex::decode(encrypted.as_str().unwrap_or_default())?;
        let other = EncryptedRecord::from_bytes(encrypted)?.decrypt(&key)?;
        other.verify(&topic.hash(), minute)?;
        let content: GossipRecordContent = other.content()?;
        opened.push(hex::encode(&other.to_bytes()));
        contents.push(json!({
            "active_peers": content.active_peers.map(|id| hex::encode(&id)),
            "last_message_hashes": content.last_message_hashes.map(|id| hex::encode(&id)),
        }));
    }
    Ok(json!({
        "publisher": hex::encode(&record.pub_key()),
        "record": hex::encode(&record.to_bytes()),
        "signature": hex::encode(&record.signature()),
        "opened": opened,
        "contents": contents,
    }))
}

/// `signed_packet` is verified; all else is made of the other inputs, but for what the crate stamps
/// with the time.
fn packet(case: &Value) -> Result<Value> {
    let key = SecretKey::from_bytes(&bytes(case, "seed")?);
    let mut addrs = vec![];
    if let Some(url) = case["relay"].as_str() {
        addrs.push(TransportAddr::Relay(url.parse()?));
    }
    for addr in list(case, "addrs")? {
        addrs.push(TransportAddr::Ip(
            addr.as_str().unwrap_or_default().parse()?,
        ));
    }
    let mut data = EndpointData::new(addrs);
    if let Some(words) = case["user_data"].as_str() {
        data.set_user_data(Some(UserData::try_from(words.to_owned())?));
    }
    let info = EndpointInfo::from_parts(key.public(), data);
    let made = info.to_pkarr_signed_packet(&key, TTL)?;
    let given = SignedPacket::from_bytes(&hex::decode(text(case, "signed_packet")?)?)?;
    let read = EndpointInfo::from_pkarr_signed_packet(&given)?;
    Ok(json!({
        "public_key": hex::encode(key.public().as_bytes()),
        "z32": key.public().to_z32(),
        "txt": read.to_txt_strings(),
        "dns": hex::encode(made.encoded_packet()),
        "signature": hex::encode(&given.signature().to_bytes()),
        "relay_payload": hex::encode(&given.to_relay_payload()),
        "timestamp_us": given.timestamp().as_micros(),
    }))
}

fn each(all: &Value, name: &str, make: fn(&Value) -> Result<Value>) -> Result<Value> {
    let make = |(number, case)| make(case).with_context(|| format!("{name}[{number}]"));
    list(all, name)?.iter().enumerate().map(make).collect()
}

#[tokio::main]
async fn main() -> Result<()> {
    let all: Value = serde_json::from_reader(std::io::stdin())?;
    let made = json!({
        "slots": each(&all, "slots", slot)?,
        "records": each(&all, "records", record)?,
        "pkarr": each(&all, "pkarr", packet)?,
    });
    println!("{made}");
    Ok(())
}
