//! The queue between paho's callbacks and the inbound stream.
//!
//! A callback runs on paho's own thread, under the lock of the whole process: here
//! nothing waits, nothing panics and nothing calls paho. Nor can it push back, so
//! what waits is counted, and above the mark the connection ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use paho_mqtt::Message;
use tars_ports::ConnectOptions;
use tokio::sync::mpsc;

use crate::shared::{Shared, Verdict};

/// So many times the inbound budget may wait: where reading cannot pause, a burst
/// that the budget would have held back must fit.
const FACTOR: usize = 8;

/// What waits to be taken.
#[derive(Debug)]
struct Load {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

/// The callbacks' end.
pub(crate) struct Arrivals {
    shared: Arc<Shared>,
    load: Arc<Load>,
    queue: mpsc::UnboundedSender<Message>,
    max_messages: usize,
    max_bytes: usize,
}

/// The stream's end.
pub(crate) struct Arrived {
    load: Arc<Load>,
    pub(crate) queue: mpsc::UnboundedReceiver<Message>,
}

pub(crate) fn queue(shared: &Arc<Shared>, options: &ConnectOptions) -> (Arrivals, Arrived) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let load = Arc::new(Load {
        messages: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
    });
    let arrivals = Arrivals {
        shared: Arc::clone(shared),
        load: Arc::clone(&load),
        queue: sender,
        max_messages: options.inbound_messages.saturating_mul(FACTOR),
        max_bytes: options.inbound_bytes,
    };
    (arrivals, Arrived { load, queue: receiver })
}

impl Arrivals {
    /// A message came. One always fits.
    pub(crate) fn message(&self, message: Message) {
        self.shared.packets_read.fetch_add(1, Ordering::Relaxed);
        if self.shared.verdict().is_some() {
            return;
        }
        let size = message.payload().len();
        let messages = self.load.messages.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.load.bytes.fetch_add(size, Ordering::Relaxed) + size;
        if messages > 1 && (messages > self.max_messages || bytes > self.max_bytes) {
            self.shared.judge(Verdict::Lagging { messages, bytes });
            return;
        }
        // The stream may be gone: then the end is on its way.
        let _ = self.queue.send(message);
    }

    /// The link is gone.
    pub(crate) fn lost(&self) {
        self.shared.judge(Verdict::Lost);
    }
}

impl Arrived {
    /// Notes that a message left the queue.
    pub(crate) fn taken(&self, message: &Message) {
        self.load.messages.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(message.payload().len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(max_messages: usize, max_bytes: usize) -> (Arc<Shared>, Arrivals, Arrived) {
        let shared = Arc::new(Shared::new("mqtt://h:1".into()));
        let mut options = ConnectOptions::new("h", 1, "c");
        options.inbound_messages = max_messages;
        options.inbound_bytes = max_bytes;
        let (arrivals, arrived) = queue(&shared, &options);
        (shared, arrivals, arrived)
    }

    #[test]
    fn what_was_taken_makes_room() {
        let (shared, arrivals, mut arrived) = pair(1, 1_000);
        for _ in 0..100 {
            for _ in 0..FACTOR {
                arrivals.message(Message::new("t", "x", 0));
            }
            while let Ok(message) = arrived.queue.try_recv() {
                arrived.taken(&message);
            }
        }
        assert!(shared.verdict().is_none());
        assert_eq!(arrived.load.bytes.load(Ordering::Relaxed), 0);
        for _ in 0..=FACTOR {
            arrivals.message(Message::new("t", "x", 0));
        }
        assert!(matches!(
            shared.verdict(),
            Some(Verdict::Lagging { messages: 9, bytes: 9 })
        ));
    }

    #[test]
    fn one_message_always_fits_and_two_only_within_the_bytes() {
        let (shared, arrivals, _arrived) = pair(0, 10);
        arrivals.message(Message::new("t", vec![0; 100], 0));
        assert!(shared.verdict().is_none());
        arrivals.message(Message::new("t", vec![0; 1], 0));
        assert!(matches!(shared.verdict(), Some(Verdict::Lagging { .. })));
        arrivals.lost();
        assert!(
            matches!(shared.verdict(), Some(Verdict::Lagging { .. })),
            "the first counts"
        );
    }
}
