//! The benchmarks and the soak: what they need besides Rust, and the program that does them.

use anyhow::Result;

use crate::command::Line;
use crate::{python, tools};

/// Builds for release and measures.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    tools::require_mosquitto()?;
    let python = python::provide().and_then(|()| python::chosen());
    let line = program("tars-bench")?.words("run").arguments(arguments.iter().cloned());
    match python {
        Ok(python) => line.variable(python::VARIABLE, python),
        Err(error) => {
            let why = format!("{error:#}").replace('\n', " ");
            println!("  going on without the Python peer: {why}");
            line.variable("TARS_NO_PYTHON", why)
        }
    }
    .run()
}

/// Builds for release and runs for minutes.
pub(crate) fn soak(arguments: &[String]) -> Result<()> {
    tools::require_mosquitto()?;
    program("tars-soak")?.arguments(arguments.iter().cloned()).run()
}

fn program(name: &str) -> Result<Line> {
    Line::cargo("build --release --package tars-bench").run()?;
    Ok(Line::cargo("run --release --quiet --package tars-bench --bin")
        .words(name)
        .words("--"))
}
