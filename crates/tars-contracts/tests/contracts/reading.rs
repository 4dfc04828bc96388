//! What an envelope reader forgives, and what it does not.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tars_contracts::{ContractError, Data, Envelope, EnvelopeHead, unix_now};

#[derive(Debug, PartialEq, Deserialize)]
struct Point {
    x: i64,
    y: i64,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Wrapped(Point);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    At(Point),
    Box { width: f64 },
    Nothing,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Either {
    Point(Point),
    Other(Data),
}

#[derive(Debug, PartialEq, Deserialize)]
struct Flat {
    x: i64,
    #[serde(flatten)]
    rest: HashMap<String, i64>,
}

fn read<T: DeserializeOwned>(json: &str) -> Result<Envelope<T>, ContractError> {
    Envelope::from_bytes(json.as_bytes())
}

/// The data of an envelope around `data`.
fn data<T: DeserializeOwned>(data: &str) -> Result<T, ContractError> {
    read(&format!(r#"{{"type":"t","data":{data}}}"#)).map(|envelope| envelope.data)
}

#[test]
fn absent_and_null_fields_are_filled_in() {
    let before = unix_now();
    for json in [
        r#"{"type":"t","data":{}}"#,
        r#" {"data":{}, "id":null,"ts":null,"timestamp":null,"source":null,"correlate":null,"type":"t"} "#,
    ] {
        let envelope: Envelope = read(json).unwrap();
        assert_eq!(envelope.id.len(), 32);
        assert_eq!(envelope.correlation_id(), envelope.id);
        assert!(envelope.ts >= before);
        assert_eq!(envelope.source, "");
    }
}

#[test]
fn timestamp_is_another_name_and_ts_goes_before_it() {
    for (fields, ts) in [
        (r#""ts":5"#, 5.0),
        (r#""timestamp":5.25"#, 5.25),
        (r#""timestamp":1,"ts":2"#, 2.0),
        (r#""ts":2,"timestamp":1"#, 2.0),
        (r#""ts":null,"timestamp":1"#, 1.0),
    ] {
        let envelope: Envelope = read(&format!(r#"{{"type":"t",{fields},"data":{{}}}}"#)).unwrap();
        assert_eq!(envelope.ts, ts, "{fields}");
    }
}

#[test]
fn unknown_and_repeated_fields_are_no_error() {
    let json = r#"{"v":[1,{"a":null}],"id":"1","type":"a","data":{"x":1},"id":"2","data":{"x":2},"e":"é","type":"b"}"#;
    let envelope: Envelope = read(json).unwrap();
    assert_eq!((&*envelope.id, &*envelope.event_type), ("2", "b"));
    assert_eq!(envelope.data["x"], 2);
    let head = EnvelopeHead::peek(json.as_bytes()).unwrap();
    assert_eq!(head.id.as_deref(), Some("2"));
}

#[test]
fn correlate_goes_before_the_id_and_is_never_written() {
    let json = r#"{"id":"i","type":"t","data":{},"correlate":"c"}"#;
    let envelope: Envelope = read(json).unwrap();
    assert_eq!((&*envelope.id, envelope.correlation_id()), ("i", "c"));
    let head = EnvelopeHead::peek(json.as_bytes()).unwrap();
    assert_eq!(head.correlation_id(), Some("c"));

    let text = String::from_utf8(envelope.to_bytes().unwrap()).unwrap();
    assert!(!text.contains("correlate"), "{text}");
    let again = envelope.with_correlation_id("").with_correlation_id("r");
    assert_eq!((&*again.id, again.correlation_id()), ("r", "r"));

    let empty: Envelope = read(r#"{"id":"i","type":"t","data":{},"correlate":""}"#).unwrap();
    assert_eq!(empty.correlation_id(), "i");
}

#[test]
fn type_is_required() {
    for json in [r#"{"data":{}}"#, r#"{"type":null,"data":{}}"#, "{}"] {
        assert!(matches!(
            read::<Data>(json),
            Err(ContractError::MissingField { field: "type" })
        ));
    }
    assert!(matches!(
        read::<Data>(r#"{"type":"","data":{}}"#),
        Err(ContractError::EmptyType)
    ));
}

#[test]
fn data_is_an_object_whatever_the_type_would_take() {
    fn refused<T: DeserializeOwned>(of: &[&str]) {
        for json in of {
            let error = data::<T>(json).err();
            assert!(
                matches!(error, Some(ContractError::DataNotObject)),
                "{json} as {}: {error:?}",
                std::any::type_name::<T>()
            );
        }
    }
    let others = ["null", "[1,2]", "[]", "7", "-7", "0.5", "true", r#""nothing""#];
    refused::<Data>(&others);
    refused::<serde_json::Value>(&others);
    refused::<Point>(&others);
    refused::<Wrapped>(&others);
    refused::<Option<Point>>(&others);
    refused::<Shape>(&others);
    refused::<Either>(&others);
    refused::<()>(&others);
    refused::<Vec<i64>>(&others);
    refused::<(i64, i64)>(&others);
    refused::<serde::de::IgnoredAny>(&others);

    assert!(matches!(
        read::<Data>(r#"{"type":"t"}"#),
        Err(ContractError::MissingField { field: "data" })
    ));
    // An object, but these types do not take one.
    assert!(matches!(data::<()>("{}"), Err(ContractError::Deserialize { .. })));
    assert!(matches!(data::<Vec<i64>>("{}"), Err(ContractError::Deserialize { .. })));
}

#[test]
fn every_type_that_is_read_from_an_object_works() {
    let point = || Point { x: 1, y: 2 };
    let json = r#"{"x":1,"y":2}"#;
    assert_eq!(data::<Point>(json).unwrap(), point());
    assert_eq!(data::<Wrapped>(json).unwrap(), Wrapped(point()));
    assert_eq!(data::<Option<Point>>(json).unwrap(), Some(point()));
    assert_eq!(data::<Option<Wrapped>>(json).unwrap(), Some(Wrapped(point())));
    assert_eq!(data::<Box<Point>>(json).unwrap(), Box::new(point()));
    assert_eq!(data::<Either>(json).unwrap(), Either::Point(point()));
    assert!(matches!(data::<Either>(r#"{"z":1}"#).unwrap(), Either::Other(_)));
    assert_eq!(data::<serde_json::Value>(json).unwrap()["y"], 2);
    let flat = data::<Flat>(json).unwrap();
    assert_eq!((flat.x, flat.rest["y"]), (1, 2));
    assert_eq!(data::<HashMap<u32, String>>(r#"{"7":"seven"}"#).unwrap()[&7], "seven");

    assert_eq!(data::<Shape>(r#"{"at":{"x":1,"y":2}}"#).unwrap(), Shape::At(point()));
    assert_eq!(
        data::<Shape>(r#"{"box":{"width":1}}"#).unwrap(),
        Shape::Box { width: 1.0 }
    );
    assert_eq!(data::<Shape>(r#"{"nothing":null}"#).unwrap(), Shape::Nothing);
    assert!(data::<Shape>("{}").is_err());
    assert!(data::<Shape>(r#"{"nothing":null,"at":{"x":1,"y":2}}"#).is_err());
}

#[test]
fn keys_keep_their_order_also_when_there_are_many() {
    let keys: Vec<String> = (0..500_u32)
        .map(|n| format!("k{}", n.wrapping_mul(7919) % 500))
        .collect();
    let body: Vec<String> = keys.iter().map(|key| format!(r#""{key}":0"#)).collect();
    let read: Data = data(&format!("{{{}}}", body.join(","))).unwrap();
    assert!(read.keys().eq(&keys));
}

#[test]
fn large_integers_are_read() {
    let read: Data =
        data(r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":100000000000000000000000}"#).unwrap();
    assert_eq!(read["a"], u64::MAX);
    assert_eq!(read["b"], i64::MIN);
    assert_eq!(read["c"], 1e23);
}
