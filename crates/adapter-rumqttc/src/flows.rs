//! Exchanges that wait for the broker, by packet id.
//!
//! Publishes, SUBSCRIBE and UNSUBSCRIBE share one table, so an id that is in use
//! for anything is never given out again, however long its answer takes: an id
//! that returns too early makes one message swallow another (MQTT 3.1.1 section
//! 2.3.1). Answers that fit nothing here are the caller's to ignore.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use tars_ports::{Error, Fate, Message, OutboundQos2, QoS, Refused, Settled, Settler};
use tokio::sync::oneshot;

/// Publishes leave some ids to SUBSCRIBE and UNSUBSCRIBE.
const MAX_WINDOW: usize = 65_000;

pub(crate) type Granted = Vec<Result<QoS, Refused>>;

pub(crate) enum Flow {
    /// QoS 1, waiting for PUBACK.
    Puback {
        settler: Settler,
        end: u64,
    },
    /// QoS 2, waiting for PUBREC, or once `released` for PUBCOMP.
    Qos2 {
        settler: Settler,
        message: Message,
        released: bool,
        /// Where the PUBLISH ends in the output; `None` if an earlier connection wrote it.
        end: Option<u64>,
    },
    Suback {
        filters: usize,
        reply: oneshot::Sender<Result<Granted, Error>>,
    },
    Unsuback {
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

/// How many more publishes may be in flight. Where there is no room for QoS 2,
/// there is none for QoS 1 either ([`Outbox::take_publishes`](crate::outbox::Outbox::take_publishes)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) total: usize,
    pub(crate) qos2: usize,
}

/// What a PUBREC asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OnPubrec {
    /// PUBREL: the flow goes on, or the id is unknown and PUBREL lets the broker forget it.
    Release { known: bool },
    /// Nothing: the id stands for something else.
    Ignore,
}

pub(crate) struct Flows {
    entries: HashMap<u16, (u64, Flow), RandomState>,
    last_id: u16,
    next_sequence: u64,
    publishes: usize,
    qos2: usize,
    window: usize,
    window_qos2: usize,
}

impl Flows {
    pub(crate) fn new(max_inflight: u16, max_inflight_qos2: u16) -> Self {
        Self {
            entries: HashMap::default(),
            last_id: 0,
            next_sequence: 0,
            publishes: 0,
            qos2: 0,
            // A window of nothing would be a stalled connection.
            window: usize::from(max_inflight).clamp(1, MAX_WINDOW),
            window_qos2: usize::from(max_inflight_qos2).clamp(1, MAX_WINDOW),
        }
    }

    /// An id that nothing uses, going round through 1..=65535.
    pub(crate) fn free_id(&mut self) -> Option<u16> {
        if self.entries.len() == usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.entries.contains_key(&self.last_id) {
                return Some(self.last_id);
            }
        }
    }

    /// Takes a flow in. `false` if the id is in use or none.
    pub(crate) fn insert(&mut self, id: u16, flow: Flow) -> bool {
        if id == 0 || self.entries.contains_key(&id) {
            return false;
        }
        self.count(&flow, true);
        self.entries.insert(id, (self.next_sequence, flow));
        self.next_sequence += 1;
        true
    }

    pub(crate) fn room(&self) -> Room {
        Room {
            total: self.window.saturating_sub(self.publishes),
            qos2: self.window_qos2.saturating_sub(self.qos2),
        }
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.entries.is_empty()
    }

    /// `false` if no QoS 1 publish waits under this id.
    pub(crate) fn puback(&mut self, id: u16) -> bool {
        match self.take_if(id, |flow| matches!(flow, Flow::Puback { .. })) {
            Some(Flow::Puback { settler, .. }) => {
                settler.settle(Ok(Settled::default()));
                true
            }
            _ => false,
        }
    }

    pub(crate) fn pubrec(&mut self, id: u16) -> OnPubrec {
        match self.entries.get_mut(&id) {
            Some((_, Flow::Qos2 { released, .. })) => {
                *released = true;
                OnPubrec::Release { known: true }
            }
            Some(_) => OnPubrec::Ignore,
            None => OnPubrec::Release { known: false },
        }
    }

    /// `false` if no released QoS 2 publish waits under this id. A PUBCOMP ahead of
    /// its PUBREC answers an earlier owner of the id.
    pub(crate) fn pubcomp(&mut self, id: u16) -> bool {
        match self.take_if(id, |flow| matches!(flow, Flow::Qos2 { released: true, .. })) {
            Some(Flow::Qos2 { settler, .. }) => {
                settler.settle(Ok(Settled::default()));
                true
            }
            _ => false,
        }
    }

    /// The number of filters and the waiter of the SUBSCRIBE under this id.
    pub(crate) fn suback(&mut self, id: u16) -> Option<(usize, oneshot::Sender<Result<Granted, Error>>)> {
        match self.take_if(id, |flow| matches!(flow, Flow::Suback { .. })) {
            Some(Flow::Suback { filters, reply }) => Some((filters, reply)),
            _ => None,
        }
    }

    /// The waiter of the UNSUBSCRIBE under this id.
    pub(crate) fn unsuback(&mut self, id: u16) -> Option<oneshot::Sender<Result<(), Error>>> {
        match self.take_if(id, |flow| matches!(flow, Flow::Unsuback { .. })) {
            Some(Flow::Unsuback { reply }) => Some(reply),
            _ => None,
        }
    }

    /// Settles everything with `error` and hands out, in the order of sending, the
    /// QoS 2 flows that the next connection may go on with. What was not written
    /// as a whole cannot have arrived.
    pub(crate) fn end(&mut self, error: &Error, is_written: impl Fn(u64) -> bool) -> Vec<OutboundQos2> {
        let mut entries: Vec<_> = self.entries.drain().collect();
        entries.sort_unstable_by_key(|(_, (sequence, _))| *sequence);
        (self.publishes, self.qos2) = (0, 0);
        let mut session = Vec::new();
        let settle = |settler: Settler, written: bool| {
            let fate = if written { Fate::Unknown } else { Fate::NotSent };
            settler.settle(Err(error.clone().with_fate(fate)));
        };
        for (id, (_, flow)) in entries {
            match flow {
                Flow::Puback { settler, end } => settle(settler, is_written(end)),
                Flow::Qos2 {
                    settler,
                    message,
                    released,
                    end,
                } => {
                    let written = end.is_none_or(&is_written);
                    settle(settler, written);
                    if written {
                        session.push(OutboundQos2::new(id, released, message));
                    }
                }
                // A caller that no longer waits is no failure.
                Flow::Suback { reply, .. } => drop(reply.send(Err(error.clone()))),
                Flow::Unsuback { reply } => drop(reply.send(Err(error.clone()))),
            }
        }
        session
    }

    fn take_if(&mut self, id: u16, wanted: impl FnOnce(&Flow) -> bool) -> Option<Flow> {
        if !self.entries.get(&id).is_some_and(|(_, flow)| wanted(flow)) {
            return None;
        }
        let (_, flow) = self.entries.remove(&id)?;
        self.count(&flow, false);
        Some(flow)
    }

    fn count(&mut self, flow: &Flow, more: bool) {
        let (publishes, qos2) = match flow {
            Flow::Puback { .. } => (1, 0),
            Flow::Qos2 { .. } => (1, 1),
            Flow::Suback { .. } | Flow::Unsuback { .. } => (0, 0),
        };
        if more {
            self.publishes += publishes;
            self.qos2 += qos2;
        } else {
            self.publishes -= publishes;
            self.qos2 -= qos2;
        }
    }
}

#[cfg(test)]
mod tests;
