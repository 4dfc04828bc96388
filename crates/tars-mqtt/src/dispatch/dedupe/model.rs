//! The whole of deduplication against the plainest model of it, in random order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const KEYS: u8 = 6;

/// How a run of the handler ends.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Succeeded,
    Failed,
    CutOff,
}

#[derive(Debug, Clone)]
enum Step {
    /// A message with this key comes up; whether the broker keeps it.
    Comes(u8, bool),
    /// One of the runs ends.
    Ends(prop::sample::Index, Outcome),
    /// A connection ends: what waits and has an even number is left to come again.
    LinkEnds,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop::sample::select(&[Outcome::Succeeded, Outcome::Failed, Outcome::CutOff][..]);
    let step = prop_oneof![
        6 => (0..KEYS, any::<bool>()).prop_map(|(key, kept)| Step::Comes(key, kept)),
        4 => (any::<prop::sample::Index>(), outcome).prop_map(|(run, outcome)| Step::Ends(run, outcome)),
        1 => Just(Step::LinkEnds),
        2 => (0..40_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..200)
}

/// What becomes of a message that comes up.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Run,
    Duplicate,
    Joined,
}

/// Who succeeded when, newest last, and who waits for whom.
struct Model {
    ttl: Duration,
    max_entries: usize,
    succeeded: Vec<(u8, Instant)>,
    running: BTreeMap<u8, Vec<u32>>,
}

impl Model {
    fn comes(&mut self, key: u8, message: u32, kept: bool, now: Instant) -> Fate {
        if let Some(waiting) = self.running.get_mut(&key) {
            if !kept && !waiting.is_empty() {
                return Fate::Duplicate;
            }
            waiting.push(message);
            return Fate::Joined;
        }
        self.succeeded.retain(|(_, last)| now - *last <= self.ttl);
        if self.succeeded.iter().any(|(other, _)| *other == key) {
            // A duplicate renews it.
            self.remember(key, now);
            return Fate::Duplicate;
        }
        self.running.insert(key, Vec::new());
        Fate::Run
    }

    fn remember(&mut self, key: u8, now: Instant) {
        self.succeeded.retain(|(other, _)| *other != key);
        self.succeeded.push((key, now));
        let excess = self.succeeded.len().saturating_sub(self.max_entries);
        self.succeeded.drain(..excess);
    }
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(ttl in 0..100_u64, max_entries in 1..8_usize, steps in steps()) {
        let ttl = Duration::from_millis(ttl);
        let dedupe = Dedupe::new(ttl, max_entries);
        let mut model = Model { ttl, max_entries, succeeded: Vec::new(), running: BTreeMap::new() };
        let mut runs: Vec<(u8, Run<'_, u32>)> = Vec::new();
        let mut now = Instant::now();
        for (message, step) in (0..).zip(steps) {
            match step {
                Step::Comes(key, kept) => {
                    let admission = dedupe.admit(Key::from_halves(u64::from(key), 0), message, kept, now);
                    let fate = match admission {
                        Admission::Run(same, run) => {
                            prop_assert_eq!(same, message);
                            runs.push((key, run));
                            Fate::Run
                        }
                        Admission::Duplicate(same) => {
                            prop_assert_eq!(same, message);
                            Fate::Duplicate
                        }
                        Admission::Joined => Fate::Joined,
                    };
                    prop_assert_eq!(fate, model.comes(key, message, kept, now));
                }
                Step::Ends(run, outcome) if !runs.is_empty() => {
                    let (key, run) = runs.swap_remove(run.index(runs.len()));
                    let mut waiting = model.running.remove(&key).unwrap();
                    match outcome {
                        Outcome::Succeeded => {
                            prop_assert_eq!(Vec::from(run.succeeded(now)), waiting);
                            model.remember(key, now);
                        }
                        Outcome::Failed => {
                            let next = run.failed().map(|(message, run)| {
                                runs.push((key, run));
                                message
                            });
                            prop_assert_eq!(next, waiting.first().copied());
                            if next.is_some() {
                                waiting.remove(0);
                                model.running.insert(key, waiting);
                            }
                        }
                        Outcome::CutOff => drop(run),
                    }
                }
                Step::Ends(..) => {}
                Step::LinkEnds => {
                    let before: usize = model.running.values().map(Vec::len).sum();
                    model.running.values_mut().for_each(|waiting| waiting.retain(|message| message % 2 == 1));
                    let after: usize = model.running.values().map(Vec::len).sum();
                    prop_assert_eq!(dedupe.discard(|message| message.is_multiple_of(2)), before - after);
                }
                Step::Wait(ms) => now += Duration::from_millis(ms),
            }
            prop_assert_eq!(dedupe.lock().running.len(), model.running.len());
        }
    }
}
