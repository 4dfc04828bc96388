//! Deduplication (SPEC 6.4): one subscription handles the same message once.
//!
//! The law: check → run → mark as seen → acknowledge. What is the same message says
//! [`Key`]; what is no envelope has none and never comes here.
//!
//! - Seen is a message whose handler **succeeded**, within the TTL, and nothing else. One
//!   that failed, went to a dead-letter topic, did not fit the handler's type, or was cut
//!   off, runs again when it comes again.
//! - A duplicate of a message that is being handled (with concurrency) joins that run: it
//!   waits, unacknowledged, and goes with it if it succeeds. If the run fails for good,
//!   the one that has waited longest is run, in its own right, and the others wait for
//!   that. Only what the broker keeps for us may wait in any number, for the connection's
//!   budget bounds it; of the rest one is kept, and further ones are skipped.
//! - A run that is cut off takes those that wait for it along, unacknowledged.
//!
//! Memory: 54 bytes for each of at most `max_entries` messages ([`Seen`]), and the
//! messages that wait.

mod digest;
mod index;
mod key;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod model;
mod seen;
#[cfg(test)]
mod vectors;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::key::Key;
use self::key::OwnBits;
use self::seen::Seen;

/// What one subscription has handled lately, and what it handles now. `M` is a message.
pub(crate) struct Dedupe<M> {
    state: Mutex<State<M>>,
}

struct State<M> {
    seen: Seen,
    /// Who waits for each message that is being handled.
    running: HashMap<Key, VecDeque<M>, BuildHasherDefault<OwnBits>>,
}

/// What to do with a message.
pub(crate) enum Admission<'a, M> {
    /// Handle it, and tell the run how it went.
    Run(M, Run<'a, M>),
    /// It was handled already: skip it.
    Duplicate(M),
    /// It is kept aside until the run that handles the same message has ended.
    Joined,
}

impl<M> Dedupe<M> {
    pub(crate) fn new(ttl: Duration, max_entries: usize) -> Self {
        Self {
            state: Mutex::new(State {
                seen: Seen::new(ttl, max_entries),
                running: HashMap::default(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        // Nothing here panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message comes up. `kept` says that the broker has it until it is acknowledged.
    pub(crate) fn admit(&self, key: Key, message: M, kept: bool, now: Instant) -> Admission<'_, M> {
        let mut state = self.lock();
        if let Some(waiting) = state.running.get_mut(&key) {
            if !kept && !waiting.is_empty() {
                return Admission::Duplicate(message);
            }
            waiting.push_back(message);
            return Admission::Joined;
        }
        if state.seen.check(key, now) {
            return Admission::Duplicate(message);
        }
        state.running.insert(key, VecDeque::new());
        let run = Run {
            dedupe: self,
            key,
            over: false,
        };
        Admission::Run(message, run)
    }

    /// Removes what waits and `unwanted` says, and returns how many.
    pub(crate) fn discard(&self, mut unwanted: impl FnMut(&M) -> bool) -> usize {
        let mut discarded = 0;
        for waiting in self.lock().running.values_mut() {
            let before = waiting.len();
            waiting.retain(|message| !unwanted(message));
            discarded += before - waiting.len();
        }
        discarded
    }
}

/// A message is being handled, and duplicates of it wait. Dropped before its end was
/// told, the run was cut off: what waits is dropped with it.
#[must_use = "dropped, it ends as a run that was cut off"]
pub(crate) struct Run<'a, M> {
    dedupe: &'a Dedupe<M>,
    key: Key,
    over: bool,
}

impl<M> Run<'_, M> {
    /// It is seen from now on. Returns the duplicates to be acknowledged with it.
    pub(crate) fn succeeded(mut self, now: Instant) -> VecDeque<M> {
        self.over = true;
        let mut state = self.dedupe.lock();
        state.seen.mark(self.key, now);
        // In one step with the mark: nobody can join in between, or be run again.
        state.running.remove(&self.key).unwrap_or_default()
    }

    /// It is not seen. Returns the duplicate that takes over, if one waits.
    pub(crate) fn failed(mut self) -> Option<(M, Self)> {
        let mut state = self.dedupe.lock();
        let next = state.running.get_mut(&self.key).and_then(VecDeque::pop_front);
        if next.is_none() {
            state.running.remove(&self.key);
            self.over = true;
        }
        drop(state);
        next.map(|message| (message, self))
    }
}

impl<M> Drop for Run<'_, M> {
    fn drop(&mut self) {
        if !self.over {
            let waiting = self.dedupe.lock().running.remove(&self.key);
            // Not under the lock: what a message does when it is dropped is its own matter.
            drop(waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(1);

    fn key(n: u64) -> Key {
        Key::from_halves(n, n)
    }

    fn run(admission: Admission<'_, u8>) -> Run<'_, u8> {
        match admission {
            Admission::Run(_, run) => run,
            _ => panic!("a run was expected"),
        }
    }

    #[test]
    fn duplicates_join_a_run_and_go_with_it() {
        let (dedupe, now) = (Dedupe::new(TTL, 10), Instant::now());
        let first = run(dedupe.admit(key(1), 1, true, now));
        for message in [2, 3] {
            assert!(matches!(dedupe.admit(key(1), message, true, now), Admission::Joined));
        }
        let other = run(dedupe.admit(key(2), 9, true, now));
        assert_eq!(first.succeeded(now), [2, 3]);
        assert!(matches!(
            dedupe.admit(key(1), 4, true, now + TTL),
            Admission::Duplicate(4)
        ));
        assert!(other.failed().is_none());
        drop(run(dedupe.admit(key(2), 9, true, now)));
    }

    #[test]
    fn after_a_failure_the_next_one_takes_over() {
        let (dedupe, now) = (Dedupe::new(TTL, 10), Instant::now());
        let first = run(dedupe.admit(key(1), 1, true, now));
        for message in [2, 3, 4] {
            dedupe.admit(key(1), message, true, now);
        }
        let (message, second) = first.failed().unwrap();
        assert_eq!(message, 2);
        assert_eq!(dedupe.discard(|message| *message == 3), 1);
        let (message, third) = second.failed().unwrap();
        assert_eq!(message, 4);
        assert!(third.failed().is_none());
        assert!(dedupe.lock().running.is_empty());
    }

    #[test]
    fn a_run_that_is_cut_off_leaves_nothing_behind() {
        let (dedupe, now) = (Dedupe::new(TTL, 10), Instant::now());
        let first = run(dedupe.admit(key(1), 1, true, now));
        dedupe.admit(key(1), 2, true, now);
        drop(first);
        assert!(dedupe.lock().running.is_empty());
        // And the end of one run is not taken for that of another.
        let second = run(dedupe.admit(key(1), 2, true, now));
        assert!(second.failed().is_none());
        let third = run(dedupe.admit(key(1), 2, true, now));
        assert_eq!(dedupe.lock().running.len(), 1);
        assert!(third.succeeded(now).is_empty());
    }

    #[test]
    fn of_what_the_broker_does_not_keep_one_waits() {
        let (dedupe, now) = (Dedupe::new(TTL, 10), Instant::now());
        let first = run(dedupe.admit(key(1), 1, false, now));
        assert!(matches!(dedupe.admit(key(1), 2, false, now), Admission::Joined));
        assert!(matches!(dedupe.admit(key(1), 3, false, now), Admission::Duplicate(3)));
        assert!(matches!(dedupe.admit(key(1), 4, true, now), Admission::Joined));
        assert_eq!(first.succeeded(now), [2, 4]);
    }
}
