//! What the client has taken in and not finished: the measure of its budget.
//!
//! A connection's own budget ends with the connection, and does not see what was
//! acknowledged on receipt. This one counts every QoS 1 and 2 message from its arrival
//! until nobody works on it any more. At the bound the session takes nothing in; the
//! adapter's hand-over fills, and reading pauses.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tars_contracts::{TopicFilter, TopicName};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::received::Received;
use super::taken::{Complaint, Taken, Unfinished};
use crate::metrics::{Gauge, names};

/// Jobs that are queued or running, and messages that are taken in.
#[derive(Default)]
pub(crate) struct Work {
    jobs: AtomicUsize,
    idle: Notify,
    taken: Mutex<Taken>,
    freed: Notify,
    metric: Gauge,
}

impl Work {
    pub(crate) fn new(client_id: &str) -> Self {
        Self {
            metric: Gauge::new(&names::UNFINISHED, &[("client_id", client_id)]),
            ..Self::default()
        }
    }

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
    pub(crate) fn hold(self: &Arc<Self>, topic: TopicName, bytes: usize) -> Hold {
        self.metric.add(1);
        Hold {
            work: self.clone(),
            number: self.taken().insert(topic, bytes, Instant::now()),
        }
    }

    /// Whether one more message may be taken in. One always may.
    pub(crate) fn has_room(&self, messages: usize, bytes: usize) -> bool {
        self.taken().has_room(messages, bytes)
    }

    /// Resolves after a message was finished. One waiter only: the session.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// How many messages are not finished, and the oldest of them.
    pub(crate) fn unfinished(&self) -> (usize, Option<Unfinished>) {
        let taken = self.taken();
        (taken.len(), taken.oldest(Instant::now()))
    }

    /// What there is to say of them now, given the budget; with the oldest.
    pub(crate) fn complaint(&self, messages: usize, bytes: usize) -> Option<(Complaint, Unfinished)> {
        let (mut taken, now) = (self.taken(), Instant::now());
        let complaint = taken.complaint(now, messages, bytes)?;
        taken.oldest(now).map(|oldest| (complaint, oldest))
    }

    /// When to ask for that again at the latest.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.taken().next_look()
    }
}

/// A message's place in the budget, given back when it goes.
pub(crate) struct Hold {
    work: Arc<Work>,
    number: u64,
}

impl Hold {
    /// A subscription has work with it.
    fn enter(&self, filter: &TopicFilter) {
        self.work.taken().enter(self.number, filter);
    }

    fn leave(&self, filter: &TopicFilter) {
        self.work.taken().leave(self.number, filter);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.work.taken().remove(self.number);
        self.work.metric.remove(1);
        self.work.freed.notify_one();
    }
}

/// A message for one subscription. As long as it lives, the subscription has work.
pub(crate) struct Job {
    received: Arc<Received>,
    filter: TopicFilter,
    _busy: Busy,
}

impl Job {
    pub(crate) fn new(received: Arc<Received>, filter: &TopicFilter, work: &Arc<Work>) -> Self {
        work.jobs.fetch_add(1, Ordering::Relaxed);
        if let Some(held) = &received.held {
            held.enter(filter);
        }
        Self {
            received,
            filter: filter.clone(),
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

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(held) = &self.received.held {
            held.leave(&self.filter);
        }
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
