//! What is published: topic, bytes, quality of service.

use bytes::Bytes;
use tars_contracts::{QoS, TopicName};

/// Properties of MQTT 5 messages. Empty today: MQTT 3.1.1 has none. They will be
/// fields here (user properties, expiry, response topic), so that no signature changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Properties {}

/// A message on its way out. Cloning it copies no payload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Where to.
    pub topic: TopicName,
    /// The bytes, as they go over the wire.
    pub payload: Bytes,
    /// Default [`QoS::AtMostOnce`].
    pub qos: QoS,
    /// Whether the broker keeps it for later subscribers. Default `false`.
    pub retain: bool,
    /// MQTT 5 properties.
    pub properties: Properties,
    /// The publisher's own number for this message. It is not sent; it comes back
    /// in [`Connected::resumed`](crate::Connected::resumed) when a QoS 2 flow goes
    /// on in a later connection. Default 0.
    pub key: u64,
}

impl Message {
    /// A QoS 0 message, not retained.
    #[must_use]
    pub fn new(topic: TopicName, payload: impl Into<Bytes>) -> Self {
        Self {
            topic,
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: Properties::default(),
            key: 0,
        }
    }

    /// Sets the quality of service.
    #[must_use]
    pub fn with_qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Sets the retain flag.
    #[must_use]
    pub fn with_retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// Sets the publisher's own number.
    #[must_use]
    pub fn with_key(mut self, key: u64) -> Self {
        self.key = key;
        self
    }

    /// Bytes of the PUBLISH packet that carries this (MQTT 3.1.1 section 3.3), the
    /// figure that counts against a packet limit.
    #[must_use]
    pub fn packet_size(&self) -> usize {
        let id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let remaining = 2 + self.topic.as_str().len() + id + self.payload.len();
        let length_bytes = match remaining {
            0..128 => 1,
            128..16_384 => 2,
            16_384..2_097_152 => 3,
            _ => 4,
        };
        1 + length_bytes + remaining
    }
}
