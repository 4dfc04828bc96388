//! What was handled lately: a bounded table with a sliding time to live.
//!
//! Pure: the time is passed in. An entry lives for the TTL after it was marked or last
//! asked for, its last instant included. At most `max_entries` are kept; the one that
//! was refreshed least recently goes first, and as those are in order of time, it is
//! the first to expire as well. Nothing is swept: a new entry takes the place of the
//! oldest one if that has expired or the table is full, so there is never more memory
//! than for the most entries that were alive at once, and no pause.
//!
//! No call takes much longer than another: memory comes a piece at a time, and nothing
//! that is there is moved. (The [`Index`] grows in pieces as well.)
//!
//! An entry costs 32 bytes and at most 22 of the index: about half a megabyte for the
//! default of 10,000, per subscription.

use std::time::Duration;

use tokio::time::Instant;

use super::index::Index;
use super::key::Key;

/// The end of the list.
const NONE: u32 = u32::MAX;

/// So many slots come at once: 128 KiB.
const PIECE: usize = 4096;

#[derive(Clone, Copy)]
#[repr(align(32))] // Never on two lines of the cache.
struct Slot {
    key: Key,
    /// Nanoseconds from the table's first instant, which last for centuries in 64 bits.
    refreshed: u64,
    older: u32,
    newer: u32,
}

/// See the module.
pub(crate) struct Seen {
    ttl: u64,
    max_entries: usize,
    began: Option<Instant>,
    /// Each piece is full but the last one.
    slots: Vec<Vec<Slot>>,
    entries: usize,
    index: Index,
    oldest: u32,
    newest: u32,
}

impl Seen {
    pub(crate) fn new(ttl: Duration, max_entries: usize) -> Self {
        // A slot's number has 32 bits, and one of the numbers means none.
        let max_entries = max_entries.min(NONE as usize);
        Self {
            ttl: nanoseconds(ttl),
            max_entries,
            began: None,
            slots: Vec::new(),
            entries: 0,
            index: Index::new(max_entries),
            oldest: NONE,
            newest: NONE,
        }
    }

    /// Whether it was marked within the TTL. If so it lives for another, and is the newest.
    pub(crate) fn check(&mut self, key: Key, now: Instant) -> bool {
        let now = self.since_began(now);
        if self.is_replacing(now) {
            // If the key is not there it will be marked, in the place of the oldest one.
            self.index.touch(self.slot(self.oldest).key);
        }
        let Some(at) = self.find(key).filter(|at| self.is_alive(*at, now)) else {
            return false;
        };
        self.refresh(at, now);
        true
    }

    /// Remembers it, as the newest.
    pub(crate) fn mark(&mut self, key: Key, now: Instant) {
        let now = self.since_began(now);
        if let Some(at) = self.find(key) {
            self.refresh(at, now);
        } else if self.is_replacing(now) {
            self.replace_oldest(key, now);
        } else if self.entries < self.max_entries {
            self.add(key, now);
        }
    }

    /// Whether what is new takes the place of the oldest one.
    fn is_replacing(&self, now: u64) -> bool {
        self.oldest != NONE && (self.entries >= self.max_entries || !self.is_alive(self.oldest, now))
    }

    fn since_began(&mut self, now: Instant) -> u64 {
        nanoseconds(now.duration_since(*self.began.get_or_insert(now)))
    }

    fn is_alive(&self, at: u32, now: u64) -> bool {
        now.saturating_sub(self.slot(at).refreshed) <= self.ttl
    }

    fn slot(&self, at: u32) -> &Slot {
        &self.slots[at as usize / PIECE][at as usize % PIECE]
    }

    fn slot_mut(&mut self, at: u32) -> &mut Slot {
        &mut self.slots[at as usize / PIECE][at as usize % PIECE]
    }

    fn add(&mut self, key: Key, now: u64) {
        let at = self.entries as u32;
        let room = self.max_entries - self.entries;
        if self.entries == self.slots.len() * PIECE {
            self.slots.push(Vec::new());
        }
        let piece = &mut self.slots[at as usize / PIECE];
        if piece.len() == piece.capacity() {
            // Doubles, but not beyond the bound: `Vec` would.
            let more = if self.entries < PIECE {
                self.entries.max(16)
            } else {
                PIECE
            };
            piece.reserve_exact(more.min(room));
        }
        piece.push(Slot {
            key,
            refreshed: now,
            older: NONE,
            newer: NONE,
        });
        self.entries += 1;
        self.index.insert(key, at);
        self.push_newest(at);
    }

