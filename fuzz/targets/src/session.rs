//! The client as a whole on a broker in memory, in paused time, under a schedule of faults that
//! the bytes choose.

use tars_tests::simulation::{Schedule, run as play};

/// Every promise holds, as in the simulation.
pub fn run(bytes: &[u8]) {
    let schedule = Schedule::from_bytes(bytes);
    if let Err(problem) = play(&schedule) {
        eprintln!("{problem}\n{schedule:#?}");
        panic!("{problem}");
    }
}
