//! Miri, an interpreter that sees undefined behaviour, over what it can run: no sockets, no
//! processes, no SIMD. Our own crates have no `unsafe`; what they rest on has, and simd-json the
//! most: under Miri it takes the path for processors without SIMD.

use anyhow::{Result, bail};

use crate::nightly;

/// Unit tests, and of the fuzz targets those that read bytes: with them the trie, the keys of
/// deduplication, and what the adapters read from a socket.
const RUNS: [&str; 3] = [
    // Without the two that are far too slow here: one draws texts, one checks 65,535 bytes.
    "--package tars-contracts --lib -- --skip every_topic_is_matched_by_the_filter --skip lengths",
    "--package tars-ports",
    "--package fuzz-targets --test replay -- codec dedupe envelope screen topics",
];

/// Runs them, one after the other.
///
/// # Errors
/// What Miri found, or what is missing.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        bail!("there is no option `{argument}`: miri takes none");
    }
    nightly::require("miri", "rustup component add miri rust-src --toolchain nightly")?;
    for run in RUNS {
        nightly::cargo("miri test")
            .words(run)
            // The clock and files of the machine: a fresh id's time, the corpus.
            .variable("MIRIFLAGS", "-Zmiri-disable-isolation")
            .run()?;
    }
    Ok(())
}
