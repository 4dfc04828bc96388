//! What makes two messages the same: `{type}|{id}|seq={n}` where `data.seq` is an
//! integer (or a boolean), else `{type}|{id}|hash={digest of data}`.
//!
//! The payload is read once, by the reader of envelopes, and nothing is built from it:
//! what counts goes into a [`Digest`] as it stands there.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use serde_json::value::RawValue;
use tars_contracts::flat::{self, FlatEnvelope, Node, StaticNode};

use super::digest::Digest;

/// Equal for messages that are the same, as long as the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u64; 2]);

impl Key {
    /// The key of an envelope; `None` for what is none, or has no id to be known by.
    ///
    /// What is an envelope is decided as `Envelope::from_bytes` does, `data` of any
    /// type: unknown fields are ignored, and of a field that is there twice the last
    /// one counts.
    pub(crate) fn of(payload: &[u8]) -> Option<Self> {
        flat::read(payload, |envelope| of_envelope(&envelope, payload))?
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

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.bits());
    }
}

/// Hashes a key to its own bits: they are a hash under a secret key already.
#[derive(Default)]
pub(super) struct OwnBits(u64);

impl Hasher for OwnBits {
    fn write(&mut self, bytes: &[u8]) {
        // A key writes none.
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = self.0.rotate_left(8) ^ bits;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn of_envelope(envelope: &FlatEnvelope<'_>, payload: &[u8]) -> Option<Key> {
    let id = envelope.id.filter(|id| !id.is_empty())?;
    let mut digest = Digest::new();
    digest.part(envelope.event_type);
    digest.part("|");
    digest.text(id);
    // All of `data` is an object, which no `seq` is, and the digits of one are no value.
    match seq(envelope.data) {
        Some(seq @ Node::Static(StaticNode::U64(_) | StaticNode::I64(_) | StaticNode::Bool(_))) => {
            digest.value(&[seq]);
        }
        Some(Node::Static(StaticNode::F64(float))) if float.abs() >= BEYOND_64_BITS => match digits(payload) {
            Some(digits) => {
                digest.part("#");
                digest.text(&digits);
            }
            None => digest.value(envelope.data),
        },
        _ => digest.value(envelope.data),
    }
    Some(Key(digest.finish()))
}

fn seq<'a>(data: &'a [Node<'a>]) -> Option<Node<'a>> {
    let (mut seq, mut at) = (None, 1);
    while at < data.len() {
        if data[at] == Node::String("seq") {
            seq = Some(data[at + 1]);
        }
        at = flat::next(data, at + 1);
    }
    seq
}

/// An integer that is read as a float is at least as far from zero.
const BEYOND_64_BITS: f64 = 9_223_372_036_854_775_808.0;

/// The digits of `data.seq`, if it is an integer that has more than a number holds.
fn digits(payload: &[u8]) -> Option<String> {
    type Fields<'a> = BTreeMap<String, &'a RawValue>;
    let fields: Fields<'_> = serde_json::from_slice(payload).ok()?;
    let data: Fields<'_> = serde_json::from_str(fields.get("data")?.get()).ok()?;
    let seq = data.get("seq")?.get();
    let digits = seq.strip_prefix('-').unwrap_or(seq);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| seq.to_owned())
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
        // Beyond 64 bits too, but no integer: however it is written, all of the data counts.
        for seq in ["1e20", "1e0020", "-100000000000000000000.0"] {
            let (one, other) = (format!(r#"{{"seq":{seq},"d":1}}"#), format!(r#"{{"seq":{seq},"d":2}}"#));
            assert!(!same(&one, &other), "{seq}");
        }
        assert!(same(r#"{"seq":1e20}"#, r#"{"seq":100000000000000000000.0}"#));
        assert!(!same(r#"{"seq":1e20}"#, r#"{"seq":100000000000000000000}"#));
        let borders = ["9223372036854775808", "18446744073709551615", "18446744073709551616"];
        for (at, one) in borders.iter().enumerate() {
            for other in &borders[..at] {
                assert!(!same(&format!(r#"{{"seq":{one}}}"#), &format!(r#"{{"seq":{other}}}"#)));
                assert!(!same(
                    &format!(r#"{{"seq":-{one}}}"#),
                    &format!(r#"{{"seq":-{other}}}"#)
                ));
            }
            assert!(same(
                &format!(r#"{{"seq":-{one},"d":1}}"#),
                &format!(r#"{{"s\u0065q":-{one}}}"#)
            ));
        }
        assert!(same(r#"{"a":-0}"#, r#"{"a":0}"#));
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
