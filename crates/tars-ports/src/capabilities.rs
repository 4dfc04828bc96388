//! What an adapter can do, as data.

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtocolVersion {
    /// MQTT 3.1.1 (protocol level 4).
    V3_1_1,
    /// MQTT 5.0.
    V5,
}

/// What an adapter can do. What is not there is refused with
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when asked for, never
/// silently downgraded. All `false` by default; adapters set what they have, and a
/// test pins it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// A QoS 1/2 message can be acknowledged later than on receipt.
    pub manual_ack: bool,
    /// QoS 2 in both directions.
    pub qos2: bool,
    /// QoS 2 flows go on in the next connection ([`SessionState`](crate::SessionState)).
    pub qos2_resume: bool,
    /// A connection can end without DISCONNECT, so that the last will speaks.
    pub abrupt_close: bool,
    /// MQTT over TLS (`mqtts`, and `wss` together with `websocket`).
    pub tls: bool,
    /// MQTT over WebSocket (`ws`).
    pub websocket: bool,
    /// The versions it speaks, best first.
    pub versions: &'static [ProtocolVersion],
}
