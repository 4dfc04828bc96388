//! The short form of the simulation; `cargo xtask chaos --seeds N` plays more.

use tars_tests::simulation::{Schedule, run, trace};

const SEEDS: u64 = 2000;

#[test]
fn two_thousand_schedules_keep_every_promise() {
    let workers = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        for first in 0..workers {
            scope.spawn(move || {
                for seed in (first..SEEDS).step_by(workers as usize) {
                    if let Err(problem) = run(&Schedule::from_seed(seed)) {
                        panic!("seed {seed}: {problem}\nto see it: cargo xtask chaos --seed {seed}");
                    }
                }
            });
        }
    });
}

#[test]
fn a_seed_repeats_exactly() {
    for seed in 0..60 {
        let schedule = Schedule::from_seed(seed);
        let (first, second) = (trace(&schedule), trace(&schedule));
        let differs = first.iter().zip(&second).find(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.len(), second.len(), "seed {seed}");
        assert!(first.len() > 30, "seed {seed}: too little happened: {first:?}");
    }
}
