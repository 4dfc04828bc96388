//! The keys of deduplication: what is the same has the same key, however it is spelt, and
//! what is not has another.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::value::RawValue;
use tars_contracts::{Data, Envelope, EnvelopeHead};

#[path = "../../../crates/tars-mqtt/src/dispatch/dedupe/digest.rs"]
#[allow(dead_code)]
mod digest;
#[path = "../../../crates/tars-mqtt/src/dispatch/dedupe/key.rs"]
#[allow(dead_code)]
mod key;

use key::Key;

/// No UTF-8, so no JSON, has it.
const BETWEEN: u8 = 0xff;

/// Two payloads.
pub fn run(bytes: &[u8]) {
    let (one, other) = match bytes.iter().position(|byte| *byte == BETWEEN) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &b""[..]),
    };
    let (Some(first), Some(second)) = (checked(one), checked(other)) else {
        return;
    };
    assert_eq!(first.0 == second.0, first.1 == second.1, "{first:?} {second:?}");
}

/// The key, and what it stands for; `None` for what has none.
fn checked(payload: &[u8]) -> Option<(Key, String)> {
    let key = Key::of(payload);
    let id = EnvelopeHead::peek(payload).and_then(|head| head.id);
    let is_known = Envelope::<Data>::from_bytes(payload).is_ok() && id.is_some_and(|id| !id.is_empty());
    assert_eq!(
        key.is_some(),
        is_known,
        "its reader and its key disagree about an envelope"
    );
    let key = key?;
    let node = Node::read(std::str::from_utf8(payload).expect("an envelope is UTF-8"));
    let mut random = Rng::with_seed(payload.len() as u64);
    for _ in 0..2 {
        let mut text = String::new();
        node.spell(&mut random, &mut text);
        assert_eq!(Key::of(text.as_bytes()), Some(key), "{text}");
    }
    Some((key, node.identity()))
}

/// JSON, its scalars as they are written.
#[derive(Debug)]
enum Node {
    Scalar(String),
    Array(Vec<Node>),
    /// Of a key that is there twice the last entry counts.
    Object(BTreeMap<String, Node>),
}

impl Node {
    fn read(text: &str) -> Self {
        let text = text.trim_matches([' ', '\n', '\r', '\t']);
        if text.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(text).expect("it was read before");
            Self::Array(items.into_iter().map(|item| Self::read(item.get())).collect())
        } else if text.starts_with('{') {
            let entries: BTreeMap<String, &RawValue> = serde_json::from_str(text).expect("it was read before");
            let entries = entries.into_iter().map(|(name, value)| (name, Self::read(value.get())));
            Self::Object(entries.collect())
        } else {
            Self::Scalar(text.to_owned())
        }
    }

    /// In another order, with other spaces.
    fn spell(&self, random: &mut Rng, out: &mut String) {
        out.push_str(["", " ", "\n"][random.usize(..3)]);
        match self {
            Self::Scalar(text) => out.push_str(text),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    item.spell(random, out);
                }
                out.push(']');
            }
            Self::Object(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                random.shuffle(&mut entries);
                out.push('{');
                for (at, (name, value)) in entries.into_iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    out.push_str(&serde_json::Value::from(name.as_str()).to_string());
                    out.push(':');
                    value.spell(random, out);
                }
                out.push('}');
            }
        }
    }

    /// `type`, `id`, and `data.seq` or else all of `data`.
    fn identity(&self) -> String {
        let Self::Object(fields) = self else {
            return String::new();
        };
        let field = |name: &str| fields.get(name).map(Self::canonical).unwrap_or_default();
        let seq = match fields.get("data") {
            Some(Self::Object(data)) => match data.get("seq") {
                Some(Self::Scalar(text)) => Some(text.as_str()),
                _ => None,
            },
            _ => None,
        };
        let seq = seq.filter(|seq| {
            let digits = seq.strip_prefix('-').unwrap_or(seq);
            matches!(*seq, "true" | "false") || digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        match seq {
            Some(seq) => format!(
                "{}|{}|seq={}",
                field("type"),
                field("id"),
                if seq == "-0" { "0" } else { seq }
            ),
            None => format!("{}|{}|{}", field("type"), field("id"), field("data")),
        }
    }

    fn canonical(&self) -> String {
        match self {
            // An integer to our reader.
            Self::Scalar(text) if text == "-0" => "0".to_owned(),
            Self::Scalar(text) => match serde_json::from_str(text) {
                Ok(serde_json::Value::Number(number)) if number.is_f64() => {
                    format!("f{}", number.as_f64().unwrap_or_default().to_bits())
                }
                Ok(value) => value.to_string(),
                Err(error) => panic!("{text} was read before: {error}"),
            },
            Self::Array(items) => {
                let items: Vec<String> = items.iter().map(Self::canonical).collect();
                format!("[{}]", items.join(","))
            }
            Self::Object(entries) => {
                let entry = |(name, value): (&String, &Self)| format!("{name:?}:{}", value.canonical());
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
            }
        }
    }
}
