//! QoS 1 and 2 publishes that the broker has not confirmed yet.
//!
//! An entry is plain data; who waits for it stands beside, under the same
//! sequence number, so that a durable store could take this one's place. Entries
//! stay until their receipt settles and are sent again, in order, on the next
//! connection. Bounded in messages and bytes: at the bound, taking in waits.

mod numbered;
mod room;
#[cfg(test)]
mod tests;
mod way;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tars_ports::{Error, ErrorKind, Fate, Message, Receipt, Settled, Settler, TryPublishError};
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;
use tracing::Span;

use self::numbered::Numbered;
use self::room::{Bounds, Room};
pub(crate) use self::way::MAX_INFLIGHT_QOS2;
use self::way::Way;
use crate::spans::{self, Clock};
use crate::stats::{Counters, count};

struct Entry {
    message: Message,
    deadline: Instant,
    /// So often it was handed to a connection: more than never, it may have arrived.
    tries: u32,
    in_flight: bool,
}

/// Who waits for an entry, and what else goes with it.
struct Waiter {
    settler: Settler,
    /// Of the room that it takes.
    bytes: u32,
    span: Span,
    clock: Clock,
}

#[derive(Default)]
struct State {
    entries: Numbered<Entry>,
    waiters: Numbered<Waiter>,
    /// The sequence number of the next entry.
    sequence: u64,
    /// Nothing before this number waits to be sent.
    next: u64,
    /// No deadline is earlier. It may be that of a publish which has settled: so the session
    /// need not be told of each one.
    soonest: Option<Instant>,
    way: Way,
    /// Somebody hands over.
    busy: bool,
    /// The session wants to know of each one that settles.
    watched: bool,
    /// Why nothing is taken in at present, if so.
    refusing: Option<ErrorKind>,
}

impl State {
    fn remove(&mut self, sequence: u64) -> Option<(Entry, Option<Waiter>)> {
        let entry = self.entries.remove(sequence)?;
        Some((entry, self.waiters.remove(sequence)))
    }
}

/// See the module.
pub(crate) struct Outbox {
    state: Mutex<State>,
    bounds: Bounds,
    /// Bytes of the message for which there was no room last.
    refused_bytes: AtomicU32,
    /// Unsettled publishes on one connection at one time.
    window: usize,
    changed: Notify,
    stats: Arc<Counters>,
}

impl Outbox {
    pub(crate) fn new(max_messages: usize, max_bytes: usize, window: u16, stats: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            bounds: Bounds::new(max_messages, max_bytes),
            refused_bytes: AtomicU32::new(1),
            window: usize::from(window),
            changed: Notify::new(),
            stats,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in, waiting for room. Once this has resolved the message is kept,
    /// at most until its deadline; dropped before, nothing is left behind.
    pub(crate) async fn append(self: &Arc<Self>, message: Message, deadline: Instant) -> Result<Receipt, Error> {
        let bytes = self.bounds.counted(message.payload.len());
        // Who publishes in a loop that never has to wait leaves others their turn.
        consume_budget().await;
        if let Some(room) = self.bounds.try_acquire(bytes)? {
            return self.insert(message, deadline, room);
        }
        match tokio::time::timeout_at(deadline, self.bounds.acquire(bytes)).await {
            Ok(room) => self.insert(message, deadline, room?),
            Err(_) => {
                let what = "too many publishes are unsettled, there was no room for another";
                Err(Error::new(ErrorKind::Full, what).with_fate(Fate::NotSent))
            }
        }
    }

    /// Takes a message in, or gives it back when there is no room.
    pub(crate) fn try_append(
        self: &Arc<Self>,
        message: Message,
        deadline: Instant,
    ) -> Result<Receipt, TryPublishError> {
        let bytes = self.bounds.counted(message.payload.len());
        match self.bounds.try_acquire(bytes).map_err(TryPublishError::Failed)? {
            Some(room) => self.insert(message, deadline, room).map_err(TryPublishError::Failed),
            None => {
                self.refused_bytes.store(bytes, Ordering::Relaxed);
                Err(TryPublishError::Full(message))
            }
        }
    }

    /// Resolves when there may be room for the message that was given back last.
    pub(crate) async fn room(&self) -> Result<(), Error> {
        let bytes = self.refused_bytes.load(Ordering::Relaxed);
        self.bounds.acquire(bytes).await.map(drop)
    }

    fn insert(self: &Arc<Self>, message: Message, deadline: Instant, room: Room<'_>) -> Result<Receipt, Error> {
        let (settler, receipt) = Receipt::pair();
        let span = spans::publish(&message);
        let clock = Clock::start(&span);
        let mut state = self.lock();
        if let Some(kind) = state.refusing {
            return Err(Error::new(kind, "the client was ended").with_fate(Fate::NotSent));
        }
        let sequence = state.sequence;
        state.sequence += 1;
        let entry = Entry {
            message: message.with_key(sequence),
            deadline,
            tries: 0,
            in_flight: false,
        };
        state.entries.push(sequence, entry);
        let waiter = Waiter {
            settler,
            bytes: room.keep(),
            span,
            clock,
        };
        state.waiters.push(sequence, waiter);
        let is_soonest = state.soonest.is_none_or(|soonest| deadline < soonest);
        if is_soonest {
            state.soonest = Some(deadline);
        }
        drop(state);
        self.stats.metrics.unsettled.add(1);
        if is_soonest {
            self.changed.notify_one();
        }
        self.hand_over();
        Ok(receipt)
    }

    /// Resolves after something happened that the session has to see: a deadline sooner
    /// than all others, or that more may be handed over. One waiter only: the session.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether [`changed`](Self::changed) resolves for each publish that settles as well.
    pub(crate) fn watch(&self, watched: bool) {
        self.lock().watched = watched;
    }

    /// Nothing expires earlier.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.lock().soonest
    }

