//! What may pass from one connection to the next.

use crate::Message;

/// A QoS 2 publish whose handshake was cut (MQTT 3.1.1 section 4.3.3).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OutboundQos2 {
    /// Its packet id: the flow must go on under the same one.
    pub packet_id: u16,
    /// PUBREC was received: go on with PUBREL. Else the PUBLISH is sent again with DUP.
    pub released: bool,
    /// The message, with its [`key`](Message::key).
    pub message: Message,
}

impl OutboundQos2 {
    /// All parts of it.
    #[must_use]
    pub fn new(packet_id: u16, released: bool, message: Message) -> Self {
        Self {
            packet_id,
            released,
            message,
        }
    }
}

/// The client's half of a session, as far as a later connection needs it. The
/// facade carries it from [`Ended`](crate::Ended) to the next
/// [`Connector::connect`](crate::Connector::connect) and never looks inside.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SessionState {
    /// Own QoS 2 publishes in the order in which they were sent.
    pub outbound: Vec<OutboundQos2>,
    /// Packet ids of received QoS 2 messages that were acknowledged with PUBREC
    /// and not yet released: the same id again is the same message.
    pub inbound: Vec<u16>,
}

impl SessionState {
    /// Nothing to carry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
