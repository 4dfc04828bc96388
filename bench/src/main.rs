//! `cargo xtask bench` runs this; it runs itself for each peer.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tars_bench::harness::{self, MEASURES, Plan};
use tars_bench::peer;

const USAGE: &str = "\
usage: tars-bench run [--quick] [--only B3]… [--folder docs]
       tars-bench render [--folder docs]
       tars-bench peer JOB";

fn main() -> ExitCode {
    match dispatch() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> Result<bool> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    if command == "peer" {
        let job = arguments.next().context("a peer needs a job")?;
        return peer::run(&serde_json::from_str(&job)?).map(|()| true);
    }
    let mut plan = Plan {
        quick: false,
        only: Vec::new(),
        folder: PathBuf::from("docs"),
        python: python(),
    };
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{option} needs a value"));
        match option.as_str() {
            "--quick" => plan.quick = true,
            "--folder" => plan.folder = value()?.into(),
            "--only" => {
                let name = value()?;
                if !MEASURES.contains(&name.as_str()) {
                    bail!("there is no measure `{name}`; they are {}", MEASURES.join(", "));
                }
                plan.only.push(name);
            }
            _ => bail!("there is no option `{option}`\n{USAGE}"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command.as_str() {
        "run" => runtime.block_on(harness::run(&plan)),
        "render" => {
            let text = std::fs::read_to_string(plan.folder.join("benchmarks.json"))?;
            harness::render(&serde_json::from_str(&text)?, &plan.folder).map(|()| true)
        }
        _ => bail!("{USAGE}"),
    }
}

/// What `cargo xtask bench` has set up, or why it has not.
fn python() -> Result<PathBuf, String> {
    match std::env::var("TARS_PYTHON") {
        Ok(path) => Ok(path.into()),
        Err(_) => {
            Err(std::env::var("TARS_NO_PYTHON").unwrap_or_else(|_| "TARS_PYTHON names no interpreter".to_owned()))
        }
    }
}
