//! The facade over the in-memory broker in paused time, under random schedules.
//!
//! A seed makes a [`Schedule`]: which kind of session, which broker, and what happens
//! to them. [`run`] plays it and checks the invariants of the specification; a
//! schedule that breaks one is made as short as it can be by [`minimise`].
//!
//! Two clients take part, because one of them would hide what only shows between two:
//! `pub` publishes numbered events, `sub` handles them in three subscriptions that
//! overlap in part, and fails as the schedule says.

mod clients;
mod ledger;
mod promises;
mod schedule;
mod shrink;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use schedule::{Schedule, Step};
pub use shrink::minimise;

use world::{Played, World};

/// Plays a schedule and checks the invariants.
///
/// # Errors
/// What was broken, in words.
pub fn run(schedule: &Schedule) -> Result<(), String> {
    let problems = play(schedule, false).problems;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("; "))
    }
}

/// Plays a schedule and says all that happened: every packet, run of a handler and
/// lifecycle event, with its time. The same each time.
#[must_use]
pub fn trace(schedule: &Schedule) -> Vec<String> {
    play(schedule, true).trace
}

fn play(schedule: &Schedule, traced: bool) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(World::play(schedule, traced))));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Played::failed(format!("panicked: {}", text.unwrap_or_default()))
    })
}
