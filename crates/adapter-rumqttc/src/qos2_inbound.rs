//! Received QoS 2 messages by packet id, so that none is delivered twice
//! (MQTT 3.1.1 section 4.3.3, the receiver's side).

use std::collections::HashMap;

use tars_ports::AckToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// With the application.
    Delivered(AckToken),
    /// The application is done; PUBREC waits for earlier ones.
    Done,
    /// PUBREC was handed out.
    Acknowledged,
}

/// What to do with a PUBLISH.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is new: deliver it.
    Deliver,
    /// It was acknowledged before: PUBREC again.
    AcknowledgeAgain,
    /// It was delivered before and its PUBREC will come in time.
    Ignore,
}

#[derive(Debug, Default)]
pub(crate) struct Qos2Inbound {
    phases: HashMap<u16, Phase>,
    tokens: HashMap<AckToken, u16>,
}

impl Qos2Inbound {
    /// With the ids that an earlier connection acknowledged.
    pub(crate) fn new(acknowledged: &[u16]) -> Self {
        Self {
            phases: acknowledged.iter().map(|id| (*id, Phase::Acknowledged)).collect(),
            tokens: HashMap::new(),
        }
    }

    pub(crate) fn on_publish(&self, id: u16) -> Verdict {
        match self.phases.get(&id) {
            None => Verdict::Deliver,
            Some(Phase::Acknowledged) => Verdict::AcknowledgeAgain,
            Some(Phase::Delivered(_) | Phase::Done) => Verdict::Ignore,
        }
    }

    pub(crate) fn delivered(&mut self, id: u16, token: AckToken) {
        self.phases.insert(id, Phase::Delivered(token));
        self.tokens.insert(token, id);
    }

    /// The application is done with it.
    pub(crate) fn done(&mut self, token: AckToken) {
        let Some(id) = self.tokens.remove(&token) else {
            return;
        };
        // The id may stand for another message by now, if the broker released it early.
        if self.phases.get(&id) == Some(&Phase::Delivered(token)) {
            self.phases.insert(id, Phase::Done);
        }
    }

    /// Its PUBREC was handed out.
    pub(crate) fn acknowledged(&mut self, id: u16) {
        if self.phases.get(&id) == Some(&Phase::Done) {
            self.phases.insert(id, Phase::Acknowledged);
        }
    }

    /// PUBREL came. `false` if the id was not known.
    pub(crate) fn release(&mut self, id: u16) -> bool {
        self.phases.remove(&id).is_some()
    }

    /// What the next connection must not deliver again: everything the application
    /// is done with, whether or not its PUBREC got away.
    pub(crate) fn session(&self) -> Vec<u16> {
        let done = self
            .phases
            .iter()
            .filter(|(_, phase)| !matches!(phase, Phase::Delivered(_)));
        let mut ids: Vec<u16> = done.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use tars_ports::{AckSequencer, QoS};

    use super::*;

    fn token(sequencer: &mut AckSequencer, id: u16) -> AckToken {
        sequencer.register(QoS::ExactlyOnce, id, 0).expect("QoS 2 has a token")
    }

    #[test]
    fn one_delivery_for_each_id_until_it_is_released() {
        let mut sequencer = AckSequencer::new(1);
        let mut inbound = Qos2Inbound::new(&[9]);
        assert_eq!(inbound.on_publish(9), Verdict::AcknowledgeAgain);
        assert_eq!(inbound.on_publish(5), Verdict::Deliver);
        let first = token(&mut sequencer, 5);
        inbound.delivered(5, first);
        assert_eq!(inbound.on_publish(5), Verdict::Ignore);
        assert_eq!(inbound.session(), [9]);
        inbound.done(first);
        assert_eq!(inbound.on_publish(5), Verdict::Ignore);
        assert_eq!(inbound.session(), [5, 9]);
        inbound.acknowledged(5);
        assert_eq!(inbound.on_publish(5), Verdict::AcknowledgeAgain);
        assert!(inbound.release(5));
        assert!(!inbound.release(5));
        assert_eq!(inbound.on_publish(5), Verdict::Deliver);
    }

    #[test]
    fn a_late_ack_does_not_mark_the_next_owner_of_the_id() {
        let mut sequencer = AckSequencer::new(1);
        let mut inbound = Qos2Inbound::default();
        let (old, new) = (token(&mut sequencer, 5), token(&mut sequencer, 5));
        inbound.delivered(5, old);
        inbound.release(5);
        inbound.delivered(5, new);
        inbound.done(old);
        assert!(inbound.session().is_empty());
        inbound.done(new);
        assert_eq!(inbound.session(), [5]);
    }
}
