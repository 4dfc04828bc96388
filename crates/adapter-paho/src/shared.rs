//! What the handles, the inbound stream, the driver and the callbacks of one
//! connection share. Never paho's client: a callback that held it would keep it alive.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use tars_ports::Error;
use tokio::sync::{Notify, watch};

use crate::outbox::{Outbox, Stage};
use crate::screen::Breach;

pub(crate) struct Shared {
    /// For messages: `mqtt://host:port`.
    pub(crate) address: String,
    pub(crate) outbox: Outbox,
    /// Wakes the driver.
    pub(crate) wake: Notify,
    pub(crate) packets_read: AtomicU64,
    verdict: OnceLock<Verdict>,
    /// How `disconnect` went, once the connection has ended.
    pub(crate) end: watch::Sender<Option<Result<(), Error>>>,
}

/// What ends the connection from the inbound side.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    /// Paho says so, and not why.
    Lost,
    /// So much waits to be taken.
    Lagging { messages: usize, bytes: usize },
    /// The broker sent what paho must not see.
    Breach(Breach),
}

impl Shared {
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            outbox: Outbox::new(),
            wake: Notify::new(),
            packets_read: AtomicU64::new(0),
            verdict: OnceLock::new(),
            end: watch::Sender::new(None),
        }
    }

    /// The first one counts.
    pub(crate) fn judge(&self, verdict: Verdict) {
        // A later one changes nothing.
        let _ = self.verdict.set(verdict);
        self.wake.notify_one();
    }

    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict.get().copied()
    }

    pub(crate) fn advance(&self, stage: Stage) {
        self.outbox.advance(stage);
        self.wake.notify_one();
    }

    /// The last handle or the inbound stream is gone.
    pub(crate) fn abandon(&self) {
        self.outbox.abandon();
        self.wake.notify_one();
    }
}
