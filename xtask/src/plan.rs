//! What `test` and `integration` do, step by step, with progress, times and a summary.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::command::{Line, root};
use crate::{demo, python, rules, tools};

/// One named part of a plan.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// What it does, in plain words.
    title: &'static str,
    run: fn() -> Result<()>,
}

/// Everything that guards the project; what is quick to fail comes first.
pub(crate) const TEST: &[Step] = &[
    Step {
        name: "tools",
        title: "find what the tests need, and install what is missing",
        run: tools::provide,
    },
    Step {
        name: "format",
        title: "the code is formatted",
        run: format,
    },
    Step {
        name: "rules",
        title: "dependencies point one way, licences are allowed, files are tidy",
        run: rules::check,
    },
    Step {
        name: "clippy",
        title: "no warnings, with every set of features",
        run: clippy,
    },
    Step {
        name: "docs",
        title: "the documentation builds without a warning",
        run: docs,
    },
    Step {
        name: "tests",
        title: "unit tests, integration tests with real brokers, code in the documents",
        run: tests,
    },
    Step {
        name: "demo",
        title: "the demo runs and ends well",
        run: demo::check,
    },
];

/// The suites against real brokers alone.
pub(crate) const INTEGRATION: &[Step] = &[
    Step {
        name: "broker",
        title: "a Mosquitto to test against is there",
        run: tools::require_mosquitto,
    },
    Step {
        name: "python",
        title: "the Python service that the suites talk to can run",
        run: python::provide,
    },
    Step {
        name: "table",
        title: "the contract of the ports: behaviour × adapter × broker",
        run: table,
    },
    Step {
        name: "suites",
        title: "the adapters and the client against Mosquitto",
        run: suites,
    },
];

fn format() -> Result<()> {
    Line::cargo("fmt --all --check").run()
}

fn clippy() -> Result<()> {
    for selection in [
        "--workspace --all-targets",
        "--package tars-mqtt --no-default-features --lib",
        "--workspace --all-targets --all-features",
    ] {
        Line::cargo("clippy").words(selection).words("-- -D warnings").run()?;
    }
    Ok(())
}

fn docs() -> Result<()> {
    Line::cargo("doc --workspace --no-deps --all-features")
        .variable("RUSTDOCFLAGS", "-D warnings")
        .run()
}

fn tests() -> Result<()> {
    Line::cargo("test --workspace --all-features")
        .variable(python::VARIABLE, python::chosen()?)
        .run()?;
    // Each ends by itself and fails if what it shows is not so.
    for example in examples()? {
        Line::cargo("run --quiet --package tars-mqtt --all-features --example")
            .words(&example)
            .without("MQTT_URL") // with the broker inside it
            .run()?;
    }
    Ok(())
}

/// The names of the facade's examples: all there are.
fn examples() -> Result<Vec<String>> {
    let folder = root().join("crates/tars-mqtt/examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Which adapter the table is for; all, if not set.
static ADAPTER: OnceLock<String> = OnceLock::new();

fn table() -> Result<()> {
    Line::cargo("run --quiet --package tars-tests --all-features --bin conformance --")
        .words(ADAPTER.get().map_or("all", String::as_str))
        .run()
}

fn suites() -> Result<()> {
    let adapters = rules::adapters(&root())?;
    let packages = adapters
        .iter()
        .map(String::as_str)
        .chain(["tars-testkit", "tars-tests"]);
    let selection = packages.flat_map(|package| ["--package", package]);
    Line::cargo("test --all-features")
        .arguments(selection)
        .variable(python::VARIABLE, python::chosen()?)
        .run()
}

/// Which steps of a plan to run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Selection {
    list: bool,
    /// All, if empty.
    only: Vec<String>,
}

impl Selection {
    /// # Errors
    /// An option or a step that does not exist, in words.
    pub(crate) fn parse(arguments: &[String], steps: &[Step]) -> Result<Self, String> {
        let mut selection = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => selection.list = true,
                "--adapter" => {
                    let name = arguments.next().ok_or("--adapter needs a name: rumqttc, paho or all")?;
                    if !["rumqttc", "paho", "all"].contains(&name.as_str()) {
                        return Err(format!("there is no adapter `{name}`: it is rumqttc, paho or all"));
                    }
                    // The table alone: the suites are those of every adapter.
                    selection.only.push("table".to_owned());
                    let _ = ADAPTER.set(name.clone());
                }
                "--only" => {
                    let name = arguments.next().ok_or("--only needs the name of a step")?;
                    if !steps.iter().any(|step| step.name == name) {
                        let names: Vec<_> = steps.iter().map(|step| step.name).collect();
                        return Err(format!("there is no step `{name}`; the steps are {}", names.join(", ")));
                    }
                    selection.only.push(name.clone());
                }
                unknown => return Err(format!("there is no option `{unknown}`")),
            }
        }
        Ok(selection)
    }
}

