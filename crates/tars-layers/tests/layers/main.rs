//! The layers on publishers that fail as a test wants, and on the in-memory broker: in paused
//! time, with seeded randomness.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod batching;
mod contract;
mod events;
mod flaky;
mod inbound;
mod observing;
mod retrying;

use std::time::Duration;

use tars_ports::{Message, QoS};

/// Seconds of the paused clock.
pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A message whose payload is JSON and tells it from others.
pub(crate) fn message(topic: &str, number: usize, qos: QoS) -> Message {
    Message::new(topic.parse().unwrap(), format!(r#"{{"n":{number}}}"#)).with_qos(qos)
}
