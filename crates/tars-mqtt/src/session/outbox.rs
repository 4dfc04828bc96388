//! QoS 1 and 2 publishes that the broker has not confirmed yet.
//!
//! An entry is plain data; who waits for it stands beside, under the same
//! sequence number, so that a durable store could take this one's place. Entries
//! stay until their receipt settles and are sent again, in order, on the next
//! connection. Bounded in messages and bytes: at the bound, taking in waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tars_ports::{Error, ErrorKind, Fate, Message, Receipt, Settled, Settler, TryPublishError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::Instant;
use tracing::Span;

use crate::spans::{self, Clock};
use crate::stats::{Counters, count};

struct Entry {
    message: Message,
    deadline: Instant,
    /// It was handed to a connection at least once, so it may have arrived.
    tried: bool,
    in_flight: bool,
}

/// Who waits for an entry, and what else goes with it.
struct Waiter {
    settler: Settler,
    _room: Room,
    span: Span,
    clock: Clock,
}

/// Room in the outbox, given back when the entry goes.
struct Room {
    _messages: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<u64, Entry>,
    /// The sequence number of the next entry.
    sequence: u64,
    /// Nothing before this number waits to be sent.
    next: u64,
    deadlines: BTreeSet<(Instant, u64)>,
    waiters: HashMap<u64, Waiter>,
    /// Why nothing is taken in at present, if so.
    refusing: Option<ErrorKind>,
}

/// See the module.
pub(crate) struct Outbox {
    state: Mutex<State>,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: usize,
    /// Bytes of the message for which there was no room last.
    refused_bytes: AtomicU32,
    changed: Notify,
    stats: Arc<Counters>,
}

