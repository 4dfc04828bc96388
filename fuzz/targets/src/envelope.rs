//! Reading an envelope, untyped and typed, against serde_json.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use tars_contracts::{Data, Envelope, EnvelopeHead, MAX_DEPTH};

/// Data of the kinds that events have.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Event {
    text: String,
    #[serde(default)]
    count: Option<u32>,
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    inside: Option<Box<Event>>,
}

/// - What our reader takes for an envelope, serde_json takes for one, and the other way
///   round, up to the depth that is allowed.
/// - Both read the same, and what is written again reads the same.
/// - A type that fits reads what the untyped data holds.
pub fn run(payload: &[u8]) {
    let head = EnvelopeHead::peek(payload);
    let read = Envelope::<Data>::from_bytes(payload);
    let typed = Envelope::<Event>::from_bytes(payload);
    let expected = oracle(payload);
    assert_eq!(read.is_ok(), expected.is_some(), "{read:?} instead of {expected:?}");
    let (Ok(read), Some(expected)) = (read, expected) else {
        assert!(typed.is_err(), "{typed:?} is no envelope");
        return;
    };
    assert!(
        same(&Value::Object(read.data.clone()), &expected["data"]),
        "{read:?} instead of {expected:?}"
    );
    assert_eq!(read.event_type, expected["type"]);
    let head = head.expect("an envelope has a head");
    assert_eq!(head.event_type.as_ref(), Some(&read.event_type));
    if let Some(id) = head.id {
        assert_eq!(id, read.id);
    }

    let again = read.to_bytes().expect("what was read can be written");
    let again = Envelope::<Data>::from_bytes(&again).expect("what was written can be read");
    assert!(same(&Value::Object(again.data), &Value::Object(read.data.clone())));
    assert_eq!(
        (&again.id, &again.event_type, &again.source),
        (&read.id, &read.event_type, &read.source)
    );

    if let Ok(typed) = typed {
        let expected: Event = serde_json::from_value(Value::Object(read.data)).expect("it fits");
        assert_eq!(typed.data, expected);
    }
}

/// What serde_json says of it, with our rules about its fields.
fn oracle(payload: &[u8]) -> Option<Map<String, Value>> {
    if depth(payload) > MAX_DEPTH {
        return None;
    }
    let mut json = serde_json::Deserializer::from_slice(payload);
    json.disable_recursion_limit();
    let Entries(entries) = Entries::deserialize(&mut json).ok()?;
    json.end().ok()?;
    // Of a field that is there twice the last one counts, and each must be of the right kind.
    let sound = entries.iter().all(|(name, value)| match name.as_str() {
        "id" | "type" | "source" | "correlate" => value.is_null() || value.is_string(),
        "ts" | "timestamp" => value.is_null() || value.is_number(),
        "data" => value.is_object(),
        _ => true,
    });
    let fields = Map::from_iter(entries);
    let has_type = fields
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|name| !name.is_empty());
    (sound && has_type && fields.contains_key("data")).then_some(fields)
}

/// An object's, in order.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Reading)
    }
}

/// How deep brackets are nested, outside of strings.
fn depth(payload: &[u8]) -> usize {
    let (mut open, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Equal, but for the last digit of floats: two readers may round apart. And `-0` is the integer
/// 0 to our reader, as it is to Python's, and a float to serde_json.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|((a, one), (b, other))| a == b && same(one, other))
        }
        (Value::Number(one), Value::Number(other)) if one.as_f64() == Some(0.0) => other.as_f64() == Some(0.0),
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (one, other) = (one.as_f64().unwrap_or_default(), other.as_f64().unwrap_or_default());
            (one - other).abs() <= one.abs() * 1e-14 || one == other || (one - other).abs() < 1e-300
        }
        (one, other) => one == other,
    }
}
