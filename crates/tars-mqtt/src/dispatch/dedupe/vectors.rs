//! What the original Python implementation decided, replayed as "received, and its
//! handler succeeded", and the list of where SPEC decides otherwise.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::{Admission, Dedupe, Key};

const VECTORS: &str = include_str!("../../../../tars-contracts/tests/vectors/dedupe_vectors.jsonl");

#[derive(Deserialize)]
struct Step {
    step: usize,
    group: String,
    payload: String,
    ttl: f64,
    max_entries: usize,
    at_ms: u64,
    duplicate: bool,
    note: String,
}

/// Steps with a verdict other than the original's: ours, and why.
const OTHERWISE: [(usize, bool, &str); 12] = [
    (55, true, "reading is tolerant: an unknown field is ignored (1.1)"),
    (56, true, "`correlate` is understood (1.1), and the key is that of 54"),
    (57, true, "as 56"),
    (77, false, "`ts` is a number: as a string it makes no envelope"),
    (81, false, "`ts` is a number: as a boolean it makes no envelope"),
    (83, true, "`ts: null` is as good as absent"),
    (85, true, "`source: null` is as good as absent"),
    (87, false, "`type` is not empty (1.1)"),
    (104, false, "103 was no JSON (`NaN`), so nothing with `null` was seen"),
    (105, false, "`Infinity` is no JSON"),
    (108, true, "keys are sorted for the digest (6.4), whatever the numbers"),
    (
        118,
        false,
        "117 was not readable (1e400 is beyond range), so nothing with `null` was seen",
    ),
];

#[test]
fn the_original_decided_the_same_but_where_the_spec_says_otherwise() {
    let began = Instant::now();
    let mut group = String::new();
    let mut dedupe = Dedupe::new(Duration::ZERO, 0);
    let mut otherwise = OTHERWISE.iter().peekable();
    let mut steps = 0;
    for line in VECTORS.lines() {
        let step: Step = serde_json::from_str(line).unwrap();
        assert_eq!(step.step, steps);
        steps += 1;
        if step.group != group {
            dedupe = Dedupe::new(Duration::from_secs_f64(step.ttl), step.max_entries);
            group.clone_from(&step.group);
        }
        let now = began + Duration::from_millis(step.at_ms);
        let duplicate = Key::of(step.payload.as_bytes()).is_some_and(|key| match dedupe.admit(key, (), true, now) {
            Admission::Duplicate(()) => true,
            Admission::Joined => unreachable!("one step at a time"),
            Admission::Run((), run) => {
                assert!(run.succeeded(now).is_empty());
                false
            }
        });
        let (expected, reason) = match otherwise.next_if(|(number, ..)| *number == step.step) {
            Some(&(_, ours, reason)) => {
                assert_ne!(ours, step.duplicate, "step {}: the same after all", step.step);
                (ours, reason)
            }
            None => (step.duplicate, &*step.note),
        };
        assert_eq!(duplicate, expected, "step {} of {group}: {reason}", step.step);
    }
    assert_eq!((steps, otherwise.next()), (166, None));
}
