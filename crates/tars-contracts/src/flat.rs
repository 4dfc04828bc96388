//! An envelope without building it: the fields that identify it, and `data` as a flat list of
//! nodes.
//!
//! No part of the API: it may change in any release.

pub use simd_json::{Node, StaticNode};

use crate::{ContractError, json};

/// What was read, borrowed from the reader's scratch.
#[derive(Debug, Clone, Copy)]
pub struct FlatEnvelope<'a> {
    /// The `id` field, if it is there and not `null`.
    pub id: Option<&'a str>,
    /// The `type` field, not empty.
    pub event_type: &'a str,
    /// An object and what is inside: its entries follow it, each a [`Node::String`] and a value,
    /// and so on inside of those. [`next`] leads from one value to that behind it. Nesting is
    /// bounded by [`MAX_DEPTH`](crate::MAX_DEPTH).
    pub data: &'a [Node<'a>],
}

/// Gives `read` the envelope; `None` for what [`Envelope::from_bytes`](crate::Envelope::from_bytes)
/// would not take for one with any data.
pub fn read<T>(payload: &[u8], read: impl FnOnce(FlatEnvelope<'_>) -> T) -> Option<T> {
    let read = json::with_tape(payload, |tape| {
        envelope(&tape.0).map(read).ok_or(ContractError::EmptyType)
    });
    read.ok()
}

/// Where the value that begins there ends.
#[inline]
#[must_use]
pub fn next(nodes: &[Node<'_>], at: usize) -> usize {
    match nodes[at] {
        Node::Object { count, .. } | Node::Array { count, .. } => at + 1 + count,
        Node::String(_) | Node::Static(_) => at + 1,
    }
}

// The rules are those of `envelope::Wire`; of a field that is there twice the last one counts.
fn envelope<'a>(nodes: &'a [Node<'a>]) -> Option<FlatEnvelope<'a>> {
    let Some(Node::Object { .. }) = nodes.first() else {
        return None;
    };
    let (mut id, mut event_type, mut data) = (None, None, None);
    let (mut at, end) = (1, next(nodes, 0));
    while at < end {
        let (Node::String(name), value) = (nodes[at], &nodes[at + 1]) else {
            return None;
        };
        match name {
            "id" => id = text(value)?,
            "type" => event_type = text(value)?,
            "source" | "correlate" => drop(text(value)?),
            "ts" | "timestamp" => match value {
                Node::Static(StaticNode::Bool(_)) => return None,
                Node::Static(_) => {}
                _ => return None,
            },
            "data" => match value {
                Node::Object { .. } => data = Some(at + 1..next(nodes, at + 1)),
                _ => return None,
            },
            _ => {}
        }
        at = next(nodes, at + 1);
    }
    Some(FlatEnvelope {
        id,
        event_type: event_type.filter(|event_type| !event_type.is_empty())?,
        data: &nodes[data?],
    })
}

/// A string or `null`; `None` for anything else.
fn text<'a>(value: &Node<'a>) -> Option<Option<&'a str>> {
    match value {
        Node::String(text) => Some(Some(text)),
        Node::Static(StaticNode::Null) => Some(None),
        _ => None,
    }
}
