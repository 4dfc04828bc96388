//! What the handles, the inbound stream and the driver of one connection share.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tars_ports::Error;
use tokio::sync::{Notify, watch};

use crate::inbox::Inbox;
use crate::outbox::{Outbox, Stage};

pub(crate) struct Shared {
    /// For messages: `mqtt://host:port`.
    pub(crate) address: String,
    pub(crate) outbox: Outbox,
    inbox: Mutex<Inbox>,
    /// Wakes the driver to look at both boxes.
    pub(crate) wake: Notify,
    pub(crate) packets_read: AtomicU64,
    pub(crate) reading_paused: AtomicBool,
    /// How `disconnect` went, once the connection has ended.
    pub(crate) end: watch::Sender<Option<Result<(), Error>>>,
}

impl Shared {
    pub(crate) fn new(address: String, inbox: Inbox) -> Self {
        Self {
            address,
            outbox: Outbox::new(),
            inbox: Mutex::new(inbox),
            wake: Notify::new(),
            packets_read: AtomicU64::new(0),
            reading_paused: AtomicBool::new(false),
            end: watch::Sender::new(None),
        }
    }

    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
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
