//! Faults that wait for a packet.
//!
//! A [`Fault`] says what goes wrong (the link dies before or after the packet, the
//! packet is lost, comes twice, overtakes others, is refused) and with which packet: the
//! n-th of its kind, of one client, in one direction. It happens once. [`Faults`] makes
//! them from a seed.
//!
//! **What MQTT allows** is all that can be asked for. TCP loses nothing and keeps its
//! order, so on one connection
//! - only a QoS 0 PUBLISH is lost (section 4.3.1);
//! - only a QoS 1 PUBLISH comes twice, the second time with DUP (section 4.3.2). One of
//!   QoS 2 is only sent again on a new connection: cut after its PUBREC or before it;
//! - a PUBLISH overtakes only those of another topic or another QoS (section 4.6). The
//!   order within one changes only by a redelivery;
//! - everything else that gets lost gets lost with its link: cut it.

use tars_ports::{QoS, Refusal};

use super::packet::{PacketKind, Way};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    CutBefore,
    CutAfter,
    Lose,
    Duplicate,
    Overtake,
    /// CONNECT with this code, SUBSCRIBE with 0x80 for each filter.
    Refuse(Refusal),
}

/// One thing that goes wrong with one packet. See [`MemoryBroker::inject`](super::MemoryBroker::inject).
///
/// Without more it waits for the next such packet of any client, in any direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    effect: Effect,
    kind: PacketKind,
    way: Option<Way>,
    client_id: Option<String>,
    nth: u32,
}

impl Fault {
    fn new(effect: Effect, kind: PacketKind) -> Self {
        Self {
            effect,
            kind,
            way: None,
            client_id: None,
            nth: 1,
        }
    }

    /// The link dies when the packet is about to arrive: whoever sent it cannot know.
    #[must_use]
    pub fn cut_before(kind: PacketKind) -> Self {
        Self::new(Effect::CutBefore, kind)
    }

    /// The packet arrives and does its work, then the link dies: an answer is lost.
    #[must_use]
    pub fn cut_after(kind: PacketKind) -> Self {
        Self::new(Effect::CutAfter, kind)
    }

    /// A QoS 0 PUBLISH is lost.
    #[must_use]
    pub fn lose() -> Self {
        Self::new(Effect::Lose, PacketKind::Publish)
    }

    /// A QoS 1 PUBLISH comes twice.
    #[must_use]
    pub fn duplicate() -> Self {
        Self::new(Effect::Duplicate, PacketKind::Publish)
    }

    /// A PUBLISH overtakes those of another topic or QoS that wait in front of it. One
    /// that has none to overtake does not count.
    #[must_use]
    pub fn overtake() -> Self {
        Self::new(Effect::Overtake, PacketKind::Publish)
    }

    /// A CONNECT is refused.
    #[must_use]
    pub fn refuse_connect(refusal: Refusal) -> Self {
        Self::new(Effect::Refuse(refusal), PacketKind::Connect)
    }

    /// A SUBSCRIBE gets 0x80 for each of its filters.
    #[must_use]
    pub fn refuse_subscribe() -> Self {
        Self::new(Effect::Refuse(Refusal::NotAuthorized), PacketKind::Subscribe)
    }

    /// The kind of packet that it refuses, if it does.
    #[must_use]
    pub fn refuses(&self) -> Option<PacketKind> {
        matches!(self.effect, Effect::Refuse(_)).then_some(self.kind)
    }

    /// Whether it makes a packet come twice on one connection.
    #[must_use]
    pub fn duplicates(&self) -> bool {
        self.effect == Effect::Duplicate
    }

    /// Only packets of this client, sent by it or to it.
    #[must_use]
    pub fn of(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Only packets in this direction.
    #[must_use]
    pub fn on_way(mut self, way: Way) -> Self {
        self.way = Some(way);
        self
    }

    /// The n-th such packet from now on; 1, the default, is the next one.
    #[must_use]
    pub fn nth(mut self, nth: u32) -> Self {
        self.nth = nth.max(1);
        self
    }
}

/// Faults of all kinds, without end, from a seed: the same seed makes the same ones.
#[derive(Debug, Clone)]
pub struct Faults(fastrand::Rng);

impl Faults {
    /// The ones of this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }
}

impl Iterator for Faults {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        let random = &mut self.0;
        let kind = PacketKind::ALL[random.usize(..PacketKind::ALL.len())];
        let fault = match random.u8(..16) {
            0..6 => Fault::cut_before(kind),
            6..11 => Fault::cut_after(kind),
            11 => Fault::lose(),
            12 => Fault::duplicate(),
            13 => Fault::overtake(),
            14 => Fault::refuse_connect(Refusal::Unavailable),
            _ => Fault::refuse_subscribe(),
        };
        let fault = fault.nth(random.u32(1..=8));
        Some(match (fault.kind.way(), random.bool()) {
            (None, true) => fault.on_way(Way::ToBroker),
            (None, false) => fault.on_way(Way::ToClient),
            (Some(way), _) => fault.on_way(way),
        })
    }
}

/// When a fault looks at packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// It is put on its way.
    Sent,
    /// It comes to the other end.
    Arrives,
    /// The broker judges it.
    Judged,
}

impl Effect {
    fn moment(self) -> Moment {
        match self {
            Self::CutBefore | Self::CutAfter => Moment::Arrives,
            Self::Lose | Self::Duplicate | Self::Overtake => Moment::Sent,
            Self::Refuse(_) => Moment::Judged,
        }
    }

    /// Whether MQTT lets this happen to a PUBLISH of this QoS.
    fn fits(self, qos: QoS) -> bool {
        match self {
            Self::Lose => qos == QoS::AtMostOnce,
            Self::Duplicate => qos == QoS::AtLeastOnce,
            _ => true,
        }
    }
}

/// A packet as faults see it.
pub(super) struct Sight<'a> {
    pub(super) client_id: &'a str,
    pub(super) way: Way,
    pub(super) kind: PacketKind,
    /// Of a PUBLISH.
    pub(super) qos: Option<QoS>,
    /// It has something to overtake.
    pub(super) may_overtake: bool,
}

/// The faults that have not happened yet.
#[derive(Debug, Default)]
pub(super) struct Script(Vec<Fault>);

impl Script {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What happens to this packet now. Where two wait for the same one, the second
    /// takes the next.
    pub(super) fn take(&mut self, moment: Moment, sight: &Sight<'_>) -> Option<Effect> {
        let mut due = None;
        for (at, fault) in self.0.iter_mut().enumerate() {
            let waits = fault.effect.moment() == moment && fault.is_for(sight);
            if waits && fault.nth > 1 {
                fault.nth -= 1;
            } else if waits {
                due = due.or(Some(at));
            }
        }
        Some(self.0.remove(due?).effect)
    }
}

impl Fault {
    fn is_for(&self, sight: &Sight<'_>) -> bool {
        self.kind == sight.kind
            && self.way.is_none_or(|way| way == sight.way)
            && self.client_id.as_deref().is_none_or(|id| id == sight.client_id)
            && sight.qos.is_none_or(|qos| self.effect.fits(qos))
            && (self.effect != Effect::Overtake || sight.may_overtake)
    }
}