    /// Fails what is past its deadline.
    pub(crate) fn expire(&self, now: Instant) {
        let mut state = self.lock();
        if state.soonest.is_none_or(|soonest| now < soonest) {
            return;
        }
        let entries = state.entries.extract(|_, entry| entry.deadline <= now);
        let over: BTreeSet<u64> = entries.iter().map(|(number, _)| *number).collect();
        let mut waiters = state.waiters.extract(|number, _| over.contains(&number)).into_iter();
        // Each has one, under the same number.
        let over: Vec<_> = entries
            .into_iter()
            .map(|(_, entry)| (entry, waiters.next().map(|(_, waiter)| waiter)))
            .collect();
        state.soonest = state.entries.iter().map(|(_, entry)| entry.deadline).min();
        drop(state);
        for gone in over {
            let error = Error::new(ErrorKind::Timeout, "the broker did not confirm it in time");
            self.fail(gone, error);
        }
    }

    /// Fails everything that is unsettled, and who waits for room, until the next
    /// [`rewind`](Self::rewind): the session ends here.
    pub(crate) fn fail_all(&self, kind: ErrorKind, why: &str) -> usize {
        let mut state = self.lock();
        state.refusing.get_or_insert(kind);
        let _former = state.way.close();
        let mut all = Vec::with_capacity(state.entries.len());
        while let Some(number) = state.entries.first() {
            all.extend(state.remove(number));
        }
        drop(state);
        let failed = all.len();
        for gone in all {
            self.fail(gone, Error::new(kind, why.to_owned()));
        }
        failed
    }

    /// Takes nothing in any more, and fails who waits for room.
    pub(crate) fn close(&self) {
        self.lock().refusing = Some(ErrorKind::Closed);
        self.bounds.close();
    }

    /// The number that the next publish gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.lock().sequence
    }

    /// Whether all before this number are settled.
    pub(crate) fn is_settled_before(&self, number: u64) -> bool {
        self.lock().entries.first().is_none_or(|first| first >= number)
    }

    /// Publishes that are not settled.
    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    fn fail(&self, gone: (Entry, Option<Waiter>), error: Error) {
        let fate = if gone.0.tries > 0 { Fate::Unknown } else { Fate::NotSent };
        self.tell_outcome(gone, Err(error.with_fate(fate)));
    }

    /// To who waits for it, and to who counts.
    fn tell_outcome(&self, (entry, waiter): (Entry, Option<Waiter>), result: Result<Settled, Error>) {
        self.stats.metrics.unsettled.remove(1);
        count(if result.is_ok() {
            &self.stats.published
        } else {
            &self.stats.publish_failed
        });
        let Some(waiter) = waiter else { return };
        let (qos, time) = (entry.message.qos, waiter.clock.elapsed());
        self.stats.metrics.settled(qos, result.is_ok(), time);
        waiter.span.in_scope(|| match &result {
            Ok(_) => tracing::debug!(elapsed_ms = waiter.clock.ms(), "published"),
            Err(error) => tracing::debug!(%error, elapsed_ms = waiter.clock.ms(), "a publish failed"),
        });
        let topic = entry.message.topic;
        let settled = result.map_err(|error| error.while_doing(format_args!("publishing to {topic}")));
        self.bounds.give_back(waiter.bytes);
        waiter.settler.settle(settled);
    }
}
