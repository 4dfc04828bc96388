//! Laws that hold for every envelope.

use proptest::prelude::*;
use serde_json::{Map, Value};
use tars_contracts::{Envelope, EnvelopeHead};

use crate::ordered::{assert_same, json};

fn value() -> impl Strategy<Value = Value> {
    let float = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        float.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            object(inner, 0..8).prop_map(Value::from),
        ]
    })
}

fn object(
    value: impl Strategy<Value = Value>,
    size: std::ops::Range<usize>,
) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((any::<String>(), value), size).prop_map(Map::from_iter)
}

proptest! {
    // Large values: fewer cases keep the suite quick.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        id: String,
        event_type in ".+",
        ts in prop::num::f64::NORMAL,
        source: String,
        data in object(value(), 0..60),
    ) {
        let mut envelope = Envelope::new(event_type, source, data).with_correlation_id(id);
        envelope.ts = ts;
        let bytes = envelope.to_bytes().unwrap();
        let read: Envelope = Envelope::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&read, &envelope);
        assert_same(&Value::Object(read.data), &Value::Object(envelope.data));

        let keys: Vec<String> = json(&bytes).as_object().unwrap().keys().cloned().collect();
        prop_assert_eq!(keys, ["id", "type", "ts", "source", "data"]);

        let head = EnvelopeHead::peek(&bytes).unwrap();
        prop_assert_eq!(head.id, Some(envelope.id));
        prop_assert_eq!(head.event_type, Some(envelope.event_type));
    }
}
