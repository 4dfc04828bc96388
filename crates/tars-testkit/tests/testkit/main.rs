//! The test kit tested: brokers that are to judge others must themselves be right.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[cfg(feature = "embedded")]
mod embedded;
mod memory;
mod mosquitto;
mod scripted;
mod test_broker;
