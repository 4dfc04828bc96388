//! From payloads to items, and from items to the payload of a batch.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tars_contracts::{ContractError, fresh_id, unix_now, write_envelope};
use tars_ports::{Error, ErrorKind};

/// Bytes of a PUBLISH packet before its payload, without the topic: header, remaining
/// length, length of the topic, packet id.
const PACKET: usize = 1 + 4 + 2 + 2;

/// How much longer an envelope may be than one that was written as a sample: the digits of
/// its count and of its time.
const DIGITS: usize = 20 + 24;

#[derive(Deserialize)]
struct Enveloped<'a> {
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What a payload adds to a batch: an envelope its data, other JSON itself.
pub(super) fn item(payload: &[u8]) -> Result<Box<RawValue>, Error> {
    if payload.trim_ascii_start().starts_with(b"{")
        && let Ok(envelope) = serde_json::from_slice::<Enveloped<'_>>(payload)
        && !envelope.event_type.is_empty()
        && envelope.data.get().starts_with('{')
    {
        return Ok(envelope.data.to_owned());
    }
    serde_json::from_slice(payload).map_err(|error| {
        let text = "a batch takes JSON only: publish bytes of another kind on the wrapped publisher";
        Error::new(ErrorKind::InvalidPayload, text).with_source(error)
    })
}

#[derive(Serialize)]
struct Batch<'a> {
    items: &'a [&'a RawValue],
    count: usize,
}

/// The envelope of a batch.
pub(super) fn payload(event_type: &str, source: &str, items: &[&RawValue]) -> Result<Vec<u8>, ContractError> {
    let size: usize = items.iter().map(|item| item.get().len() + 1).sum();
    let mut payload = Vec::with_capacity(256 + size);
    let data = Batch {
        items,
        count: items.len(),
    };
    write_envelope(&mut payload, &fresh_id(), event_type, unix_now(), source, &data)?;
    Ok(payload)
}

/// What the packet of a batch takes besides its items, at most.
pub(super) fn overhead(topic: &str, event_type: &str, source: &str) -> Result<usize, ContractError> {
    Ok(PACKET + topic.len() + payload(event_type, source, &[])?.len() + DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(payload: &str) -> Option<String> {
        item(payload.as_bytes()).ok().map(|item| item.get().to_owned())
    }

    #[test]
    fn an_envelope_gives_its_data_and_other_json_itself() {
        for (payload, expected) in [
            (
                r#"{"id":"1","type":"a.b","ts":1.5,"source":"s","data":{"b":1,"a":2}}"#,
                Some(r#"{"b":1,"a":2}"#),
            ),
            (r#" {"type":"a.b","data":{}}"#, Some("{}")),
            (r#"{"type":"","data":{}}"#, Some(r#"{"type":"","data":{}}"#)),
            (r#"{"type":"a.b","data":[1]}"#, Some(r#"{"type":"a.b","data":[1]}"#)),
            (r#"{"temperature":21.5}"#, Some(r#"{"temperature":21.5}"#)),
            (r#"["a.b",{}]"#, Some(r#"["a.b",{}]"#)),
            ("21.5", Some("21.5")),
            ("", None),
            ("{", None),
            ("\u{0}", None),
        ] {
            assert_eq!(text(payload).as_deref(), expected, "{payload}");
        }
    }
}
