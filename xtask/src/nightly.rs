//! Commands that need a nightly toolchain, which nothing else here does: the fuzzer and Miri.
//! Where it is missing they say so, and how to get it; nothing is installed.

use anyhow::{Result, bail};

use crate::command::Line;

/// Cargo of the nightly toolchain. By rustup, because the cargo that runs this program is that of
/// another toolchain.
pub(crate) fn cargo(arguments: &str) -> Line {
    Line::new("rustup").words("run nightly cargo").words(arguments)
}

/// Says what is missing for `cargo +nightly {subcommand}`, which `install` would bring.
pub(crate) fn require(subcommand: &str, install: &str) -> Result<()> {
    let mut missing = Vec::new();
    if !Line::new("rustup").words("run nightly rustc --version").succeeds() {
        missing.push("rustup toolchain install nightly --profile minimal");
    }
    if !cargo(subcommand).words("--version").succeeds() {
        missing.push(install);
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("something is missing; to install it:\n  {}", missing.join("\n  "))
}
