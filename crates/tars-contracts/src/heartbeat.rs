//! Heartbeat: the sign of life on `system/keepalive/{client_id}`, at QoS 0. It is not an envelope.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::envelope::unix_now;
use crate::{ContractError, TopicError, TopicName, json, topic};

/// What a keepalive topic begins with; the client id follows.
pub const KEEPALIVE_TOPIC_PREFIX: &str = "system/keepalive/";

/// The `event` of every beat.
pub const HEARTBEAT_EVENT: &str = "heartbeat";

/// Where the client `client_id` beats.
///
/// # Errors
/// As [`health_topic`](crate::health_topic).
pub fn keepalive_topic(client_id: &str) -> Result<TopicName, TopicError> {
    topic::with_client_id(KEEPALIVE_TOPIC_PREFIX, client_id)
}

/// One beat: `{"ok":true,"event":"heartbeat","timestamp":1697472000.123}`.
///
/// ```
/// use tars_contracts::Heartbeat;
///
/// # fn main() -> Result<(), tars_contracts::ContractError> {
/// let beat = Heartbeat::now();
/// assert_eq!(Heartbeat::from_bytes(&beat.to_bytes()?)?, beat);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Always true in what we write.
    pub ok: bool,
    /// [`HEARTBEAT_EVENT`] in what we write.
    pub event: Cow<'static, str>,
    /// When, in Unix seconds.
    pub timestamp: f64,
}

impl Heartbeat {
    /// The beat of this moment.
    pub fn now() -> Self {
        Self {
            ok: true,
            event: Cow::Borrowed(HEARTBEAT_EVENT),
            timestamp: unix_now(),
        }
    }

    /// The payload to publish.
    ///
    /// # Errors
    /// [`InvalidTimestamp`](ContractError::InvalidTimestamp) for a time that is not finite.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ContractError> {
        if !self.timestamp.is_finite() {
            return Err(ContractError::InvalidTimestamp);
        }
        serde_json::to_vec(self).map_err(ContractError::Serialize)
    }

    /// Reads a beat; unknown fields are ignored.
    ///
    /// # Errors
    /// For what is not JSON, nested too deep, or lacks a field.
    pub fn from_bytes(payload: &[u8]) -> Result<Self, ContractError> {
        json::parse(payload)
    }
}
