//! What arrives, and the token that acknowledges it.

use bytes::Bytes;
use tars_contracts::TopicName;

use crate::{Properties, QoS};

/// Names one unacknowledged delivery of one connection. It is plain data:
/// dropping it acknowledges nothing, and on another connection it does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AckToken {
    pub(crate) connection: u64,
    pub(crate) sequence: u64,
    pub(crate) qos: QoS,
}

impl AckToken {
    /// The number of the connection it belongs to.
    #[must_use]
    pub fn connection(&self) -> u64 {
        self.connection
    }
}

/// How a delivery went. MQTT 3.1.1 can only say "done"; reasons come with MQTT 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AckOutcome {
    /// Handled: PUBACK, or PUBREC for QoS 2.
    #[default]
    Done,
}

/// A message that arrived. Cloning it copies no payload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Delivery {
    /// The topic it was published to.
    pub topic: TopicName,
    /// The bytes. They do not keep a larger read buffer alive.
    pub payload: Bytes,
    /// The QoS of this delivery: the lower of publish and subscription.
    pub qos: QoS,
    /// Sent because it was retained, in answer to a SUBSCRIBE (MQTT 3.1.1 section 3.3.1.3).
    pub retain: bool,
    /// The broker sent it before, as far as it knows (section 3.3.1.1).
    pub dup: bool,
    /// MQTT 5 properties.
    pub properties: Properties,
    /// For QoS 1 and 2 where the adapter has `manual_ack`; else there is nothing to acknowledge.
    pub token: Option<AckToken>,
}

impl Delivery {
    /// A first delivery: not retained, not a duplicate, without a token.
    #[must_use]
    pub fn new(topic: TopicName, payload: impl Into<Bytes>, qos: QoS) -> Self {
        Self {
            topic,
            payload: payload.into(),
            qos,
            retain: false,
            dup: false,
            properties: Properties::default(),
            token: None,
        }
    }
}
