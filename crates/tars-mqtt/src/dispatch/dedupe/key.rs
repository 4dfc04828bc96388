//! What makes two messages the same: `{type}|{id}|seq={n}` where `data.seq` is an
//! integer (or a boolean), else `{type}|{id}|hash={digest of data}`.
//!
//! The payload is read once and nothing is built from it: `data` goes into a
//! [`Digest`] as it comes.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::digest::{Digest, hash_128};

/// Equal for messages that are the same, as long as the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u64; 2]);

impl Key {
    /// The key of an envelope; `None` for what is none, or has no id to be known by.
    ///
    /// What is an envelope is decided as `Envelope::from_bytes` does, `data` of any
    /// type: unknown fields are ignored, and of a field that is there twice the last
    /// one counts.
    pub(crate) fn of(payload: &[u8]) -> Option<Self> {
        // Its feature `float_roundtrip` makes it read the largest floats, as our reader does.
        let mut json = serde_json::Deserializer::from_slice(payload);
        // Its own limit ends one level above the reader's; `Value` counts instead.
        json.disable_recursion_limit();
        let head = json.deserialize_map(EnvelopeVisitor(payload.len())).ok()?;
        json.end().ok()?;
        head.key()
    }

    /// Evenly spread bits, for a table.
    pub(crate) fn bits(self) -> u64 {
        self.0[0]
    }

    #[cfg(test)]
    pub(crate) fn from_halves(first: u64, second: u64) -> Self {
        Self([first, second])
    }
}

/// What of an envelope makes its key.
#[derive(Default)]
struct Head<'de> {
    id: Option<Text<'de>>,
    event_type: Option<Text<'de>>,
    data: Option<Data<'de>>,
}

impl Head<'_> {
    fn key(self) -> Option<Key> {
        let (Text(event_type), Text(id), data) = (self.event_type?, self.id?, self.data?);
        if event_type.is_empty() || id.is_empty() {
            return None;
        }
        let mut bytes = Vec::with_capacity(event_type.len() + id.len() + 32);
        bytes.extend_from_slice(event_type.as_bytes());
        bytes.push(b'|');
        bytes.extend_from_slice(id.as_bytes());
        match data.seq {
            Some(seq) => {
                bytes.extend_from_slice(b"|seq=");
                bytes.extend_from_slice(seq.as_bytes());
            }
            None => {
                bytes.extend_from_slice(b"|hash=");
                for half in data.hash {
                    bytes.extend_from_slice(&half.to_le_bytes());
                }
            }
        }
        Some(Key(hash_128(&bytes)))
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Id,
    Type,
    Ts,
    Timestamp,
    Source,
    Correlate,
    Data,
    #[serde(other)]
    Unknown,
}

/// Of a payload of this size.
struct EnvelopeVisitor(usize);

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Head<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut head = Head::default();
        let mut digest = Digest::new(self.0);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Id => head.id = map.next_value()?,
                Field::Type => head.event_type = map.next_value()?,
                Field::Data => head.data = Some(map.next_value_seed(DataSeed(&mut digest))?),
                // The rest makes no difference to the key, only to whether it is an envelope.
                Field::Ts | Field::Timestamp => {
                    map.next_value::<Option<f64>>()?;
                }
                Field::Source | Field::Correlate => {
                    map.next_value::<Option<Text<'_>>>()?;
                }
                Field::Unknown => {
                    map.next_value_seed(digest.value(2))?;
                    digest.take();
                }
            }
        }
        Ok(head)
    }
}

struct Data<'de> {
    /// `seq` as it is written, if it is an integer or a boolean.
    seq: Option<&'de str>,
    hash: [u64; 2],
}

struct DataSeed<'a>(&'a mut Digest);

