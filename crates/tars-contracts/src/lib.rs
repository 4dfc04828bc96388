//! What goes over the wire in a tars-mqtt fleet, as plain data.
//!
//! - [`Envelope`]: the JSON object that carries every event, and [`EnvelopeHead`] to look at one
//!   without reading its data.
//! - [`Event`]: a type that knows its event type, topic, QoS and retain flag, with a derive.
//! - [`HealthStatus`] and [`Heartbeat`]: what a service says about itself, and where.
//! - [`TopicName`] and [`TopicFilter`]: validated MQTT 3.1.1 topics and the matching rules.
//!
//! There is no I/O here, no async and no MQTT library: bytes and strings in, bytes and strings out.
//! Writing is strict, because Python services that refuse unknown fields read what we write;
//! reading is tolerant. Whatever bytes come in, reading ends with a value or an error, never with a
//! panic, and an error never quotes the payload.
#![forbid(unsafe_code)]

mod envelope;
mod error;
#[doc(hidden)] // For who offers the trait beside a derive of their own.
pub mod event;
#[doc(hidden)] // For the facade, which asks what a message is the same as.
pub mod flat;
mod health;
mod heartbeat;
mod json;
mod object;
mod qos;
mod topic;

pub use envelope::{Data, Envelope, EnvelopeHead, fresh_id, unix_now, write_envelope};
pub use error::{ContractError, TopicError};
pub use event::{Event, FromEnvelope};
pub use health::{HEALTH_EVENT_TYPE, HEALTH_TOPIC_PREFIX, HealthFormat, HealthStatus, health_topic};
pub use heartbeat::{HEARTBEAT_EVENT, Heartbeat, KEEPALIVE_TOPIC_PREFIX, keepalive_topic};
pub use json::MAX_DEPTH;
pub use qos::QoS;
pub use tars_macros::Event;
pub use topic::{TopicFilter, TopicName};
