//! What the fuzzer runs: one function for each target, which takes any bytes and panics when
//! a law is broken. Plain functions, so that the corpus and what was once found are run on
//! every machine, without a fuzzer (`tests/replay.rs`).
//!
//! Private parts of other crates are taken in as files, so that none of them is made public
//! for this.

pub mod codec;
pub mod config;
pub mod dedupe;
pub mod envelope;
pub mod screen;
pub mod session;
pub mod topics;

/// A target: its name, which is that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("codec", codec::run),
    ("config", config::run),
    ("dedupe", dedupe::run),
    ("envelope", envelope::run),
    ("screen", screen::run),
    ("session", session::run),
    ("topics", topics::run),
];
