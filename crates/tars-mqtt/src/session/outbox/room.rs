//! How much the outbox may hold, in messages and in bytes.

use tars_ports::{Error, ErrorKind, Fate};
use tokio::sync::{Semaphore, TryAcquireError};

pub(super) struct Bounds {
    messages: Semaphore,
    bytes: Semaphore,
    max_bytes: usize,
}

/// Room for one message; given back, unless it is [kept](Self::keep).
pub(super) struct Room<'a> {
    bounds: &'a Bounds,
    bytes: u32,
}

impl Bounds {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        let max_bytes = max_bytes.clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self {
            messages: Semaphore::new(max_messages.clamp(1, Semaphore::MAX_PERMITS)),
            bytes: Semaphore::new(max_bytes),
            max_bytes,
        }
    }

    /// What a payload takes of the bytes. One larger than the bound still passes, alone.
    pub(super) fn counted(&self, payload: usize) -> u32 {
        payload.clamp(1, self.max_bytes) as u32
    }

    /// Waits for room. Cancel-safe: dropped before it resolves, it holds none.
    pub(super) async fn acquire(&self, bytes: u32) -> Result<Room<'_>, Error> {
        let messages = self.messages.acquire().await.map_err(|_| closed())?;
        self.bytes.acquire_many(bytes).await.map_err(|_| closed())?.forget();
        messages.forget();
        Ok(Room { bounds: self, bytes })
    }

    /// Not `acquire` polled once: that also waits where a task has done much in one go.
    pub(super) fn try_acquire(&self, bytes: u32) -> Result<Option<Room<'_>>, Error> {
        let permits = || {
            let messages = self.messages.try_acquire()?;
            self.bytes.try_acquire_many(bytes)?.forget();
            messages.forget();
            Ok(Room { bounds: self, bytes })
        };
        match permits() {
            Ok(room) => Ok(Some(room)),
            Err(TryAcquireError::NoPermits) => Ok(None),
            Err(TryAcquireError::Closed) => Err(closed()),
        }
    }

    /// What a message took that was kept.
    pub(super) fn give_back(&self, bytes: u32) {
        self.bytes.add_permits(bytes as usize);
        self.messages.add_permits(1);
    }

    /// Fails who waits.
    pub(super) fn close(&self) {
        self.messages.close();
        self.bytes.close();
    }
}

impl Room<'_> {
    /// The message stays: its bytes, to be [given back](Bounds::give_back) when it goes.
    pub(super) fn keep(self) -> u32 {
        let bytes = self.bytes;
        std::mem::forget(self);
        bytes
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.bounds.give_back(self.bytes);
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was shut down").with_fate(Fate::NotSent)
}
