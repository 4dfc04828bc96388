//! How packets get from one end of a link to the other, and what goes wrong on the way.

use std::collections::VecDeque;

use tars_ports::Message;
use tokio::time::Instant;

use super::observe::Arrived;
use super::packet::{Packet, PacketKind, Way};
use super::script::{Effect, Moment, Sight};
use super::state::State;

/// Packets that the record keeps; older ones leave it.
const RECORD_LENGTH: usize = 65_536;

const CUT: &str = "the link was cut";

type Queue = VecDeque<(Instant, Packet)>;

impl State {
    /// The client writes.
    pub(super) fn write(&mut self, link: u64, packets: Vec<Packet>, now: Instant) {
        for packet in packets {
            self.put(link, Way::ToBroker, packet, now);
        }
    }

    /// Puts a packet on its way.
    pub(super) fn put(&mut self, link: u64, way: Way, packet: Packet, now: Instant) {
        let Some(link) = self.links.get_mut(&link) else { return };
        let queue = match way {
            Way::ToBroker => &mut link.to_broker,
            Way::ToClient => &mut link.to_client,
        };
        let place = place_before(queue, &packet);
        let mut sight = sight(&link.client_id, way, &packet);
        sight.may_overtake = place < queue.len();
        let effect = self.script.take(Moment::Sent, &sight);
        if effect == Some(Effect::Lose) {
            return;
        }
        if way == Way::ToClient && packet.is_unacknowledged() {
            link.qos0_waiting += 1;
        }
        let due = now + self.config.latency;
        match effect {
            Some(Effect::Overtake) => {
                // It has the time of the one that it overtakes: both arrive in this order.
                let due = queue.get(place).map_or(due, |(due, _)| *due);
                queue.insert(place, (due, packet));
            }
            Some(Effect::Duplicate) => {
                queue.push_back((due, packet.clone()));
                queue.push_back((due, packet.again()));
            }
            _ => queue.push_back((due, packet)),
        }
    }

    /// A packet comes to the broker.
    pub(super) fn take_in(&mut self, link: u64, packet: Packet) {
        let cut = self.cut(link, Way::ToBroker, &packet);
        if cut != Some(Effect::CutBefore) {
            self.receive(link, packet);
        }
        if cut.is_some() {
            self.end_link(link, CUT, true);
        }
    }

    /// The client reads one packet.
    pub(super) fn read(&mut self, link: u64, now: Instant) -> Option<Packet> {
        if self.frozen {
            return None;
        }
        let entry = self.links.get_mut(&link)?;
        if entry.to_client.front()?.0 > now {
            return None;
        }
        let (_, packet) = entry.to_client.pop_front()?;
        if packet.is_unacknowledged() {
            entry.qos0_waiting -= 1;
        }
        let cut = self.cut(link, Way::ToClient, &packet);
        if cut.is_some() {
            self.end_link(link, CUT, true);
        }
        (cut != Some(Effect::CutBefore)).then_some(packet)
    }

    /// Whether the link dies with this packet. One that arrives is written down.
    fn cut(&mut self, link: u64, way: Way, packet: &Packet) -> Option<Effect> {
        let client_id = self.links.get(&link)?.client_id.clone();
        let cut = self.script.take(Moment::Arrives, &sight(&client_id, way, packet));
        if cut != Some(Effect::CutBefore) {
            self.note(&client_id, way, packet.kind(), Some(packet));
        }
        cut
    }

    pub(super) fn note(&mut self, client_id: &str, way: Way, kind: PacketKind, packet: Option<&Packet>) {
        if !self.config.record_packets {
            return;
        }
        if self.record.arrived.len() == RECORD_LENGTH {
            self.record.arrived.pop_front();
        }
        self.record.arrived.push_back(Arrived {
            at: Instant::now(),
            client_id: client_id.to_owned(),
            way,
            kind,
            packet_id: packet.and_then(Packet::id),
            message: packet.and_then(Packet::message).cloned(),
        });
    }
}

/// What has no [`Packet`] of its own, CONNECT and CONNACK, and what its kind alone says.
pub(super) fn by_kind(client_id: &str, kind: PacketKind) -> Sight<'_> {
    Sight {
        client_id,
        way: kind.way().unwrap_or(Way::ToBroker),
        kind,
        qos: None,
        may_overtake: false,
    }
}

fn sight<'a>(client_id: &'a str, way: Way, packet: &Packet) -> Sight<'a> {
    Sight {
        client_id,
        way,
        kind: packet.kind(),
        qos: packet.message().map(|message| message.qos),
        may_overtake: false,
    }
}

/// Where a PUBLISH may go at the earliest: behind the last one of its topic and QoS, and
/// behind everything that is no PUBLISH.
fn place_before(queue: &Queue, packet: &Packet) -> usize {
    let free = |other: &Message, own: &Message| other.topic != own.topic || other.qos != own.qos;
    let behind = |(_, other): &(Instant, Packet)| match (other.message(), packet.message()) {
        (Some(other), Some(own)) => !free(other, own),
        _ => true,
    };
    queue.iter().rposition(behind).map_or(0, |last| last + 1)
}
