//! The short form of the simulation; `cargo xtask chaos --seeds N` plays more.

use tars_tests::simulation::{Schedule, run};

const SEEDS: u64 = 2000;

#[test]
fn two_thousand_schedules_keep_every_promise() {
    for seed in 0..SEEDS {
        if let Err(problem) = run(&Schedule::from_seed(seed)) {
            panic!("seed {seed}: {problem}\nto see it: cargo xtask chaos --seed {seed}");
        }
    }
}
