//! Faults without end: against a real broker in real processes, or simulated.

use anyhow::Result;

use crate::command::Line;

/// Options that only the simulation has. `--seed` alone is its own as well: it is what a failing
/// simulation tells to repeat it.
const SIMULATED: &str = "--seeds";

/// Runs the one that the options are for; its exit code is this command's.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if is_simulated(arguments) {
        return program("simulate", "").arguments(arguments.iter().cloned()).run();
    }
    let features = if arguments.iter().any(|argument| argument == "paho") {
        "--features paho"
    } else {
        ""
    };
    // A program of its own, which `run` would not make.
    Line::cargo("build --quiet --package tars-tests --bin chaos_service")
        .words(features)
        .run()?;
    program("chaos", features).arguments(arguments.iter().cloned()).run()
}

fn program(name: &str, features: &str) -> Line {
    Line::cargo("run --quiet --package tars-tests --bin")
        .words(name)
        .words(features)
        .words("--")
}

fn is_simulated(arguments: &[String]) -> bool {
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    has(SIMULATED) || has("--seed") && !has("--minutes") && !has("--adapter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_simulated_and_minutes_are_real() {
        let simulated = |line: &str| is_simulated(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        for line in ["--seeds 100", "--seed 7"] {
            assert!(simulated(line), "{line}");
        }
        for line in ["", "--minutes 5", "--minutes 5 --seed 7", "--adapter paho --seed 7"] {
            assert!(!simulated(line), "{line}");
        }
    }
}
