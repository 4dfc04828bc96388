//! What the broker keeps of one client (MQTT 3.1.1 section 3.1.2.4): subscriptions,
//! what it has not acknowledged yet, and what waits for it.

use std::collections::{BTreeMap, VecDeque};

use tars_contracts::TopicFilter;
use tars_ports::{Message, QoS};

use super::packet::Packet;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) clean: bool,
    /// The link it is attached to; `None` while the client is away.
    pub(super) link: Option<u64>,
    /// In the order in which they were made.
    pub(super) subscriptions: Vec<(TopicFilter, QoS)>,
    /// QoS 2 messages of the client that it has not released yet.
    pub(super) received: BTreeMap<u16, Message>,
    /// QoS 1/2 messages that wait for the client or for the window.
    waiting: VecDeque<Message>,
    /// Sent and not yet acknowledged, in the order of sending.
    inflight: VecDeque<Inflight>,
    last_id: u16,
}

#[derive(Debug)]
struct Inflight {
    id: u16,
    message: Message,
    /// PUBREC has come: the message itself is never sent again.
    released: bool,
}

impl Session {
    pub(super) fn new(clean: bool) -> Self {
        Self {
            clean,
            link: None,
            subscriptions: Vec::new(),
            received: BTreeMap::new(),
            waiting: VecDeque::new(),
            inflight: VecDeque::new(),
            last_id: 0,
        }
    }

    /// Subscribes, or replaces the QoS of a filter that is subscribed.
    pub(super) fn subscribe(&mut self, filter: &TopicFilter, qos: QoS) {
        match self.subscriptions.iter_mut().find(|(held, _)| held == filter) {
            Some((_, held)) => *held = qos,
            None => self.subscriptions.push((filter.clone(), qos)),
        }
    }

    pub(super) fn unsubscribe(&mut self, filter: &TopicFilter) {
        self.subscriptions.retain(|(held, _)| held != filter);
    }

    /// Takes a QoS 1/2 message in; [`fill`](Self::fill) sends it.
    pub(super) fn enqueue(&mut self, message: Message) {
        self.waiting.push_back(message);
    }

    /// What may be sent now: waiting messages as far as the window has room.
    pub(super) fn fill(&mut self, window: u16) -> Vec<Packet> {
        let mut packets = Vec::new();
        while self.link.is_some() && self.inflight.len() < usize::from(window) {
            let Some(message) = self.waiting.pop_front() else { break };
            let id = self.fresh_id();
            self.inflight.push_back(Inflight {
                id,
                message: message.clone(),
                released: false,
            });
            packets.push(Packet::Publish {
                id,
                dup: false,
                message,
            });
        }
        packets
    }

    /// What a client that came back gets first (section 4.4): PUBLISH with DUP, or
    /// PUBREL, in the order of the first sending.
    pub(super) fn resend(&self) -> Vec<Packet> {
        self.inflight
            .iter()
            .map(|flight| match flight.released {
                true => Packet::Pubrel(flight.id),
                false => Packet::Publish {
                    id: flight.id,
                    dup: true,
                    message: flight.message.clone(),
                },
            })
            .collect()
    }

    /// PUBACK or PUBCOMP: the message is done.
    pub(super) fn done(&mut self, id: u16) {
        self.inflight.retain(|flight| flight.id != id);
    }

    /// PUBREC: the client has the message.
    pub(super) fn release(&mut self, id: u16) {
        if let Some(flight) = self.inflight.iter_mut().find(|flight| flight.id == id) {
            flight.released = true;
        }
    }

    /// Sent and not acknowledged, and waiting.
    pub(super) fn backlog(&self) -> (usize, usize) {
        (self.inflight.len(), self.waiting.len())
    }

    fn fresh_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.inflight.iter().all(|flight| flight.id != self.last_id) {
                return self.last_id;
            }
        }
    }
}
