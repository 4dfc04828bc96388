//! `cargo xtask`: the project's own commands.
//!
//! What each command does is a list of named steps ([`plan`]); a step is one file here. Nothing is
//! hidden: every command line that is run is printed first, so that it can be repeated alone.

mod bench;
mod chaos;
mod command;
mod demo;
mod dependencies;
mod documents;
mod fuzz;
mod licences;
mod lines;
mod miri;
mod nightly;
mod plan;
mod python;
mod rules;
mod tidy;
mod tools;
mod tree;

use std::process::ExitCode;

use anyhow::Result;

use command::Line;
use plan::Selection;

const HELP: &str = "\
cargo xtask <command>

  demo [ARGS]   two services, one broker that goes away and comes back; ends with `demo: ok: …`
  test          everything that guards the project: tools, format, rules, clippy, docs, tests, demo
  integration   only the suites against a real Mosquitto
  ci            as test, and says first which tools it uses
  chaos         a real broker and services in processes of their own, under every fault; or simulated
  fuzz          the fuzz targets, longer than CI replays them; needs a nightly toolchain and cargo-fuzz
  miri          the parts that Miri can run, under it; needs a nightly toolchain
  flood         100,000 messages against a slow handler, with each adapter: about ten minutes
  screenshot    makes docs/images/watch.svg anew, from a real run of `tars watch`
  bench         throughput, latency, CPU and memory against what one writes by hand: docs/benchmarks.md
  soak          steady traffic and cut links: memory and tasks stay flat, nothing is lost
  help          this text

options of test, integration and ci:
  --list        name the steps and run none
  --only NAME   run this step alone; may be given several times

options of integration:
  --adapter A   the table of behaviours for rumqttc, paho or all, and nothing else

options of bench:
  --quick       a fifth of the messages, fewer rounds
  --only B3     this measure alone; may be given several times
  --folder F    where the page, the JSON and the plots go (docs without)

options of soak:
  --minutes M   how long (10 without)

options of fuzz:
  --minutes M   how long in all (1 without)
  --target T    this target alone

options of chaos:
  --minutes M   how long (1 without): kills the broker and the services, cuts links, and more
  --adapter A   rumqttc or paho
  --seed N      of the schedule, together with one of the above
options of chaos for the simulation, which shows the first schedule that breaks a promise, made short:
  --seeds N     play this many schedules
  --seed N      play the schedule of this seed alone
";

/// Exit code for a command line that is not understood.
const USAGE: u8 = 2;

enum Outcome {
    Done,
    NotUnderstood(String),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::NotUnderstood(why)) => {
            eprint!("{why}\n\n{HELP}");
            ExitCode::from(USAGE)
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<Outcome> {
    let Some((command, rest)) = arguments.split_first() else {
        return Ok(Outcome::NotUnderstood("a command is missing".to_owned()));
    };
    let steps = match command.as_str() {
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            return Ok(Outcome::Done);
        }
        "demo" => return demo::show(rest).map(|()| Outcome::Done),
        "chaos" => return chaos::run(rest).map(|()| Outcome::Done),
        "bench" => return bench::run(rest).map(|()| Outcome::Done),
        "soak" => return bench::soak(rest).map(|()| Outcome::Done),
        "fuzz" => return fuzz::run(rest).map(|()| Outcome::Done),
        "miri" => return miri::run(rest).map(|()| Outcome::Done),
        "flood" if rest.is_empty() => return flood().map(|()| Outcome::Done),
        "flood" => return Ok(Outcome::NotUnderstood("flood takes no options".to_owned())),
        "screenshot" if rest.is_empty() => return screenshot().map(|()| Outcome::Done),
        "screenshot" => return Ok(Outcome::NotUnderstood("screenshot takes no options".to_owned())),
        "test" | "ci" => plan::TEST,
        "integration" => plan::INTEGRATION,
        unknown => return Ok(Outcome::NotUnderstood(format!("there is no command `{unknown}`"))),
    };
    match Selection::parse(rest, steps) {
        Ok(selection) => {
            if command == "ci" {
                tools::print_versions();
            }
            plan::run(command, steps, &selection).map(|()| Outcome::Done)
        }
        Err(why) => Ok(Outcome::NotUnderstood(why)),
    }
}

/// The full form of a suite whose short form is one of the integration's.
fn flood() -> Result<()> {
    Line::cargo("test --package tars-tests --all-features --test integration flood:: -- --nocapture")
        .variable("TARS_FLOOD", "full")
        .run()
}

/// The command first, which running the example would not make.
fn screenshot() -> Result<()> {
    Line::cargo("build --quiet --package tars-cli --bin tars").run()?;
    Line::cargo("run --quiet --package tars-cli --example screenshot -- docs/images/watch.svg").run()
}
