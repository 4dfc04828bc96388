//! Laws that hold for the key of every message.

use fastrand::Rng;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use tars_contracts::{Data, Envelope, EnvelopeHead};

use super::Key;

fn key(data: &str) -> Option<Key> {
    Key::of(format!(r#"{{"id":"i","type":"t","data":{data}}}"#).as_bytes())
}

/// The value in other words: another order of keys, whitespace, keys that a later one
/// overrides.
fn respell(value: &Json, random: &mut Rng, out: &mut String) {
    let space = |random: &mut Rng, out: &mut String| {
        out.push_str(["", "", " ", "\n\t"][random.usize(..4)]);
    };
    space(random, out);
    match value {
        Json::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                respell(item, random, out);
            }
            out.push(']');
        }
        Json::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            random.shuffle(&mut entries);
            out.push('{');
            for (at, (name, value)) in entries.into_iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                space(random, out);
                let name = Json::from(name.as_str());
                if random.u8(..4) == 0 {
                    out.push_str(&format!("{name}:[7],"));
                }
                out.push_str(&format!("{name}:"));
                respell(value, random, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
    space(random, out);
}

/// Changes one of the places where there is no value inside; their number is counted down.
fn change(value: &mut Json, place: &mut usize) {
    let inside: Vec<&mut Json> = match value {
        Json::Array(items) => items.iter_mut().collect(),
        Json::Object(map) => map.values_mut().collect(),
        _ => Vec::new(),
    };
    if !inside.is_empty() {
        inside.into_iter().for_each(|value| change(value, place));
        return;
    }
    if *place == 0 {
        *value = match &*value {
            Json::Null => json!(false),
            Json::Bool(value) => json!(!value),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => json!(integer.wrapping_add(1)),
                (None, Some(float)) => json!(-float),
                (None, None) => json!(null),
            },
            Json::String(text) => json!(format!("{text} ")),
            Json::Array(_) => json!({}),
            Json::Object(_) => json!([]),
        };
    }
    *place = place.wrapping_sub(1);
}

fn places(value: &Json) -> usize {
    let inside = match value {
        Json::Array(items) => items.iter().map(places).sum(),
        Json::Object(map) => map.values().map(places).sum(),
        _ => 0,
    };
    inside.max(1)
}

fn value() -> impl Strategy<Value = Json> {
    let float = prop::num::f64::NORMAL | prop::num::f64::ZERO;
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        float.prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Json::from),
            prop::collection::vec(("[a-c]{0,2}|.*", inner), 0..30)
                .prop_map(|entries| Json::Object(Map::from_iter(entries))),
        ]
    })
}

/// A field of an envelope, good or bad.
fn field() -> impl Strategy<Value = String> {
    let name = prop::sample::select(&["id", "type", "ts", "timestamp", "source", "correlate", "data", "x"][..]);
    let value = prop::sample::select(
        &[
            r#""a""#,
            r#""""#,
            r#""\u00e9""#,
            r#""\ud800""#,
            "null",
            "1",
            "-0",
            "1.5e3",
            "1e400",
            "NaN",
            "01",
            "true",
            "[]",
            "{}",
            r#"{"seq":1}"#,
            r#"{"a":[{"b":{}}]}"#,
            "{",
        ][..],
    );
    // Mostly what belongs there, or hardly anything were an envelope.
    (name, value, 0..8_u8).prop_map(|(name, value, odd)| match (odd, name) {
        (0, _) => format!(r#""{name}":{value}"#),
        (_, "ts" | "timestamp") => format!(r#""{name}":1.5"#),
        (_, "data") => r#""data":{"a":1}"#.to_owned(),
        _ => format!(r#""{name}":"v""#),
    })
}

/// Whether our reader takes it for an envelope, and it says an id.
fn is_known(payload: &[u8]) -> bool {
    let read = Envelope::<Data>::from_bytes(payload).is_ok();
    let id = EnvelopeHead::peek(payload).and_then(|head| head.id);
    read && id.is_some_and(|id| !id.is_empty())
}

proptest! {
    #[test]
    fn the_order_of_keys_and_whitespace_make_no_difference(data in value(), seed: u64) {
        let data = json!({ "d": data, "e": 1 });
        let mut other = String::new();
        respell(&data, &mut Rng::with_seed(seed), &mut other);
        prop_assert!(key(&other).is_some());
        prop_assert_eq!(key(&data.to_string()), key(&other));
    }

    #[test]
    fn every_value_makes_a_difference(data in value(), place: prop::sample::Index) {
        let data = json!({ "d": data, "e": 1 });
        let mut other = data.clone();
        change(&mut other, &mut place.index(places(&data)));
        prop_assert_ne!(key(&data.to_string()).unwrap(), key(&other.to_string()).unwrap());
    }

    #[test]
    fn what_is_an_envelope_the_reader_decides(
        fields in prop::collection::vec(field(), 0..8),
        required in any::<bool>(),
        damage in prop::option::weighted(0.3, any::<(prop::sample::Index, u8)>()),
    ) {
        let mut fields = fields;
        if required {
            fields.extend([r#""id":"i""#, r#""type":"t""#, r#""data":{}"#].map(str::to_owned));
        }
        let mut payload = format!("{{{}}}", fields.join(",")).into_bytes();
        if let Some((at, byte)) = damage {
            *at.get_mut(&mut payload) = byte;
        }
        let text = String::from_utf8_lossy(&payload);
        prop_assert_eq!(Key::of(&payload).is_some(), is_known(&payload), "{}", text);
    }
}
