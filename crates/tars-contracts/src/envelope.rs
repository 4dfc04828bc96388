//! The envelope: one JSON object around every event, with exactly the fields `id`, `type`, `ts`,
//! `source`, `data`, written in this order.
//!
//! Python services refuse an envelope with any other field, so nothing else is ever written; on
//! reading, other fields are ignored.

use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, marker::PhantomData};

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use uuid::Uuid;

use crate::object::{EXPECTED_OBJECT, Object};
use crate::{ContractError, json};

/// Event data of no particular type: a JSON object that keeps the order of its keys.
pub type Data = serde_json::Map<String, serde_json::Value>;

/// An event and what travels with it.
///
/// `T` is the event's data: any type that is written as a JSON object, or [`Data`] where no type is
/// known.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tars_contracts::Envelope;
///
/// #[derive(Serialize, Deserialize)]
/// struct FinalTranscript {
///     text: String,
///     confidence: f64,
/// }
///
/// # fn main() -> Result<(), tars_contracts::ContractError> {
/// let transcript = FinalTranscript { text: "hello".into(), confidence: 0.95 };
/// let bytes = Envelope::new("stt.final", "stt-service", transcript).to_bytes()?;
///
/// let envelope = Envelope::<FinalTranscript>::from_bytes(&bytes)?;
/// assert_eq!(envelope.event_type, "stt.final");
/// assert_eq!(envelope.data.text, "hello");
///
/// let untyped: Envelope = Envelope::from_bytes(&bytes)?;
/// assert_eq!(untyped.data["confidence"], 0.95);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope<T = Data> {
    /// Identifies the event; a reply carries the id of its request. Fresh ids are 32 hex digits,
    /// but any string is possible.
    pub id: String,
    /// What kind of event this is, such as `stt.final`. On the wire: `type`.
    pub event_type: String,
    /// When it was made, in Unix seconds.
    pub ts: f64,
    /// Who made it; empty if the sender did not say.
    pub source: String,
    /// The event itself.
    pub data: T,
    correlate: Option<String>,
}

impl<T> Envelope<T> {
    /// An envelope made now, with a fresh id.
    pub fn new(event_type: impl Into<String>, source: impl Into<String>, data: T) -> Self {
        Self {
            id: fresh_id(),
            event_type: event_type.into(),
            ts: unix_now(),
            source: source.into(),
            data,
            correlate: None,
        }
    }

    /// Makes `id` the envelope's id, and so what a reply is recognised by. An empty one is ignored.
    #[must_use]
    pub fn with_correlation_id(mut self, id: impl Into<String>) -> Self {
        let id = id.into();
        if !id.is_empty() {
            self.id = id;
            self.correlate = None;
        }
        self
    }

    /// What ties replies to requests: the sender's `correlate` field where there is one, else the
    /// id. `correlate` is only ever read, never written.
    pub fn correlation_id(&self) -> &str {
        self.correlate.as_deref().unwrap_or(&self.id)
    }

    /// The same envelope around other data.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Envelope<U> {
        Envelope {
            id: self.id,
            event_type: self.event_type,
            ts: self.ts,
            source: self.source,
            data: f(self.data),
            correlate: self.correlate,
        }
    }
}

impl<T: Serialize> Envelope<T> {
    /// The bytes to publish; see [`write_envelope`] for what is written and the errors.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ContractError> {
        let mut out = Vec::with_capacity(256);
        write_envelope(&mut out, &self.id, &self.event_type, self.ts, &self.source, &self.data)?;
        Ok(out)
    }
}

impl<T: DeserializeOwned> Envelope<T> {
    /// Reads an envelope from a payload.
    ///
    /// Fields that are absent or `null` are filled in: `id` with a fresh one, `ts` with `timestamp`
    /// or else the current time, `source` with the empty string. Unknown fields are ignored, and of
    /// a field that is there twice the last one counts.
    ///
    /// # Errors
    /// [`InvalidJson`](ContractError::InvalidJson) and [`TooDeep`](ContractError::TooDeep) for what
    /// is no JSON or nested too deep, wherever in the payload;
    /// [`MissingField`](ContractError::MissingField) without `type` or `data`;
    /// [`EmptyType`](ContractError::EmptyType);
    /// [`DataNotObject`](ContractError::DataNotObject), also where `T` would accept something else;
    /// [`Deserialize`](ContractError::Deserialize) where `T` or a field does not fit.
    pub fn from_bytes(payload: &[u8]) -> Result<Self, ContractError> {
        let wire: Wire<Object<T>> = json::parse(payload).map_err(|error| match error {
            ContractError::Deserialize { reason } if reason.ends_with(EXPECTED_OBJECT) => ContractError::DataNotObject,
            other => other,
        })?;
        let missing = |field| ContractError::MissingField { field };
        let event_type = wire.event_type.ok_or(missing("type"))?;
        if event_type.is_empty() {
            return Err(ContractError::EmptyType);
        }
        let ts = wire.ts.or(wire.timestamp).unwrap_or_else(unix_now);
        if !ts.is_finite() {
            return Err(ContractError::InvalidTimestamp);
        }
        Ok(Self {
            id: wire.id.unwrap_or_else(fresh_id),
            event_type,
            ts,
            source: wire.source.unwrap_or_default(),
            data: wire.data.ok_or(missing("data"))?.0,
            correlate: wire.correlate.filter(|id| !id.is_empty()),
        })
    }
}

