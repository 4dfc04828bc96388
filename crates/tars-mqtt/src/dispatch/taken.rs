//! The messages that are taken in and not finished: how many, the oldest, and when there is
//! something to say about them. Pure bookkeeping.

use std::collections::BTreeMap;
use std::time::Duration;

use tars_contracts::{TopicFilter, TopicName};
use tokio::time::Instant;

/// A message that is not finished after so long holds others up.
const LONG: Duration = Duration::from_secs(30);

/// A received QoS 1 or 2 message that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// Its topic.
    pub topic: TopicName,
    /// A subscription that has not finished with it. `None` when all have, and a
    /// [`Context`](crate::Context) that was kept holds it.
    pub filter: Option<TopicFilter>,
    /// Since it arrived.
    pub age: Duration,
}

/// What there is to say, once per burst.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// No more is taken in until something is finished.
    Full,
    /// The oldest has not been finished for long.
    Long,
}

struct Held {
    topic: TopicName,
    /// Who works on it; mostly one, which needs no memory of its own.
    filter: Option<TopicFilter>,
    others: Vec<TopicFilter>,
    bytes: usize,
    since: Instant,
}

#[derive(Default)]
pub(super) struct Taken {
    next: u64,
    bytes: usize,
    /// By number, so the first is the oldest.
    messages: BTreeMap<u64, Held>,
    told_full: bool,
    told_long: bool,
}

impl Taken {
    /// Takes a message in; its number.
    pub(super) fn insert(&mut self, topic: TopicName, bytes: usize, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        let held = Held {
            topic,
            filter: None,
            others: Vec::new(),
            bytes,
            since: now,
        };
        self.messages.insert(number, held);
        number
    }

    pub(super) fn remove(&mut self, number: u64) {
        if let Some(held) = self.messages.remove(&number) {
            self.bytes -= held.bytes;
        }
    }

    /// A subscription has work with it.
    pub(super) fn enter(&mut self, number: u64, filter: &TopicFilter) {
        if let Some(held) = self.messages.get_mut(&number) {
            match held.filter {
                None => held.filter = Some(filter.clone()),
                Some(_) => held.others.push(filter.clone()),
            }
        }
    }

    /// That subscription has not any more.
    pub(super) fn leave(&mut self, number: u64, filter: &TopicFilter) {
        let Some(held) = self.messages.get_mut(&number) else {
            return;
        };
        if held.filter.as_ref() == Some(filter) {
            held.filter = held.others.pop();
        } else if let Some(at) = held.others.iter().position(|other| other == filter) {
            held.others.swap_remove(at);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether one more message may be taken in. One always may.
    pub(super) fn has_room(&self, messages: usize, bytes: usize) -> bool {
        self.messages.len() < messages.max(1) && (self.bytes < bytes || self.messages.is_empty())
    }

    pub(super) fn oldest(&self, now: Instant) -> Option<Unfinished> {
        let held = self.messages.values().next()?;
        Some(Unfinished {
            topic: held.topic.clone(),
            filter: held.filter.clone(),
            age: now.saturating_duration_since(held.since),
        })
    }

    /// What is to be said now. A burst of fullness ends at half the budget, one of
    /// waiting when the oldest is young again.
    pub(super) fn complaint(&mut self, now: Instant, messages: usize, bytes: usize) -> Option<Complaint> {
        let oldest = self.messages.values().next();
        let is_long = oldest.is_some_and(|held| now.saturating_duration_since(held.since) >= LONG);
        if is_long != self.told_long {
            self.told_long = is_long;
            if is_long {
                return Some(Complaint::Long);
            }
        }
        if self.has_room(messages, bytes) {
            self.told_full &= !self.has_room(messages / 2, bytes / 2);
            return None;
        }
        let told = std::mem::replace(&mut self.told_full, true);
        (!told).then_some(Complaint::Full)
    }

    /// When [`complaint`](Self::complaint) is to be asked again at the latest.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let oldest = self.messages.values().next().filter(|_| !self.told_long)?;
        Some(oldest.since + LONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicName {
        "t".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn it_names_who_still_works_on_the_oldest() {
        let mut taken = Taken::default();
        let now = Instant::now();
        let (first, second) = (taken.insert(topic(), 1, now), taken.insert(topic(), 1, now));
        let filters: [TopicFilter; 3] = ["a".parse().unwrap(), "b".parse().unwrap(), "c".parse().unwrap()];
        filters.iter().for_each(|filter| taken.enter(first, filter));
        taken.enter(second, &filters[0]);
        let at_work = |taken: &Taken| taken.oldest(now).and_then(|oldest| oldest.filter);
        taken.leave(first, &filters[0]);
        taken.leave(first, &filters[1]);
        assert_eq!(at_work(&taken), Some(filters[2].clone()));
        taken.leave(first, &filters[2]);
        assert_eq!(at_work(&taken), None, "somebody keeps it");
        taken.remove(first);
        assert_eq!(at_work(&taken), Some(filters[0].clone()));
        assert_eq!((taken.len(), taken.bytes), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_long_is_said_once_until_it_is_over() {
        let mut taken = Taken::default();
        let begin = Instant::now();
        let first = taken.insert(topic(), 1, begin);
        let second = taken.insert(topic(), 1, begin + LONG / 2);
        let complaint = |taken: &mut Taken, after: Duration| taken.complaint(begin + after, 10, 10);
        assert_eq!(complaint(&mut taken, LONG / 2), None);
        assert_eq!(taken.next_look(), Some(begin + LONG));
        assert_eq!(complaint(&mut taken, LONG), Some(Complaint::Long));
        assert_eq!((complaint(&mut taken, 2 * LONG), taken.next_look()), (None, None));
        // The next has waited too long as well: still the same burst.
        taken.remove(first);
        assert_eq!(complaint(&mut taken, 2 * LONG), None);
        taken.remove(second);
        assert_eq!(complaint(&mut taken, 2 * LONG), None);
        taken.insert(topic(), 1, begin + 2 * LONG);
        assert_eq!(complaint(&mut taken, 3 * LONG), Some(Complaint::Long));
    }

    #[tokio::test(start_paused = true)]
    async fn fullness_is_said_once_until_half_is_free() {
        let mut taken = Taken::default();
        let now = Instant::now();
        let mut said = 0;
        let mut numbers = Vec::new();
        for _ in 0..3 {
            while taken.has_room(4, 100) {
                numbers.push(taken.insert(topic(), 1, now));
                said += usize::from(taken.complaint(now, 4, 100) == Some(Complaint::Full));
            }
            // One goes, one comes: a handler that is merely slow.
            taken.remove(numbers.remove(0));
            assert_eq!(taken.complaint(now, 4, 100), None);
        }
        assert_eq!(said, 1);
        numbers.drain(..3).for_each(|number| taken.remove(number));
        assert_eq!(taken.complaint(now, 4, 100), None);
        taken.insert(topic(), 200, now);
        assert_eq!(taken.complaint(now, 4, 100), Some(Complaint::Full), "by its bytes");
    }
}
