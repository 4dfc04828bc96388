//! [`QoS`]: how hard the protocol tries.

/// Quality of service (MQTT 3.1.1 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: sent once, never acknowledged.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: sent until acknowledged; may arrive more than once.
    AtLeastOnce = 1,
    /// QoS 2: a four-packet handshake; arrives once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The number on the wire: 0, 1 or 2.
    #[must_use]
    pub fn as_u8(self) -> u8 {
        self as u8
    }

    /// From the number on the wire; `None` above 2.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

impl std::fmt::Display for QoS {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.as_u8())
    }
}
