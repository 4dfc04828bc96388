//! What has arrived and is not yet done with: the hand-over queue, the
//! acknowledgements, and the budget that both count against.
//!
//! A QoS 0 message counts until it is taken from the queue, a QoS 1 or 2 message
//! until its acknowledgement is handed out. At the budget the driver stops reading,
//! so the queue is bounded by it. **While own publishes or subscriptions wait for
//! an answer, twice the budget may be read**: their answer lies behind messages,
//! and a handler that waits for it would otherwise wait for itself.

use std::collections::VecDeque;
use std::task::Waker;

use tars_ports::{AckSequencer, AckToken, Acknowledgement, Delivery, QoS};

use crate::qos2_inbound::{Qos2Inbound, Verdict};

pub(crate) struct Inbox {
    sequencer: AckSequencer,
    qos2: Qos2Inbound,
    deliveries: VecDeque<Delivery>,
    /// QoS 0 messages in `deliveries`, and their bytes.
    loose: usize,
    loose_bytes: usize,
    ready: Vec<Acknowledgement>,
    max_messages: usize,
    max_bytes: usize,
    /// The driver waits for room.
    paused: bool,
    consumer: Option<Waker>,
}

impl Inbox {
    /// For the connection with this number, going on with the QoS 2 ids of an earlier one.
    pub(crate) fn new(connection: u64, acknowledged: &[u16], max_messages: usize, max_bytes: usize) -> Self {
        Self {
            sequencer: AckSequencer::new(connection),
            qos2: Qos2Inbound::new(acknowledged),
            deliveries: VecDeque::new(),
            loose: 0,
            loose_bytes: 0,
            ready: Vec::new(),
            max_messages,
            max_bytes,
            paused: false,
            consumer: None,
        }
    }

    /// Whether another message may be taken in; one always may.
    pub(crate) fn is_open(&mut self, someone_waits: bool) -> bool {
        let factor = if someone_waits { 2 } else { 1 };
        let messages = self.sequencer.unacknowledged() + self.loose;
        let bytes = self.sequencer.unacknowledged_bytes() + self.loose_bytes;
        let full =
            messages >= self.max_messages.saturating_mul(factor) || bytes >= self.max_bytes.saturating_mul(factor);
        self.paused = full && messages > 0;
        !self.paused
    }

    /// Takes a message in. Returns the consumer, to be woken without the lock.
    pub(crate) fn deliver(&mut self, packet_id: u16, mut delivery: Delivery) -> Option<Waker> {
        let bytes = delivery.payload.len();
        if delivery.qos == QoS::ExactlyOnce {
            match self.qos2.on_publish(packet_id) {
                Verdict::Deliver => {}
                Verdict::Ignore => return None,
                Verdict::AcknowledgeAgain => {
                    self.ready.push(Acknowledgement {
                        packet_id,
                        qos: QoS::ExactlyOnce,
                    });
                    return None;
                }
            }
        }
        delivery.token = self.sequencer.register(delivery.qos, packet_id, bytes);
        match delivery.token {
            None => {
                self.loose += 1;
                self.loose_bytes += bytes;
            }
            Some(token) if delivery.qos == QoS::ExactlyOnce => self.qos2.delivered(packet_id, token),
            Some(_) => {}
        }
        self.deliveries.push_back(delivery);
        self.consumer.take()
    }

    /// The next message, for the consumer. `true`: the driver waits for the room it left.
    pub(crate) fn take(&mut self) -> Option<(Delivery, bool)> {
        let delivery = self.deliveries.pop_front()?;
        if delivery.token.is_none() {
            self.loose -= 1;
            self.loose_bytes -= delivery.payload.len();
        }
        Some((delivery, self.paused))
    }

    /// Who to wake when a message comes.
    pub(crate) fn wait(&mut self, consumer: &Waker) {
        match &mut self.consumer {
            Some(known) => known.clone_from(consumer),
            none => *none = Some(consumer.clone()),
        }
    }

    /// Marks a delivery as done. `true`: the driver has something to send.
    pub(crate) fn complete(&mut self, token: AckToken) -> bool {
        self.qos2.done(token);
        let before = self.ready.len();
        let (ready, qos2) = (&mut self.ready, &mut self.qos2);
        self.sequencer.complete(token, |acknowledgement| {
            if acknowledgement.qos == QoS::ExactlyOnce {
                qos2.acknowledged(acknowledgement.packet_id);
            }
            ready.push(acknowledgement);
        });
        self.ready.len() > before
    }

    /// Swaps the acknowledgements that may leave into `batch`, which is empty.
    pub(crate) fn take_ready(&mut self, batch: &mut Vec<Acknowledgement>) {
        std::mem::swap(&mut self.ready, batch);
    }

    /// PUBREL came. `false` if the id was not known.
    pub(crate) fn release(&mut self, packet_id: u16) -> bool {
        self.qos2.release(packet_id)
    }

    /// The QoS 2 ids for the next connection, as of now.
    pub(crate) fn session(&self) -> Vec<u16> {
        self.qos2.session()
    }
}

#[cfg(test)]
mod tests {
    use tars_contracts::TopicName;

    use super::*;

    fn delivery(qos: QoS, size: usize) -> Delivery {
        Delivery::new(TopicName::new("a").expect("valid"), vec![0; size], qos)
    }

    #[test]
    fn qos_0_counts_until_taken_and_qos_1_until_acknowledged() {
        let mut inbox = Inbox::new(1, &[], 2, 1_000);
        inbox.deliver(0, delivery(QoS::AtMostOnce, 1));
        inbox.deliver(7, delivery(QoS::AtLeastOnce, 1));
        assert!(!inbox.is_open(false));
        assert!(inbox.is_open(true), "an answer may lie behind");
        assert!(!inbox.is_open(false));
        let (_, wakes) = inbox.take().expect("QoS 0");
        assert!(wakes);
        assert!(inbox.is_open(false));
        inbox.deliver(0, delivery(QoS::AtMostOnce, 1));
        let (one, _) = inbox.take().expect("QoS 1");
        assert!(!inbox.is_open(false));
        assert!(inbox.complete(one.token.expect("QoS 1 has a token")));
        assert!(inbox.is_open(false));
    }

    #[test]
    fn one_message_always_fits() {
        let mut inbox = Inbox::new(1, &[], 0, 10);
        assert!(inbox.is_open(false));
        inbox.deliver(0, delivery(QoS::AtMostOnce, 100));
        assert!(!inbox.is_open(false));
        inbox.take();
        assert!(inbox.is_open(false));
    }
}
