//! Benchmarks of tars-mqtt against what one would write by hand.
//!
//! Every figure is a ratio between things measured in turn, in one run: the harness starts a
//! Mosquitto and the peers, each a process of its own, so that CPU time has an owner. What is
//! measured is in [`harness`], who is measured in [`peer`]; what is pure is called in this process.
//! `cargo xtask bench` runs all of it.

pub mod clock;
pub mod event;
pub mod harness;
pub mod peer;
pub mod soak;
