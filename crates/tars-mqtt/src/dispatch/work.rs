//! What the client has taken in and not finished: the measure of its budget.
//!
//! A connection's own budget ends with the connection, and does not see what was
//! acknowledged on receipt. This one counts every QoS 1 and 2 message from its arrival
//! until nobody works on it any more. At the bound the session takes nothing in; the
//! adapter's hand-over fills, and reading pauses.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tars_contracts::{TopicFilter, TopicName};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::received::Received;

/// A received QoS 1 or 2 message that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// Its topic.
    pub topic: TopicName,
    /// The first subscription it reached.
    pub filter: Option<TopicFilter>,
    /// Since it arrived.
    pub age: Duration,
}

struct Held {
    topic: TopicName,
    filter: Option<TopicFilter>,
    bytes: usize,
    since: Instant,
}

#[derive(Default)]
struct Taken {
    next: u64,
    bytes: usize,
    /// By number, so the first is the oldest.
    messages: BTreeMap<u64, Held>,
}

/// Jobs that are queued or running, and messages that are taken in.
#[derive(Default)]
pub(crate) struct Work {
    jobs: AtomicUsize,
    idle: Notify,
    taken: Mutex<Taken>,
    freed: Notify,
}

impl Work {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing here panics while it holds the lock.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Acquire)
    }

    /// Resolves after the last job has gone. One waiter only: the session.
    pub(crate) async fn became_idle(&self) {
        self.idle.notified().await;
    }

    /// Takes a message in.
    pub(crate) fn hold(self: &Arc<Self>, topic: TopicName, filter: Option<TopicFilter>, bytes: usize) -> Hold {
        let mut taken = self.taken();
        let number = taken.next;
        taken.next += 1;
        taken.bytes += bytes;
        let since = Instant::now();
        let held = Held {
            topic,
            filter,
            bytes,
            since,
        };
        taken.messages.insert(number, held);
        Hold {
            work: self.clone(),
            number,
        }
    }

    /// Whether one more message may be taken in. One always may.
    pub(crate) fn has_room(&self, messages: usize, bytes: usize) -> bool {
        let taken = self.taken();
        taken.messages.len() < messages.max(1) && (taken.bytes < bytes || taken.messages.is_empty())
    }

    /// Resolves after a message was finished. One waiter only: the session.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// The oldest message that is not finished.
    pub(crate) fn oldest(&self) -> Option<Unfinished> {
        let taken = self.taken();
        let held = taken.messages.values().next()?;
        Some(Unfinished {
            topic: held.topic.clone(),
            filter: held.filter.clone(),
            age: held.since.elapsed(),
        })
    }
}

/// A message's place in the budget, given back when it goes.
pub(crate) struct Hold {
    work: Arc<Work>,
    number: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut taken = self.work.taken();
        if let Some(held) = taken.messages.remove(&self.number) {
            taken.bytes -= held.bytes;
        }
        drop(taken);
        self.work.freed.notify_one();
    }
}

/// A message for one subscription. As long as it lives, the subscription has work.
pub(crate) struct Job {
    received: Arc<Received>,
    _busy: Busy,
}

impl Job {
    pub(crate) fn new(received: Arc<Received>, work: &Arc<Work>) -> Self {
        work.jobs.fetch_add(1, Ordering::Relaxed);
        Self {
            received,
            _busy: Busy(work.clone()),
        }
    }

    pub(crate) fn received(&self) -> &Arc<Received> {
        &self.received
    }
}

impl Deref for Job {
    type Target = Received;

    fn deref(&self) -> &Received {
        &self.received
    }
}

struct Busy(Arc<Work>);

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.jobs.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_one();
        }
    }
}
