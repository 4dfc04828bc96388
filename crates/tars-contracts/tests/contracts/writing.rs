//! What an envelope writer lets through: compact objects, and `out` untouched on errors.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::Error as _;
use tars_contracts::{ContractError, Envelope, fresh_id, write_envelope};

#[derive(Serialize)]
struct Reading {
    label: &'static str,
    value: f64,
}

fn write<T: Serialize + ?Sized>(data: &T) -> Result<String, ContractError> {
    let mut out = b"before".to_vec();
    let written = write_envelope(&mut out, "i", "t", 1.5, "s", data);
    if written.is_err() {
        assert_eq!(out, b"before");
    }
    written.map(|()| String::from_utf8(out).unwrap().split_off("before".len()))
}

#[test]
fn exactly_the_fields_in_their_order() {
    let reading = Reading {
        label: "né \"\u{1}",
        value: f64::NAN,
    };
    assert_eq!(
        write(&reading).unwrap(),
        "{\"id\":\"i\",\"type\":\"t\",\"ts\":1.5,\"source\":\"s\",\
         \"data\":{\"label\":\"né \\\"\\u0001\",\"value\":null}}"
    );
    assert!(
        write(&BTreeMap::<String, u8>::new())
            .unwrap()
            .ends_with(r#""data":{}}"#)
    );
}

#[test]
fn anything_but_an_object_is_refused() {
    for refused in [
        write(&()),
        write(&Some(1)),
        write(&[1, 2]),
        write("{}"),
        write(&f64::NAN),
        write(&None::<Reading>),
        write(&vec![Reading { label: "", value: 0.0 }]),
    ] {
        assert!(matches!(refused, Err(ContractError::DataNotObject)));
    }
    assert!(write(&Some(Reading { label: "", value: 0.0 })).is_ok());
}

#[test]
fn failures_leave_out_as_it_was() {
    struct Failing;
    impl Serialize for Failing {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeMap as _;
            serializer.serialize_map(None)?.serialize_entry("a", &1)?;
            Err(S::Error::custom("the sensor is gone"))
        }
    }
    let error = write(&Failing).unwrap_err();
    assert!(error.to_string().contains("the sensor is gone"), "{error}");

    let data = BTreeMap::<String, u8>::new();
    let mut out = Vec::new();
    assert!(matches!(
        write_envelope(&mut out, "i", "", 1.5, "s", &data),
        Err(ContractError::EmptyType)
    ));
    assert!(matches!(
        write_envelope(&mut out, "i", "t", f64::INFINITY, "s", &data),
        Err(ContractError::InvalidTimestamp)
    ));
    assert!(out.is_empty());
}

#[test]
fn new_envelopes_have_fresh_ids() {
    let ids = [Envelope::new("t", "s", ()).id, fresh_id()];
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        assert_eq!(id.len(), 32);
        assert!(id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(id.as_bytes()[12], b'4', "not a UUIDv4: {id}");
    }
}