    fn replace_oldest(&mut self, key: Key, now: u64) {
        let at = self.oldest;
        self.index.remove(self.slot(at).key, at);
        self.index.insert(key, at);
        self.slot_mut(at).key = key;
        self.refresh(at, now);
    }

    fn refresh(&mut self, at: u32, now: u64) {
        self.slot_mut(at).refreshed = now;
        self.take_out(at);
        self.push_newest(at);
    }

    // The list, by age.

    fn take_out(&mut self, at: u32) {
        let Slot { older, newer, .. } = *self.slot(at);
        match older {
            NONE => self.oldest = newer,
            _ => self.slot_mut(older).newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            _ => self.slot_mut(newer).older = older,
        }
    }

    fn push_newest(&mut self, at: u32) {
        let older = std::mem::replace(&mut self.newest, at);
        let slot = self.slot_mut(at);
        (slot.older, slot.newer) = (older, NONE);
        match older {
            NONE => self.oldest = at,
            _ => self.slot_mut(older).newer = at,
        }
    }

    fn find(&self, key: Key) -> Option<u32> {
        self.index.find(key, |at| self.slot(at).key == key)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same in the plainest way: newest last.
    struct Model {
        ttl: Duration,
        max_entries: usize,
        entries: Vec<(Key, Instant)>,
    }

    impl Model {
        fn check(&mut self, key: Key, now: Instant) -> bool {
            self.entries.retain(|(_, refreshed)| now - *refreshed <= self.ttl);
            let Some(at) = self.entries.iter().position(|entry| entry.0 == key) else {
                return false;
            };
            self.entries.remove(at);
            self.entries.push((key, now));
            true
        }

        fn mark(&mut self, key: Key, now: Instant) {
            if !self.check(key, now) {
                self.entries.push((key, now));
            }
            let excess = self.entries.len().saturating_sub(self.max_entries);
            self.entries.drain(..excess);
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Check(u8),
        Mark(u8),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..40_u8).prop_map(Step::Check),
            (0..40_u8).prop_map(Step::Mark),
            (0..30_u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..400)
    }

    /// Few buckets are hit, so that chains grow.
    fn key(n: u8) -> Key {
        // Alike, and around the end of a table.
        Key::from_halves(u64::from(n % 5).wrapping_sub(2), u64::from(n))
    }

    fn bytes(seen: &Seen) -> usize {
        seen.slots.iter().map(Vec::capacity).sum::<usize>() * size_of::<Slot>() + seen.index.bytes()
    }

    proptest! {
        #[test]
        fn it_does_what_the_model_does(ttl in 0..80_u64, max_entries in 0..40_usize, steps in steps()) {
            let ttl = Duration::from_millis(ttl);
            let mut seen = Seen::new(ttl, max_entries);
            let mut model = Model { ttl, max_entries, entries: Vec::new() };
            let mut now = Instant::now();
            for step in steps {
                match step {
                    Step::Check(n) => prop_assert_eq!(seen.check(key(n), now), model.check(key(n), now)),
                    Step::Mark(n) => {
                        seen.mark(key(n), now);
                        model.mark(key(n), now);
                    }
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                }
                prop_assert!(seen.entries <= max_entries);
            }
            let known: Vec<u8> = (0..40).filter(|n| seen.check(key(*n), now)).collect();
            prop_assert_eq!(known, (0..40).filter(|n| model.check(key(*n), now)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn memory_is_bounded_by_the_entries_and_by_those_alive_at_once() {
        let (ttl, now) = (Duration::from_secs(1), Instant::now());
        let full = |max_entries: usize, pause: Duration| {
            let mut seen = Seen::new(ttl, max_entries);
            for n in 0..30_000_u32 {
                let bits = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                seen.mark(Key::from_halves(bits, 0), now + pause * n);
            }
            bytes(&seen)
        };
        for max_entries in [100, 8192, 8193, 10_000] {
            assert!(full(max_entries, Duration::ZERO) <= 54 * max_entries, "{max_entries}");
        }
        // A hundred in each second: the rest gave its place away.
        assert!(full(10_000, Duration::from_millis(10)) <= 54 * 256);
    }
}