impl Outbox {
    pub(crate) fn new(max_messages: usize, max_bytes: usize, stats: Arc<Counters>) -> Self {
        let max_bytes = max_bytes.clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self {
            state: Mutex::default(),
            messages: Arc::new(Semaphore::new(max_messages.clamp(1, Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(max_bytes)),
            max_bytes,
            refused_bytes: AtomicU32::new(1),
            changed: Notify::new(),
            stats,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in, waiting for room. Once this has resolved the message is kept,
    /// at most until its deadline; dropped before, nothing is left behind.
    pub(crate) async fn append(&self, message: Message, deadline: Instant) -> Result<Receipt, Error> {
        match tokio::time::timeout_at(deadline, self.acquire(self.counted_bytes(&message))).await {
            Ok(room) => self.insert(message, deadline, room?),
            Err(_) => {
                let what = "too many publishes are unsettled, there was no room for another";
                Err(Error::new(ErrorKind::Full, what).with_fate(Fate::NotSent))
            }
        }
    }

    /// Takes a message in, or gives it back when there is no room.
    pub(crate) fn try_append(&self, message: Message, deadline: Instant) -> Result<Receipt, TryPublishError> {
        let bytes = self.counted_bytes(&message);
        match self.try_acquire(bytes).map_err(TryPublishError::Failed)? {
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
        self.acquire(bytes).await.map(drop)
    }

    fn counted_bytes(&self, message: &Message) -> u32 {
        // A message larger than the whole outbox still passes, alone.
        message.payload.len().clamp(1, self.max_bytes) as u32
    }

    async fn acquire(&self, bytes: u32) -> Result<Room, Error> {
        let messages = self.messages.clone().acquire_owned().await.map_err(|_| closed())?;
        let bytes = self
            .bytes
            .clone()
            .acquire_many_owned(bytes)
            .await
            .map_err(|_| closed())?;
        Ok(Room {
            _messages: messages,
            _bytes: bytes,
        })
    }

    /// Not `acquire` polled once: that also waits where a task has done much in one go.
    fn try_acquire(&self, bytes: u32) -> Result<Option<Room>, Error> {
        let permits = || {
            Ok(Room {
                _messages: self.messages.clone().try_acquire_owned()?,
                _bytes: self.bytes.clone().try_acquire_many_owned(bytes)?,
            })
        };
        match permits() {
            Ok(room) => Ok(Some(room)),
            Err(TryAcquireError::NoPermits) => Ok(None),
            Err(TryAcquireError::Closed) => Err(closed()),
        }
    }

    fn insert(&self, message: Message, deadline: Instant, room: Room) -> Result<Receipt, Error> {
        let (settler, receipt) = Receipt::pair();
        let span = spans::publish(&message);
        let waiter = Waiter {
            settler,
            _room: room,
            clock: Clock::start(&span),
            span,
        };
        let mut state = self.lock();
        if let Some(kind) = state.refusing {
            return Err(Error::new(kind, "the client was ended").with_fate(Fate::NotSent));
        }
        let sequence = state.sequence;
        state.sequence += 1;
        let entry = Entry {
            message: message.with_key(sequence),
            deadline,
            tried: false,
            in_flight: false,
        };
        state.entries.insert(sequence, entry);
        state.deadlines.insert((deadline, sequence));
        state.waiters.insert(sequence, waiter);
        drop(state);
        self.stats.metrics.unsettled.add(1);
        self.changed.notify_one();
        Ok(receipt)
    }

    /// Resolves after something was appended or settled. One waiter only: the session.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The next message to hand to the connection. It counts as in flight until
    /// [`settle`](Self::settle), [`put_back`](Self::put_back) or [`rewind`](Self::rewind).
    pub(crate) fn next(&self) -> Option<Message> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let (sequence, entry) = state
            .entries
            .range_mut(state.next..)
            .find(|(_, entry)| !entry.in_flight)?;
        entry.in_flight = true;
        state.next = sequence + 1;
        Some(entry.message.clone())
    }

    /// The connection did take it over: from now on it may have arrived.
    pub(crate) fn tried(&self, sequence: u64) {
        if let Some(entry) = self.lock().entries.get_mut(&sequence) {
            entry.tried = true;
        }
    }

    /// The connection had no room: it is the next again.
    pub(crate) fn put_back(&self, sequence: u64) {
        let mut state = self.lock();
        if let Some(entry) = state.entries.get_mut(&sequence) {
            entry.in_flight = false;
            state.next = state.next.min(sequence);
        }
    }

    /// A new connection: everything unsettled is to be sent again, in its old
    /// order, but for the flows that the connection itself goes on with.
    pub(crate) fn rewind(&self, resumed: &[u64]) {
        let mut state = self.lock();
        state.refusing.take_if(|kind| *kind == ErrorKind::NotConnected);
        state.next = 0;
        for (sequence, entry) in &mut state.entries {
            entry.in_flight = resumed.contains(sequence);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// What became of a message in flight. An end of the connection keeps it for
    /// the next one; anything else is final.
    pub(crate) fn settle(&self, sequence: u64, result: Result<Settled, Error>) {
        match &result {
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::NotConnected) => {}
            _ => self.remove(sequence, result),
        }
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.lock().deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Fails what is past its deadline.
    pub(crate) fn expire(&self, now: Instant) {
        loop {
            let expired = {
                let state = self.lock();
                match state.deadlines.first() {
                    Some(&(deadline, sequence)) if deadline <= now => {
                        let fate = state
                            .entries
                            .get(&sequence)
                            .map_or(Fate::Unknown, |entry| fate(entry.tried));
                        (sequence, fate)
                    }
                    _ => return,
                }
            };
            let (sequence, fate) = expired;
            let error = Error::new(ErrorKind::Timeout, "the broker did not confirm it in time").with_fate(fate);
            self.remove(sequence, Err(error));
        }
    }

    /// Fails everything that is unsettled, and who waits for room, until the next
    /// [`rewind`](Self::rewind): the session ends here.
    pub(crate) fn fail_all(&self, kind: ErrorKind, why: &str) -> usize {
        let mut state = self.lock();
        state.refusing.get_or_insert(kind);
        let entries: Vec<(u64, bool)> = state
            .entries
            .iter()
            .map(|(sequence, entry)| (*sequence, entry.tried))
            .collect();
        drop(state);
        for (sequence, tried) in &entries {
            let error = Error::new(kind, why.to_owned()).with_fate(fate(*tried));
            self.remove(*sequence, Err(error));
        }
        entries.len()
    }

    /// Takes nothing in any more, and fails who waits for room.
    pub(crate) fn close(&self) {
        self.lock().refusing = Some(ErrorKind::Closed);
        self.messages.close();
        self.bytes.close();
    }

    /// The number that the next publish gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.lock().sequence
    }

    /// Whether all before this number are settled.
    pub(crate) fn is_settled_before(&self, number: u64) -> bool {
        self.lock().entries.keys().next().is_none_or(|first| *first >= number)
    }

    /// Publishes that are not settled.
    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    fn remove(&self, sequence: u64, result: Result<Settled, Error>) {
        let mut state = self.lock();
        let Some(entry) = state.entries.remove(&sequence) else {
            return;
        };
        state.deadlines.remove(&(entry.deadline, sequence));
        let waiter = state.waiters.remove(&sequence);
        drop(state);
        self.stats.metrics.unsettled.remove(1);
        count(if result.is_ok() {
            &self.stats.published
        } else {
            &self.stats.publish_failed
        });
        if let Some(waiter) = waiter {
            let (qos, time) = (entry.message.qos, waiter.clock.elapsed());
            self.stats.metrics.settled(qos, result.is_ok(), time);
            waiter.span.in_scope(|| match &result {
                Ok(_) => tracing::debug!(elapsed_ms = waiter.clock.ms(), "published"),
                Err(error) => tracing::debug!(%error, elapsed_ms = waiter.clock.ms(), "a publish failed"),
            });
            let topic = entry.message.topic;
            let settled = result.map_err(|error| error.while_doing(format_args!("publishing to {topic}")));
            waiter.settler.settle(settled);
        }
        self.changed.notify_one();
    }
}

fn fate(tried: bool) -> Fate {
    if tried { Fate::Unknown } else { Fate::NotSent }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was shut down").with_fate(Fate::NotSent)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tars_ports::QoS;

    use super::*;

    fn message(payload: &str) -> Message {
        Message::new("t".parse().unwrap(), payload.to_owned()).with_qos(QoS::AtLeastOnce)
    }

    async fn append(outbox: &Outbox, payload: &str) -> Receipt {
        let deadline = Instant::now() + Duration::from_secs(30);
        outbox.append(message(payload), deadline).await.unwrap()
    }

    fn payloads(outbox: &Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.next())
            .map(|m| String::from_utf8(m.payload.to_vec()).unwrap())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_unsettled_goes_again_in_order_and_before_newer_ones() {
        let outbox = Outbox::new(10, 1000, Arc::default());
        let mut receipts = Vec::new();
        for payload in ["0", "1", "2"] {
            receipts.push(append(&outbox, payload).await);
        }
        assert_eq!(payloads(&outbox), ["0", "1", "2"]);
        outbox.settle(1, Ok(Settled::default()));
        outbox.settle(0, Err(Error::new(ErrorKind::ConnectionLost, "cut")));
        outbox.rewind(&[]);
        receipts.push(append(&outbox, "3").await);
        assert_eq!(payloads(&outbox), ["0", "2", "3"]);
        assert_eq!(outbox.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn resumed_flows_are_not_sent_as_new_ones() {
        let outbox = Outbox::new(10, 1000, Arc::default());
        let _receipts = (append(&outbox, "0").await, append(&outbox, "1").await);
        assert_eq!(payloads(&outbox).len(), 2);
        outbox.rewind(&[0]);
        assert_eq!(payloads(&outbox), ["1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_bound_it_waits_and_then_fails_unsent() {
        let outbox = Outbox::new(1, 1000, Arc::default());
        let _first = append(&outbox, "0").await;
        let late = Instant::now() + Duration::from_secs(3);
        let error = outbox.append(message("1"), late).await.unwrap_err();
        assert_eq!((error.kind(), error.fate()), (ErrorKind::Full, Some(Fate::NotSent)));
        outbox.settle(0, Ok(Settled::default()));
        let _second = append(&outbox, "1").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_says_whether_it_may_have_arrived() {
        let outbox = Outbox::new(10, 1000, Arc::default());
        let (tried, waiting) = (append(&outbox, "0").await, append(&outbox, "1").await);
        let sent = outbox.next().unwrap();
        outbox.tried(sent.key);
        outbox.expire(outbox.next_deadline().unwrap());
        assert_eq!(tried.await.unwrap_err().fate(), Some(Fate::Unknown));
        assert_eq!(waiting.await.unwrap_err().fate(), Some(Fate::NotSent));
        assert_eq!(outbox.len(), 0);
        assert!(outbox.next_deadline().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_future_before_it_resolves_leaves_nothing_behind() {
        let outbox = Outbox::new(1, 1000, Arc::default());
        let first = append(&outbox, "0").await;
        let later = Instant::now() + Duration::from_secs(60);
        let second = outbox.append(message("1"), later);
        assert!(tokio::time::timeout(Duration::from_secs(1), second).await.is_err());
        outbox.settle(0, Ok(Settled::default()));
        first.await.unwrap();
        assert_eq!(outbox.len(), 0);
        let _third = append(&outbox, "2").await;
        assert_eq!(payloads(&outbox), ["2"]);
    }
}