impl<'de> DeserializeSeed<'de> for DataSeed<'_> {
    type Value = Data<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DataSeed<'_> {
    type Value = Data<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut seq = None;
        self.0.object(map, |digest, map, key| {
            if !digest.key_is(key, "seq") {
                return map.next_value_seed(digest.value(3));
            }
            // As it is written: it may have more digits than a number. Then read as any
            // other value, for what it may be besides.
            let raw = map.next_value::<&RawValue>()?.get();
            seq = countable(raw);
            let mut json = serde_json::Deserializer::from_str(raw);
            json.disable_recursion_limit();
            digest.value(3).deserialize(&mut json).map_err(A::Error::custom)
        })?;
        let hash = self.0.take();
        Ok(Data { seq, hash })
    }
}

/// A `seq` that numbers messages: an integer or, as in the original, a boolean.
fn countable(raw: &str) -> Option<&str> {
    match raw {
        "true" | "false" => Some(raw),
        "-0" => Some("0"),
        _ => {
            let digits = raw.strip_prefix('-').unwrap_or(raw);
            digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(raw)
        }
    }
}

#[cfg(test)]
mod tests {
    use tars_contracts::MAX_DEPTH;

    use super::*;

    fn key(data: &str) -> Option<Key> {
        Key::of(format!(r#"{{"id":"i","type":"t","data":{data}}}"#).as_bytes())
    }

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn nesting_is_bounded_where_the_reader_bounds_it() {
        // The envelope is one level, `data` another; also in what is ignored.
        let inside = MAX_DEPTH - 2;
        for name in ["a", "seq"] {
            assert!(key(&format!(r#"{{"{name}":{}}}"#, nested(inside))).is_some());
            assert!(key(&format!(r#"{{"{name}":{}}}"#, nested(inside + 1))).is_none());
            assert!(key(&format!(r#"{{"{name}":{}}}"#, nested(1_000_000))).is_none());
        }
        let ignored = |levels| format!(r#"{{"id":"i","type":"t","x":{},"data":{{}}}}"#, nested(levels));
        assert!(Key::of(ignored(inside + 1).as_bytes()).is_some());
        assert!(Key::of(ignored(inside + 2).as_bytes()).is_none());
    }

    #[test]
    fn seq_counts_by_its_digits_and_only_where_it_is_an_integer() {
        let long = "9".repeat(40);
        let same = |a: &str, b: &str| key(a).unwrap() == key(b).unwrap();
        for seq in ["0", "-0", "7", "-7", &long, "true", "false"] {
            let (one, other) = (
                format!(r#"{{"seq":{seq},"d":1}}"#),
                format!(r#"{{"d":2,"seq" : {seq}}}"#),
            );
            assert!(same(&one, &other), "{seq}");
        }
        for seq in ["7.0", "7e0", "-0.0", r#""7""#, "null", "[7]", r#"{"seq":7}"#] {
            let (one, other) = (format!(r#"{{"seq":{seq},"d":1}}"#), format!(r#"{{"seq":{seq},"d":2}}"#));
            assert!(!same(&one, &other), "{seq}");
            assert!(same(&one, &one), "{seq}");
        }
        assert!(!same(&format!(r#"{{"seq":{long}}}"#), &format!(r#"{{"seq":{long}1}}"#)));
        assert!(same(r#"{"seq":7,"seq":"x"}"#, r#"{"seq":"x"}"#));
        assert!(same(r#"{"seq":"x","seq":7}"#, r#"{"seq":7}"#));
    }

    #[test]
    fn values_are_told_apart() {
        let different = [
            "null",
            "true",
            "false",
            "0",
            "0.0",
            "-0.0",
            "1",
            "1.0",
            "-1",
            "18446744073709551615",
            r#""""#,
            r#""n""#,
            r#""1""#,
            "[]",
            "[[]]",
            "[[],[]]",
            "[1,2]",
            "[2,1]",
            "[[1],2]",
            r#"["1,2"]"#,
            r#"["1","2"]"#,
            "{}",
            "[{}]",
            r#"{"a":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"b":{"a":1}}"#,
            r#"{"ab":1}"#,
            r#"{"a":"b1"}"#,
            r#"{"":null}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
        ];
        for (at, one) in different.iter().enumerate() {
            for other in &different[..at] {
                let within = |value| key(&format!(r#"{{"x":{value}}}"#)).unwrap();
                assert_ne!(within(one), within(other), "{one} {other}");
            }
        }
    }
}
