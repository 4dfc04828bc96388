//! Acknowledgements in the order MQTT demands, whatever order handlers finish in.

use std::collections::VecDeque;

use crate::{AckToken, QoS};

/// An acknowledgement that may now be sent: PUBACK for QoS 1, PUBREC for QoS 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The packet id of the PUBLISH it answers.
    pub packet_id: u16,
    /// Which of the two acknowledgements it is.
    pub qos: QoS,
}

#[derive(Debug)]
struct Slot {
    sequence: u64,
    packet_id: u16,
    bytes: usize,
    done: bool,
}

/// Holds back acknowledgements until all earlier deliveries of the same QoS are
/// done (MQTT 3.1.1 section 4.6: PUBACK and PUBREC leave in the order in which
/// the PUBLISH packets came). QoS 1 and QoS 2 do not wait for each other.
///
/// It also knows what is delivered and not yet acknowledged, which is what an
/// adapter's inbound budget is measured by. One per connection.
#[derive(Debug)]
pub struct AckSequencer {
    connection: u64,
    next: u64,
    queues: [VecDeque<Slot>; 2],
    bytes: usize,
}

impl AckSequencer {
    /// For the connection with this number; numbers must differ between connections.
    #[must_use]
    pub fn new(connection: u64) -> Self {
        Self {
            connection,
            next: 0,
            queues: [VecDeque::new(), VecDeque::new()],
            bytes: 0,
        }
    }

    /// Takes note of a delivery and names it. `None` for QoS 0, which nobody acknowledges.
    pub fn register(&mut self, qos: QoS, packet_id: u16, bytes: usize) -> Option<AckToken> {
        let queue = self.queue(qos)?;
        let sequence = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.queues[queue].push_back(Slot {
            sequence,
            packet_id,
            bytes,
            done: false,
        });
        Some(AckToken {
            connection: self.connection,
            sequence,
            qos,
        })
    }

    /// Marks a delivery as done and hands out, in order, every acknowledgement
    /// that may now leave. A token of another connection, or one that was used
    /// before, changes nothing.
    pub fn complete(&mut self, token: AckToken, mut send: impl FnMut(Acknowledgement)) {
        if token.connection != self.connection {
            return;
        }
        let Some(index) = self.queue(token.qos) else {
            return;
        };
        let queue = &mut self.queues[index];
        let Ok(at) = queue.binary_search_by_key(&token.sequence, |slot| slot.sequence) else {
            return;
        };
        queue[at].done = true;
        while queue.front().is_some_and(|slot| slot.done) {
            let Some(slot) = queue.pop_front() else { break };
            self.bytes -= slot.bytes;
            send(Acknowledgement {
                packet_id: slot.packet_id,
                qos: token.qos,
            });
        }
    }

    /// Deliveries whose acknowledgement has not been handed out.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// Their bytes, as given to [`register`](Self::register).
    #[must_use]
    pub fn unacknowledged_bytes(&self) -> usize {
        self.bytes
    }

    fn queue(&self, qos: QoS) -> Option<usize> {
        match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(0),
            QoS::ExactlyOnce => Some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(sequencer: &mut AckSequencer, token: AckToken) -> Vec<u16> {
        let mut sent = Vec::new();
        sequencer.complete(token, |ack| sent.push(ack.packet_id));
        sent
    }

    #[test]
    fn holds_back_until_earlier_ones_are_done() {
        let mut sequencer = AckSequencer::new(1);
        let tokens: Vec<_> = (1..=3)
            .filter_map(|id| sequencer.register(QoS::AtLeastOnce, id, 10))
            .collect();
        assert_eq!(complete(&mut sequencer, tokens[2]), Vec::<u16>::new());
        assert_eq!(complete(&mut sequencer, tokens[0]), [1]);
        assert_eq!(sequencer.unacknowledged(), 2);
        assert_eq!(sequencer.unacknowledged_bytes(), 20);
        assert_eq!(complete(&mut sequencer, tokens[1]), [2, 3]);
        assert_eq!(sequencer.unacknowledged_bytes(), 0);
    }

    #[test]
    fn a_second_use_and_a_stale_token_do_nothing() {
        let mut old = AckSequencer::new(1);
        let mut new = AckSequencer::new(2);
        let stale = old.register(QoS::AtLeastOnce, 7, 1).expect("QoS 1 has a token");
        let token = new.register(QoS::AtLeastOnce, 7, 1).expect("QoS 1 has a token");
        assert_eq!(complete(&mut new, stale), Vec::<u16>::new());
        assert_eq!(complete(&mut new, token), [7]);
        assert_eq!(complete(&mut new, token), Vec::<u16>::new());
        assert_eq!(new.register(QoS::AtMostOnce, 0, 1), None);
    }

    #[test]
    fn qos_2_does_not_wait_for_qos_1() {
        let mut sequencer = AckSequencer::new(1);
        let _one = sequencer.register(QoS::AtLeastOnce, 1, 1);
        let two = sequencer.register(QoS::ExactlyOnce, 2, 1).expect("QoS 2 has a token");
        assert_eq!(complete(&mut sequencer, two), [2]);
    }

    proptest! {
        #[test]
        fn whatever_the_order_of_completion_the_order_of_sending_is_that_of_arrival(
            order in Just((0..24usize).collect::<Vec<_>>()).prop_shuffle(),
            qos2 in proptest::collection::vec(any::<bool>(), 24),
        ) {
            let mut sequencer = AckSequencer::new(9);
            let tokens: Vec<_> = qos2.iter().enumerate().filter_map(|(i, two)| {
                let qos = if *two { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                sequencer.register(qos, i as u16 + 1, 1)
            }).collect();
            let mut sent = [Vec::new(), Vec::new()];
            for i in order {
                sequencer.complete(tokens[i], |ack| {
                    sent[usize::from(ack.qos == QoS::ExactlyOnce)].push(ack.packet_id);
                });
            }
            prop_assert_eq!(sent[0].len() + sent[1].len(), 24);
            prop_assert!(sent.iter().all(|ids| ids.is_sorted()));
            prop_assert_eq!(sequencer.unacknowledged(), 0);
        }
    }
}
