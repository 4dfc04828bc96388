//! Plays simulated schedules and shows the first that breaks something, made short.
//! Run it with `cargo xtask chaos --seeds N`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tars_tests::simulation::{Schedule, minimise, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (first, count) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--seeds", count] => (0, count.parse()),
        ["--seed", seed] => (seed.parse().unwrap_or(0), Ok(1)),
        _ => (0, Ok(2000)),
    };
    let Ok(count) = count else {
        eprintln!("usage: simulate [--seeds COUNT | --seed SEED]");
        return ExitCode::from(2);
    };
    let (begin, mut told) = (Instant::now(), Instant::now());
    for seed in first..first + count {
        let schedule = Schedule::from_seed(seed);
        if let Err(problem) = run(&schedule) {
            println!("seed {seed} breaks something: {problem}");
            println!("looking for a shorter schedule ...");
            let short = minimise(&schedule, |schedule| run(schedule).is_err());
            println!("{short:#?}");
            println!("which ends with: {}", run(&short).err().unwrap_or_default());
            println!("chaos: failed: seed {seed}; to repeat it: cargo xtask chaos --seed {seed}");
            return ExitCode::FAILURE;
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            println!("{} of {count} seeds", seed + 1 - first);
        }
    }
    println!(
        "chaos: ok: {count} seeds in {:.1} s, nothing lost, nothing out of order",
        begin.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}
