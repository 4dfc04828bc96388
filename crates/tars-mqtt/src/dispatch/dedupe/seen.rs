//! What was handled lately: a bounded table with a sliding time to live.
//!
//! Pure: the time is passed in. An entry lives for the TTL after it was marked or last
//! asked for, its last instant included. At most `max_entries` are kept; the one that
//! was refreshed least recently goes first, and as those are in order of time, it is
//! the first to expire as well. Nothing is swept: a new entry takes the place of the
//! oldest one if that has expired or the table is full, so there is never more memory
//! than for the most entries that were alive at once, and no pause.
//!
//! An entry costs 40 bytes and at most 8 of the index: below half a megabyte for the
//! default of 10,000, per subscription.

use std::time::Duration;

use tokio::time::Instant;

use super::key::Key;

/// The end of a chain or of the list.
const NONE: u32 = u32::MAX;

struct Slot {
    key: Key,
    /// Nanoseconds from the table's first instant, which last for centuries in 64 bits.
    refreshed: u64,
    older: u32,
    newer: u32,
    /// The next slot whose key falls into the same bucket.
    next: u32,
}

/// See the module.
pub(crate) struct Seen {
    ttl: u64,
    max_entries: usize,
    began: Option<Instant>,
    slots: Vec<Slot>,
    /// The first slot of each bucket; a power of two, never fewer than the slots.
    buckets: Vec<u32>,
    oldest: u32,
    newest: u32,
}

impl Seen {
    pub(crate) fn new(ttl: Duration, max_entries: usize) -> Self {
        Self {
            ttl: nanoseconds(ttl),
            // An index has 32 bits, one of its values means none.
            max_entries: max_entries.min(NONE as usize),
            began: None,
            slots: Vec::new(),
            buckets: Vec::new(),
            oldest: NONE,
            newest: NONE,
        }
    }

    /// Whether it was marked within the TTL. If so it lives for another, and is the newest.
    pub(crate) fn check(&mut self, key: Key, now: Instant) -> bool {
        let now = self.since_began(now);
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
        } else if self.slots.len() >= self.max_entries || self.oldest != NONE && !self.is_alive(self.oldest, now) {
            self.replace_oldest(key, now);
        } else {
            self.add(key, now);
        }
    }

    fn since_began(&mut self, now: Instant) -> u64 {
        nanoseconds(now.duration_since(*self.began.get_or_insert(now)))
    }

    fn is_alive(&self, at: u32, now: u64) -> bool {
        now.saturating_sub(self.slot(at).refreshed) <= self.ttl
    }

    fn slot(&self, at: u32) -> &Slot {
        &self.slots[at as usize]
    }

    fn slot_mut(&mut self, at: u32) -> &mut Slot {
        &mut self.slots[at as usize]
    }

    fn add(&mut self, key: Key, now: u64) {
        if self.slots.len() == self.slots.capacity() {
            self.grow();
        }
        let at = self.slots.len() as u32;
        self.slots.push(Slot {
            key,
            refreshed: now,
            older: NONE,
            newer: NONE,
            next: NONE,
        });
        self.link(at);
        self.push_newest(at);
    }

    /// Doubles, but not beyond the bound: `Vec` would.
    fn grow(&mut self) {
        let capacity = (self.slots.len() * 2).clamp(16, self.max_entries.max(16));
        self.slots.reserve_exact(capacity - self.slots.len());
        self.buckets = vec![NONE; self.slots.capacity().next_power_of_two()];
        for at in 0..self.slots.len() as u32 {
            self.link(at);
        }
    }

    fn replace_oldest(&mut self, key: Key, now: u64) {
        let at = self.oldest;
        if at == NONE {
            return; // Nothing is to be remembered at all.
        }
        self.unlink(at);
        self.slot_mut(at).key = key;
        self.link(at);
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

    // The index, by key. Keys are hashes under a secret key already.

    fn bucket(&self, key: Key) -> usize {
        key.bits() as usize & (self.buckets.len() - 1)
    }

    fn find(&self, key: Key) -> Option<u32> {
        if self.buckets.is_empty() {
            return None;
        }
        let mut at = self.buckets[self.bucket(key)];
        while at != NONE && self.slot(at).key != key {
            at = self.slot(at).next;
        }
        (at != NONE).then_some(at)
    }

    fn link(&mut self, at: u32) {
        let bucket = self.bucket(self.slot(at).key);
        self.slot_mut(at).next = std::mem::replace(&mut self.buckets[bucket], at);
    }

    fn unlink(&mut self, at: u32) {
        let Slot { key, next, .. } = *self.slot(at);
        let bucket = self.bucket(key);
        if self.buckets[bucket] == at {
            self.buckets[bucket] = next;
            return;
        }
        let mut before = self.buckets[bucket];
        while self.slot(before).next != at {
            before = self.slot(before).next;
        }
        self.slot_mut(before).next = next;
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
        Key::from_halves(u64::from(n % 5), u64::from(n))
    }

    fn bytes(seen: &Seen) -> usize {
        seen.slots.capacity() * size_of::<Slot>() + seen.buckets.capacity() * size_of::<u32>()
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
                prop_assert!(seen.slots.len() <= max_entries);
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
                seen.mark(Key::from_halves(u64::from(n), 0), now + pause * n);
            }
            bytes(&seen)
        };
        for max_entries in [100, 8192, 8193, 10_000] {
            assert!(full(max_entries, Duration::ZERO) <= 48 * max_entries, "{max_entries}");
        }
        // A hundred in each second: the rest gave its place away.
        assert!(full(10_000, Duration::from_millis(10)) <= 48 * 256);
    }
}
