//! The contract of the ports as a suite that every adapter runs: the in-memory one, those
//! on an MQTT library, and one that is yet to be written.
//!
//! A behaviour is one promise of [`Connector`](tars_ports::Connector) or
//! [`Connection`](tars_ports::Connection), played with a broker that does what the
//! behaviour needs. What an adapter lacks by its
//! [`Capabilities`](tars_ports::Capabilities) is left out, or played as "is refused
//! clearly" where the contract asks for that; so an adapter's own tests must pin its
//! capabilities, or one could be switched off to pass.
//!
//! # Running it
//! As one test a behaviour, each with a broker of its own, in a file of the adapter's
//! `tests/`:
//!
//! ```no_run
//! use tars_testkit::conformance::{Setup, conformance_suite};
//! # fn my_connector() -> tars_testkit::memory::MemoryConnector {
//! #     tars_testkit::memory::MemoryBroker::new().connector()
//! # }
//!
//! conformance_suite!(#[tokio::test] Setup::mosquitto(my_connector()));
//! # fn main() {}
//! ```
//!
//! Or as a table, with [`run_all`] and [`Table`]: see `tests/src/bin/conformance.rs` of this
//! workspace. A broker of another kind is a [`TestBroker`].
//!
//! Invariants: no wait is longer than [`PATIENCE`], so that a defect fails with the
//! behaviour's name and a sentence; no behaviour sleeps for a state, and an absence is
//! shown by a later message that arrives.

mod behaviours;
mod broker;
mod report;
mod setup;
mod steps;

mod ack;
mod cancel;
mod connect;
mod end;
mod keepalive;
mod publish;
mod qos2;
mod subscribe;
mod transport;
mod will;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

pub use behaviours::{Behaviour, behaviours, check};
pub use broker::{
    BrokerCertificate, ClientCertificate, Facilities, Link, MemoryTestBroker, Scene, Security, Staged, TcpServer,
    TcpTestBroker, TestBroker,
};
pub use report::{Outcome, Report, Row, Table, run_all};
pub use setup::{Need, Setup};

pub use crate::conformance_suite;

/// The longest that a behaviour waits for one thing to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A promise that was not kept: a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure that says this.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

/// What a behaviour comes to.
pub type Played<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// `?` with a sentence.
trait OrFail<T> {
    fn or_fail(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: fmt::Debug> OrFail<T> for Result<T, E> {
    fn or_fail(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{what}: {error:?}")))
    }
}

/// Fails with a sentence unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($sentence:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Failure::new(format!($($sentence)+)));
        }
    };
}
use ensure;