/// Runs the selected steps in the plan's order, up to the first that fails.
pub(crate) fn run(command: &str, steps: &[Step], selection: &Selection) -> Result<()> {
    let is_selected = |step: &&Step| selection.only.is_empty() || selection.only.iter().any(|name| name == step.name);
    let steps: Vec<&Step> = steps.iter().filter(is_selected).collect();
    println!("{command}: {}", counted(steps.len()));
    for (number, step) in (1..).zip(&steps) {
        println!("  {number}. {:<8} {}", step.name, step.title);
    }
    if selection.list {
        return Ok(());
    }

    let start = Instant::now();
    let mut times = Vec::new();
    for (number, step) in (1..).zip(&steps) {
        println!("\n[{number}/{}] {}: {}", steps.len(), step.name, step.title);
        let start = Instant::now();
        (step.run)().map_err(|error| {
            let repeat = format!("cargo xtask {command} --only {}", step.name);
            anyhow!(
                "\n{command}: failed at step {number}, {}: {error:#}\nto repeat this step alone: {repeat}",
                step.name
            )
        })?;
        times.push(start.elapsed());
        println!(
            "[{number}/{}] {}: ok in {}",
            steps.len(),
            step.name,
            shown(start.elapsed())
        );
    }

    println!();
    for (step, time) in steps.iter().zip(times) {
        println!("  {:<8} {:>8}", step.name, shown(time));
    }
    println!("{command}: ok: {} in {}", counted(steps.len()), shown(start.elapsed()));
    Ok(())
}

fn counted(steps: usize) -> String {
    if steps == 1 {
        "1 step".to_owned()
    } else {
        format!("{steps} steps")
    }
}

fn shown(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{:.0} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Selection, String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Selection::parse(&arguments, TEST)
    }

    #[test]
    fn steps_are_selected_by_name() {
        assert_eq!(parse(&[]), Ok(Selection::default()));
        let expected = Selection {
            list: true,
            only: vec!["docs".to_owned(), "tools".to_owned()],
        };
        assert_eq!(parse(&["--only", "docs", "--list", "--only", "tools"]), Ok(expected));
    }

    #[test]
    fn what_does_not_exist_is_told() {
        assert!(parse(&["--only", "nothing"]).is_err_and(|why| why.contains("tools, format, rules")));
        assert!(parse(&["--only"]).is_err());
        assert!(parse(&["--all"]).is_err_and(|why| why.contains("--all")));
    }

    #[test]
    fn a_step_that_fails_ends_the_plan_with_how_to_repeat_it() {
        let steps = [
            Step {
                name: "bad",
                title: "",
                run: || Err(anyhow!("`x` failed")),
            },
            Step {
                name: "never",
                title: "",
                run: || unreachable!("the step before failed"),
            },
        ];
        let error = run("test", &steps, &Selection::default()).map_err(|error| error.to_string());
        let expected = "failed at step 1, bad: `x` failed\nto repeat this step alone: cargo xtask test --only bad";
        assert!(error.is_err_and(|text| text.contains(expected)));
    }

    #[test]
    fn the_examples_are_found() {
        let names = examples().unwrap();
        assert!(names.contains(&"quickstart".to_owned()) && !names.contains(&"broker".to_owned()));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(shown(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(shown(Duration::from_secs(312)), "312 s");
    }
}
