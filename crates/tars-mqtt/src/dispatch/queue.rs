//! The queue in front of one subscription's workers.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::received::Received;
use super::work::Job;
use crate::metrics::Gauge;

/// What to do with a QoS 0 message that finds its subscription's queue full.
/// QoS 1 and 2 are never dropped: they are bounded by the connection's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest waiting QoS 0 message goes. The default: with state and streams
    /// the newest matters.
    #[default]
    DropOldest,
    /// The new one goes.
    DropNewest,
}

/// What became of a message that was pushed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Queued,
    /// Something was dropped; `first` of a burst.
    Dropped {
        first: bool,
    },
    /// The subscription has ended.
    Closed,
}

#[derive(Default)]
struct State {
    items: VecDeque<Job>,
    best_effort: usize,
    best_effort_bytes: usize,
    overflowing: bool,
    closed: bool,
    /// Workers that wait here, or come back when they are done.
    workers: usize,
}

/// First in, first out; bounded in QoS 0 messages and their bytes.
pub(crate) struct Queue {
    state: Mutex<State>,
    capacity: usize,
    max_bytes: usize,
    overflow: Overflow,
    available: Notify,
    /// How many wait.
    depth: Gauge,
}

impl Queue {
    pub(crate) fn new(capacity: usize, max_bytes: usize, overflow: Overflow, depth: Gauge) -> Self {
        Self {
            state: Mutex::default(),
            capacity: capacity.max(1),
            max_bytes,
            overflow,
            available: Notify::new(),
            depth,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, item: Job) -> Pushed {
        let mut state = self.lock();
        if state.closed {
            return Pushed::Closed;
        }
        let mut pushed = Pushed::Queued;
        if !item.is_reliable() {
            let bytes = item.delivery.payload.len();
            let full = |s: &State| {
                s.best_effort >= self.capacity || s.best_effort > 0 && s.best_effort_bytes + bytes > self.max_bytes
            };
            if full(&state) {
                pushed = Pushed::Dropped {
                    first: !std::mem::replace(&mut state.overflowing, true),
                };
                if self.overflow == Overflow::DropNewest {
                    return pushed;
                }
                while full(&state) {
                    let oldest = state.items.iter().position(|item| !item.is_reliable());
                    let Some(dropped) = oldest.and_then(|at| state.items.remove(at)) else {
                        break;
                    };
                    state.forget(&dropped);
                    self.depth.remove(1);
                }
            } else if state.best_effort <= self.capacity / 2 {
                // Not at the first gap: a handler that is merely too slow makes one each time.
                state.overflowing = false;
            }
            state.best_effort += 1;
            state.best_effort_bytes += bytes;
        }
        state.items.push_back(item);
        drop(state);
        self.depth.add(1);
        self.available.notify_one();
        pushed
    }

    /// The next message; `None` once the queue is closed and empty. Cancel-safe.
    pub(crate) async fn pop(&self) -> Option<Job> {
        loop {
            let available = self.available.notified();
            {
                let mut state = self.lock();
                if let Some(item) = state.items.pop_front() {
                    state.forget(&item);
                    self.depth.remove(1);
                    if !state.items.is_empty() {
                        // `notify_one` keeps one permit only: hand the rest on to the next worker.
                        self.available.notify_one();
                    }
                    return Some(item);
                }
                if state.closed {
                    // This one ends; the next shall see it too.
                    state.workers = state.workers.saturating_sub(1);
                    self.available.notify_one();
                    return None;
                }
            }
            available.await;
        }
    }

    /// Takes in nothing more; what is queued may still be popped.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.available.notify_one();
    }

    /// Takes in, also again after a `close`. Returns how many workers to add, so that
    /// there are `workers`: some of before may not have seen the end yet.
    pub(crate) fn open(&self, workers: usize) -> usize {
        let mut state = self.lock();
        state.closed = false;
        workers - std::mem::replace(&mut state.workers, workers).min(workers)
    }

    /// The workers were ended from outside.
    pub(crate) fn abandoned(&self) {
        self.lock().workers = 0;
    }

    /// Removes what has not been started and `unwanted` says, and returns how many.
    pub(crate) fn discard(&self, mut unwanted: impl FnMut(&Received) -> bool) -> usize {
        let mut state = self.lock();
        let before = state.items.len();
        state.items.retain(|item| !unwanted(item));
        state.best_effort = state.items.iter().filter(|item| !item.is_reliable()).count();
        state.best_effort_bytes = state
            .items
            .iter()
            .filter(|item| !item.is_reliable())
            .map(|item| item.delivery.payload.len())
            .sum();
        let discarded = before - state.items.len();
        self.depth.remove(discarded);
        discarded
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.depth.remove(self.lock().items.len());
    }
}

impl State {
    fn forget(&mut self, item: &Received) {
        if !item.is_reliable() {
            self.best_effort -= 1;
            self.best_effort_bytes -= item.delivery.payload.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use tars_ports::mock::MockConnection;
    use tars_ports::{Delivery, QoS};

    use super::super::work::Work;
    use super::*;

    #[tokio::test]
    async fn a_burst_is_told_once_even_if_the_handler_takes_some_meanwhile() {
        let queue = Queue::new(4, usize::MAX, Overflow::DropOldest, Gauge::default());
        let work = Arc::new(Work::default());
        let connection: Arc<dyn tars_ports::Connection> = Arc::new(MockConnection::new());
        let mut told = 0;
        let mut push = || {
            let delivery = Delivery::new("a".parse().unwrap(), "x", QoS::AtMostOnce);
            let received = Arc::new(Received::new(delivery, connection.clone(), None, tracing::Span::none()));
            if queue.push(Job::new(received, &"a".parse().unwrap(), &work)) == (Pushed::Dropped { first: true }) {
                told += 1;
            }
        };
        for _ in 0..2 {
            for n in 0..100 {
                push();
                if n % 10 == 0 {
                    drop(queue.pop().await);
                }
            }
            // The burst is over, and the queue drained.
            while queue.pop().now_or_never().is_some() {}
        }
        assert_eq!(told, 2);
    }
}
