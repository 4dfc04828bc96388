//! What the broker does with each packet of a client.

use tars_contracts::TopicFilter;
use tars_ports::{QoS, Refused};
use tokio::time::Instant;

use super::packet::{Packet, PacketKind, Way};
use super::passage::by_kind;
use super::script::Moment;
use super::state::State;

/// QoS 0 messages that wait for one client to read; more are dropped, as Mosquitto does.
const QOS0_WAITING: usize = 10_000;

impl State {
    pub(super) fn receive(&mut self, link: u64, packet: Packet) {
        let Some(client_id) = self.links.get(&link).map(|link| link.client_id.clone()) else {
            return;
        };
        match packet {
            Packet::Publish { id, message, .. } => match message.qos {
                QoS::AtMostOnce => self.publish(Some(&client_id), message),
                QoS::AtLeastOnce => {
                    self.publish(Some(&client_id), message);
                    self.send(link, Packet::Puback(id));
                }
                QoS::ExactlyOnce => {
                    // Published at PUBREL (section 4.3.3, method A). The same id
                    // before that is the same message.
                    if let Some(session) = self.sessions.get_mut(&client_id) {
                        session.received.entry(id).or_insert(message);
                    }
                    self.send(link, Packet::Pubrec(id));
                }
            },
            Packet::Pubrel(id) => {
                let message = self
                    .sessions
                    .get_mut(&client_id)
                    .and_then(|session| session.received.remove(&id));
                if let Some(message) = message {
                    self.publish(Some(&client_id), message);
                }
                self.send(link, Packet::Pubcomp(id));
            }
            Packet::Puback(id) | Packet::Pubcomp(id) => {
                if let Some(session) = self.sessions.get_mut(&client_id) {
                    session.done(id);
                }
                self.fill(&client_id);
            }
            Packet::Pubrec(id) => {
                if let Some(session) = self.sessions.get_mut(&client_id) {
                    session.release(id);
                }
                self.send(link, Packet::Pubrel(id));
            }
            Packet::Subscribe { id, filters } => self.subscribe(link, &client_id, id, filters),
            Packet::Unsubscribe { id, filters } => {
                if let Some(session) = self.sessions.get_mut(&client_id) {
                    filters.iter().for_each(|filter| session.unsubscribe(filter));
                }
                self.send(link, Packet::Unsuback(id));
            }
            Packet::Pingreq => self.send(link, Packet::Pingresp),
            Packet::Disconnect => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.will = None;
                }
            }
            // What only a broker sends; the in-memory client never does.
            Packet::Suback { .. } | Packet::Unsuback(_) | Packet::Pingresp => {}
        }
    }

    fn subscribe(&mut self, link: u64, client_id: &str, id: u16, filters: Vec<(TopicFilter, QoS)>) {
        let mut results = Vec::with_capacity(filters.len());
        let judged = by_kind(client_id, PacketKind::Subscribe);
        let all_refused = self.script.take(Moment::Judged, &judged).is_some();
        for (filter, qos) in &filters {
            if all_refused || self.refused_filters.contains(filter.as_str()) {
                results.push(Err(Refused::default()));
                continue;
            }
            if let Some(session) = self.sessions.get_mut(client_id) {
                session.subscribe(filter, *qos);
            }
            results.push(Ok(*qos));
        }
        let granted: Vec<bool> = results.iter().map(Result::is_ok).collect();
        self.send(link, Packet::Suback { id, results });
        for ((filter, qos), granted) in filters.iter().zip(granted) {
            if granted {
                self.replay_retained(client_id, filter, *qos);
            }
        }
        let packets = self.record.subscribes.entry(client_id.to_owned()).or_default();
        packets.push(filters);
    }

    /// Sends what waits for the client, as far as its window has room.
    pub(super) fn fill(&mut self, client_id: &str) {
        let Some(session) = self.sessions.get_mut(client_id) else {
            return;
        };
        let Some(link) = session.link else { return };
        for packet in session.fill(self.config.window) {
            self.send(link, packet);
        }
    }

    /// Puts a packet on its way to the client.
    pub(super) fn send(&mut self, link: u64, packet: Packet) {
        let Some(entry) = self.links.get(&link).filter(|link| link.is_live()) else {
            return;
        };
        if packet.is_unacknowledged() && entry.qos0_waiting == QOS0_WAITING {
            self.record.dropped += 1;
            return;
        }
        entry.wake.notify_one();
        self.put(link, Way::ToClient, packet, Instant::now());
    }
}
