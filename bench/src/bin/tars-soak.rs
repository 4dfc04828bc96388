//! `cargo xtask soak` runs this. It counts what is allocated, which the benchmarks must not.

use std::alloc::System;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tars_bench::soak;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut minutes = 10.0;
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        match option.as_str() {
            "--minutes" => {
                let value = arguments.next().context("--minutes needs a value")?;
                minutes = value.parse().context("--minutes needs a number")?;
            }
            _ => bail!("there is no option `{option}`\nusage: tars-soak [--minutes 10]"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(soak::run(Duration::from_secs_f64(60.0 * minutes), allocated))
}

/// Bytes.
fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}