/// What identifies an envelope, read without its data: for log lines, and to recognise copies of a
/// message.
///
/// ```
/// use tars_contracts::EnvelopeHead;
///
/// let head = EnvelopeHead::peek(br#"{"id":"7","type":"stt.final","data":[1,2]}"#).unwrap();
/// assert_eq!(head.id.as_deref(), Some("7"));
/// assert!(EnvelopeHead::peek(b"\xff\xd8\xff\xe0").is_none());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnvelopeHead {
    /// The `id` field.
    pub id: Option<String>,
    /// The `type` field.
    pub event_type: Option<String>,
    /// The `correlate` field.
    pub correlate: Option<String>,
}

impl EnvelopeHead {
    /// Looks at a payload; `None` if it is no JSON object, or a field of an envelope has the wrong
    /// type. It says nothing about whether the envelope as a whole is valid.
    ///
    /// The payload is neither copied nor changed, and nesting of any depth is skipped in constant
    /// stack.
    pub fn peek(payload: &[u8]) -> Option<Self> {
        let wire: Wire<IgnoredAny> = serde_json::from_slice(payload).ok()?;
        Some(Self {
            id: wire.id,
            event_type: wire.event_type,
            correlate: wire.correlate,
        })
    }

    /// As [`Envelope::correlation_id`], where there is one.
    pub fn correlation_id(&self) -> Option<&str> {
        let correlate = self.correlate.as_deref().filter(|id| !id.is_empty());
        correlate.or(self.id.as_deref())
    }
}

/// Appends an envelope to `out`, serialising `data` straight into it.
///
/// Compact JSON; non-ASCII characters are written raw, NaN and infinite floats in `data` as `null`.
///
/// # Errors
/// [`EmptyType`](ContractError::EmptyType), [`InvalidTimestamp`](ContractError::InvalidTimestamp),
/// [`DataNotObject`](ContractError::DataNotObject), [`Serialize`](ContractError::Serialize). `out`
/// is then as it was before.
pub fn write_envelope<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    id: &str,
    event_type: &str,
    ts: f64,
    source: &str,
    data: &T,
) -> Result<(), ContractError> {
    if event_type.is_empty() {
        return Err(ContractError::EmptyType);
    }
    if !ts.is_finite() {
        return Err(ContractError::InvalidTimestamp);
    }
    let start = out.len();
    let written = (|| {
        append(out, br#"{"id":"#, id)?;
        append(out, br#","type":"#, event_type)?;
        append(out, br#","ts":"#, &ts)?;
        append(out, br#","source":"#, source)?;
        let before_data = out.len() + DATA.len();
        append(out, DATA, data)?;
        // Compact JSON has no leading space, so the first byte tells what the value is.
        if out.get(before_data) != Some(&b'{') {
            return Err(ContractError::DataNotObject);
        }
        out.push(b'}');
        Ok(())
    })();
    if written.is_err() {
        out.truncate(start);
    }
    written
}

const DATA: &[u8] = br#","data":"#;

fn append<T: Serialize + ?Sized>(out: &mut Vec<u8>, key: &[u8], value: &T) -> Result<(), ContractError> {
    out.extend_from_slice(key);
    serde_json::to_writer(out, value).map_err(ContractError::Serialize)
}

/// A random id: a UUIDv4 as 32 lower-case hex digits.
pub fn fresh_id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// The current time in Unix seconds; 0 if the clock stands before 1970.
pub fn unix_now() -> f64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// The fields as they stand on the wire, before the rules about absent ones.
struct Wire<D> {
    id: Option<String>,
    event_type: Option<String>,
    ts: Option<f64>,
    timestamp: Option<f64>,
    source: Option<String>,
    correlate: Option<String>,
    data: Option<D>,
}

#[derive(serde::Deserialize)]
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

// By hand: a derived implementation takes arrays for objects and refuses repeated fields.
impl<'de, D: Deserialize<'de>> Deserialize<'de> for Wire<D> {
    fn deserialize<De: Deserializer<'de>>(deserializer: De) -> Result<Self, De::Error> {
        deserializer.deserialize_map(WireVisitor(PhantomData))
    }
}

struct WireVisitor<D>(PhantomData<D>);

impl<'de, D: Deserialize<'de>> Visitor<'de> for WireVisitor<D> {
    type Value = Wire<D>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut wire = Wire {
            id: None,
            event_type: None,
            ts: None,
            timestamp: None,
            source: None,
            correlate: None,
            data: None,
        };
        while let Some(field) = map.next_key()? {
            match field {
                Field::Id => wire.id = map.next_value()?,
                Field::Type => wire.event_type = map.next_value()?,
                Field::Ts => wire.ts = map.next_value()?,
                Field::Timestamp => wire.timestamp = map.next_value()?,
                Field::Source => wire.source = map.next_value()?,
                Field::Correlate => wire.correlate = map.next_value()?,
                // Not an `Option`: `null` is no object, and must not pass for an absent field.
                Field::Data => wire.data = Some(map.next_value()?),
                Field::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(wire)
    }
}
