//! A message on its way through the handlers, and the acknowledgement at its end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tars_ports::{AckOutcome, AckToken, Connection, Delivery, QoS};
use tokio::time::Instant;
use tracing::Span;

use super::work::Hold;

/// One delivery, shared by all subscriptions it reaches. It is acknowledged when
/// the last subscription that acknowledges after success has finished with it.
/// Dropping it acknowledges nothing: the broker still has it.
pub(crate) struct Received {
    pub(crate) delivery: Delivery,
    connection: Arc<dyn Connection>,
    /// Subscriptions that have not finished with it.
    open: AtomicUsize,
    /// Tokens of copies of the same message (SPEC 5.2a): acknowledged with it.
    copies: Mutex<Vec<AckToken>>,
    /// For who wants to know when nobody works on it any more.
    gone: OnceLock<Gone>,
    /// Its place among what the client has taken in, unless it is best effort.
    pub(super) held: Option<Hold>,
    /// Open as long as somebody works on it.
    pub(crate) span: Span,
}

/// When a message was let go of, if it was.
pub(crate) type Gone = Arc<OnceLock<Instant>>;

impl Received {
    pub(crate) fn new(delivery: Delivery, connection: Arc<dyn Connection>, held: Option<Hold>, span: Span) -> Self {
        Self {
            held,
            delivery,
            connection,
            open: AtomicUsize::new(0),
            copies: Mutex::default(),
            gone: OnceLock::new(),
            span,
        }
    }

    /// One more subscription works on it.
    pub(crate) fn open(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A subscription has finished with it; the last one acknowledges.
    pub(crate) fn finish(&self) {
        // Release what this worker did; the last one acquires what all did.
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.acknowledge();
        }
    }

    /// Acknowledges at once, when nobody has to finish with it first.
    pub(crate) fn acknowledge(&self) {
        let copies = std::mem::take(&mut *self.copies.lock().unwrap_or_else(PoisonError::into_inner));
        for token in self.delivery.token.into_iter().chain(copies) {
            self.connection.ack(token, AckOutcome::Done);
        }
    }

    /// Another copy of this message came: it is acknowledged with this one.
    pub(crate) fn join(&self, token: AckToken) {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        copies.push(token);
        drop(copies);
        // It may have finished between the caller's look and the push.
        if self.open.load(Ordering::Acquire) == 0 {
            self.acknowledge();
        }
    }

    /// Learns when nobody works on it any more.
    pub(crate) fn watch(&self) -> Gone {
        self.gone.get_or_init(Gone::default).clone()
    }

    /// Whether it is more than best effort.
    pub(crate) fn is_reliable(&self) -> bool {
        self.delivery.qos != QoS::AtMostOnce
    }

    /// Whether the broker still has it, so that it would come again on a session that is kept.
    /// Without a token the adapter has acknowledged it by itself.
    pub(crate) fn is_unacknowledged(&self) -> bool {
        self.delivery.token.is_some() && self.open.load(Ordering::Acquire) > 0
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(gone) = self.gone.get() {
            let _ = gone.set(Instant::now());
        }
    }
}
