//! What passes over a link of the in-memory broker: the packets of MQTT 3.1.1 as
//! values. There are no bytes, and CONNECT and CONNACK are a function call.

use tars_contracts::TopicFilter;
use tars_ports::{Message, QoS, Refused};

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

/// Bytes of a SUBSCRIBE or UNSUBSCRIBE in front of its filters, at most.
pub(super) const REQUEST_OVERHEAD: usize = 7;

/// Bytes that one filter takes in a SUBSCRIBE (one less in an UNSUBSCRIBE).
pub(super) fn filter_size(filter: &TopicFilter) -> usize {
    2 + filter.as_str().len() + 1
}
