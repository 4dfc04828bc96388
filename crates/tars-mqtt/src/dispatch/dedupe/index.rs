//! Where an entry of [`Seen`](super::seen::Seen) stands, by its key.
//!
//! Open addressing, eight bytes a bucket: 32 bits of the key and the entry's number. A key
//! that is not there is so told by one place in memory. Nothing but the entry's own key
//! decides that it is there.
//!
//! It is made of many small tables, each for its share of the keys, and each grows by
//! itself: whoever comes when one is full waits for some thousand entries to move, never
//! for all. Keys are hashes under a secret key already, so the shares are alike.

use std::hint::black_box;

use super::key::Key;

/// The tables are as many as bring this number of entries into each.
const SHARE: usize = 2048;

/// The tables are there from the beginning, so their number has a bound.
const MOST_TABLES: usize = 4096;

/// See the module.
pub(super) struct Index {
    /// A power of two.
    tables: Box<[Table]>,
}

/// Its buckets are a power of two, or none; three quarters of them are used at most.
#[derive(Clone, Default)]
struct Table {
    buckets: Vec<Bucket>,
    used: usize,
}

/// A part of the key above, below one more than the entry's number. Zero is free.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Bucket(u64);

impl Bucket {
    const FREE: Self = Self(0);

    #[inline]
    fn new(key: Key, at: u32) -> Self {
        Self(key.bits() << 32 | (u64::from(at) + 1))
    }

    #[inline]
    fn looks_like(self, key: Key) -> bool {
        self.0 >> 32 == key.bits() & u64::from(u32::MAX)
    }

    #[inline]
    fn at(self) -> u32 {
        self.0 as u32 - 1
    }

    /// Its place in an empty table whose last place this is.
    #[inline]
    fn home(self, last: usize) -> usize {
        (self.0 >> 32) as usize & last
    }
}

impl Index {
    pub(super) fn new(max_entries: usize) -> Self {
        let tables = max_entries.div_ceil(SHARE).clamp(1, MOST_TABLES).next_power_of_two();
        Self {
            tables: vec![Table::default(); tables].into(),
        }
    }

    /// The entry for which `is` holds, among those whose keys look like this one.
    #[inline]
    pub(super) fn find(&self, key: Key, is: impl Fn(u32) -> bool) -> Option<u32> {
        let buckets = &self.table(key).buckets;
        let last = buckets.len().checked_sub(1)?;
        let mut place = key.bits() as usize & last;
        loop {
            match buckets[place] {
                Bucket::FREE => return None,
                bucket if bucket.looks_like(key) && is(bucket.at()) => return Some(bucket.at()),
                _ => place = (place + 1) & last,
            }
        }
    }

    /// Takes in an entry that is not there.
    pub(super) fn insert(&mut self, key: Key, at: u32) {
        let table = self.table_mut(key);
        if (table.used + 1) * 4 > table.buckets.len() * 3 {
            table.grow();
        }
        table.used += 1;
        table.put(Bucket::new(key, at));
    }

    /// Removes an entry that is there.
    pub(super) fn remove(&mut self, key: Key, at: u32) {
        let table = self.table_mut(key);
        table.used -= 1;
        table.take_out(Bucket::new(key, at));
    }

    /// Reads where the key belongs, for nothing but that it has come from memory by the time
    /// it is needed: two such reads wait together.
    #[inline]
    pub(super) fn touch(&self, key: Key) {
        let buckets = &self.table(key).buckets;
        black_box(
            buckets
                .get(key.bits() as usize & buckets.len().wrapping_sub(1))
                .copied(),
        );
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let buckets: usize = self.tables.iter().map(|table| table.buckets.capacity()).sum();
        buckets * size_of::<Bucket>() + self.tables.len() * size_of::<Table>()
    }

    // The other half of the bits than in a table.
    #[inline]
    fn share(&self, key: Key) -> usize {
        (key.bits() >> 32) as usize & (self.tables.len() - 1)
    }

    #[inline]
    fn table(&self, key: Key) -> &Table {
        &self.tables[self.share(key)]
    }

    #[inline]
    fn table_mut(&mut self, key: Key) -> &mut Table {
        let share = self.share(key);
        &mut self.tables[share]
    }
}

impl Table {
    fn grow(&mut self) {
        let twice = vec![Bucket::FREE; (2 * self.buckets.len()).max(4)];
        for bucket in std::mem::replace(&mut self.buckets, twice) {
            if bucket != Bucket::FREE {
                self.put(bucket);
            }
        }
    }

    fn put(&mut self, bucket: Bucket) {
        let last = self.buckets.len() - 1;
        let mut place = bucket.home(last);
        while self.buckets[place] != Bucket::FREE {
            place = (place + 1) & last;
        }
        self.buckets[place] = bucket;
    }

    /// What stands behind it moves up where it may, so that it leaves no gap to be looked over.
    fn take_out(&mut self, bucket: Bucket) {
        let last = self.buckets.len() - 1;
        let mut gap = bucket.home(last);
        while self.buckets[gap] != bucket {
            gap = (gap + 1) & last;
        }
        let mut place = gap;
        loop {
            place = (place + 1) & last;
            let next = self.buckets[place];
            if next == Bucket::FREE {
                break;
            }
            let (from_home, from_gap) = (place.wrapping_sub(next.home(last)), place.wrapping_sub(gap));
            if from_home & last >= from_gap & last {
                self.buckets[gap] = next;
                gap = place;
            }
        }
        self.buckets[gap] = Bucket::FREE;
    }
}
