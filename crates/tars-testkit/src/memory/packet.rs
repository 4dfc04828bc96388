//! What passes over a link of the in-memory broker: the packets of MQTT 3.1.1 as
//! values. There are no bytes, and CONNECT and CONNACK are a function call.

use tars_contracts::TopicFilter;
use tars_ports::{Message, QoS, Refused};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
}

/// The kinds of packets (MQTT 3.1.1 section 2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are MQTT's own names")]
pub enum PacketKind {
    Connect,
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Pingreq,
    Pingresp,
    Disconnect,
}

impl PacketKind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Connect,
        Self::Connack,
        Self::Publish,
        Self::Puback,
        Self::Pubrec,
        Self::Pubrel,
        Self::Pubcomp,
        Self::Subscribe,
        Self::Suback,
        Self::Unsubscribe,
        Self::Unsuback,
        Self::Pingreq,
        Self::Pingresp,
        Self::Disconnect,
    ];

    /// The only direction in which it goes; `None` for what belongs to publishing, which
    /// goes both ways.
    #[must_use]
    pub fn way(self) -> Option<Way> {
        match self {
            Self::Publish | Self::Puback | Self::Pubrec | Self::Pubrel | Self::Pubcomp => None,
            Self::Connect | Self::Subscribe | Self::Unsubscribe | Self::Pingreq | Self::Disconnect => {
                Some(Way::ToBroker)
            }
            Self::Connack | Self::Suback | Self::Unsuback | Self::Pingresp => Some(Way::ToClient),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Packet {
    /// `id` is 0 for QoS 0.
    Publish {
        id: u16,
        dup: bool,
        message: Message,
    },
    Puback(u16),
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
    Subscribe {
        id: u16,
        filters: Vec<(TopicFilter, QoS)>,
    },
    Suback {
        id: u16,
        results: Vec<Result<QoS, Refused>>,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<TopicFilter>,
    },
    Unsuback(u16),
    Pingreq,
    Pingresp,
    Disconnect,
}

impl Packet {
    pub(super) fn kind(&self) -> PacketKind {
        match self {
            Self::Publish { .. } => PacketKind::Publish,
            Self::Puback(_) => PacketKind::Puback,
            Self::Pubrec(_) => PacketKind::Pubrec,
            Self::Pubrel(_) => PacketKind::Pubrel,
            Self::Pubcomp(_) => PacketKind::Pubcomp,
            Self::Subscribe { .. } => PacketKind::Subscribe,
            Self::Suback { .. } => PacketKind::Suback,
            Self::Unsubscribe { .. } => PacketKind::Unsubscribe,
            Self::Unsuback(_) => PacketKind::Unsuback,
            Self::Pingreq => PacketKind::Pingreq,
            Self::Pingresp => PacketKind::Pingresp,
            Self::Disconnect => PacketKind::Disconnect,
        }
    }

    /// The message of a PUBLISH.
    pub(super) fn message(&self) -> Option<&Message> {
        match self {
            Self::Publish { message, .. } => Some(message),
            _ => None,
        }
    }

    /// A QoS 0 PUBLISH.
    pub(super) fn is_unacknowledged(&self) -> bool {
        matches!(self, Self::Publish { id: 0, .. })
    }

    /// The packet id; `None` where there is none.
    pub(super) fn id(&self) -> Option<u16> {
        match self {
            Self::Publish { id: 0, .. } | Self::Pingreq | Self::Pingresp | Self::Disconnect => None,
            Self::Publish { id, .. }
            | Self::Puback(id)
            | Self::Pubrec(id)
            | Self::Pubrel(id)
            | Self::Pubcomp(id)
            | Self::Subscribe { id, .. }
            | Self::Suback { id, .. }
            | Self::Unsubscribe { id, .. }
            | Self::Unsuback(id) => Some(*id),
        }
    }

    /// As it is sent the second time.
    pub(super) fn again(mut self) -> Self {
        if let Self::Publish { dup, .. } = &mut self {
            *dup = true;
        }
        self
    }
}

/// Bytes of a SUBSCRIBE or UNSUBSCRIBE in front of its filters, at most.
pub(super) const REQUEST_OVERHEAD: usize = 7;

/// Bytes that one filter takes in a SUBSCRIBE (one less in an UNSUBSCRIBE).
pub(super) fn filter_size(filter: &TopicFilter) -> usize {
    2 + filter.as_str().len() + 1
}
