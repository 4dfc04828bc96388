//! Recognises the copies a broker sends of one message when filters overlap.
//!
//! With overlapping filters a 3.1.1 broker sends one copy in all, or one for each
//! filter, and nothing in a copy says which filter it is for (MQTT 3.1.1 section
//! 3.3.5). Every copy of an envelope is byte for byte the same and carries the
//! envelope's own id: so an equal payload on the same topic, soon after the first or
//! while that is being worked on, and at most once per overlapping filter, is a copy.
//! (A broker whose window is full sends a copy only when the first is acknowledged.) What has no id (raw payloads)
//! may have been published twice on purpose and is never taken for one.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tars_contracts::EnvelopeHead;
use tars_ports::{AckOutcome, Connection, Delivery, QoS};
use tokio::time::Instant;

use super::received::{Gone, Received};

/// Counted from when the first was let go of: what comes later was published again.
const WINDOW: Duration = Duration::from_secs(1);
const MAX_ENTRIES: usize = 1024;

struct Seen {
    hash: u64,
    qos: QoS,
    gone: Gone,
    /// Copies that may still come.
    remaining: usize,
    first: Weak<Received>,
}

impl Seen {
    fn is_over(&self, now: Instant) -> bool {
        let gone = self.gone.get();
        gone.is_some_and(|gone| now.saturating_duration_since(*gone) > WINDOW)
    }
}

/// What was delivered lately on topics that several filters match. One per connection.
#[derive(Default)]
pub(crate) struct Copies {
    seen: VecDeque<Seen>,
    hasher: RandomState,
}

impl Copies {
    /// Whether this delivery is a copy of one that was noted; if so, it is
    /// acknowledged together with that one. One of a higher QoS (the broker granted the
    /// other filter less) is none: the first, as best effort, may have been dropped.
    pub(crate) fn absorb(&mut self, delivery: &Delivery, connection: &dyn Connection, now: Instant) -> bool {
        while self.seen.front().is_some_and(|seen| seen.is_over(now)) {
            self.seen.pop_front();
        }
        let hash = self.hash(delivery);
        let Some(seen) = self
            .seen
            .iter_mut()
            .find(|seen| seen.hash == hash && seen.qos >= delivery.qos && seen.remaining > 0 && !seen.is_over(now))
        else {
            return false;
        };
        seen.remaining -= 1;
        if let Some(token) = delivery.token {
            match seen.first.upgrade() {
                Some(first) => first.join(token),
                None => connection.ack(token, AckOutcome::Done),
            }
        }
        true
    }

    /// Notes a message that `filters` overlapping filters match.
    pub(crate) fn note(&mut self, received: &Arc<Received>, filters: usize) {
        let is_envelope = EnvelopeHead::peek(&received.delivery.payload).is_some_and(|head| head.id.is_some());
        if !is_envelope {
            return;
        }
        if self.seen.len() == MAX_ENTRIES {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen {
            hash: self.hash(&received.delivery),
            qos: received.delivery.qos,
            gone: received.watch(),
            remaining: filters - 1,
            first: Arc::downgrade(received),
        });
    }

    fn hash(&self, delivery: &Delivery) -> u64 {
        self.hasher
            .hash_one((delivery.topic.as_str(), &delivery.payload, delivery.retain))
    }
}

#[cfg(test)]
mod tests {
    use tars_contracts::TopicName;
    use tars_ports::mock::MockConnection;

    use super::*;

    #[test]
    fn a_copy_of_a_higher_qos_is_not_given_up_for_one_that_may_be_dropped() {
        let connection: Arc<dyn Connection> = Arc::new(MockConnection::new());
        let topic: TopicName = "a/b".parse().unwrap();
        let delivery = |qos| Delivery::new(topic.clone(), r#"{"id":"1","type":"t","data":{}}"#, qos);
        let now = Instant::now();
        for (first, second, is_copy) in [
            (QoS::AtLeastOnce, QoS::AtLeastOnce, true),
            (QoS::AtLeastOnce, QoS::AtMostOnce, true),
            (QoS::AtMostOnce, QoS::AtLeastOnce, false),
        ] {
            let mut copies = Copies::default();
            let received = Arc::new(Received::new(
                delivery(first),
                connection.clone(),
                None,
                tracing::Span::none(),
            ));
            copies.note(&received, 2);
            assert_eq!(
                copies.absorb(&delivery(second), connection.as_ref(), now),
                is_copy,
                "{first} then {second}"
            );
        }
    }
}
