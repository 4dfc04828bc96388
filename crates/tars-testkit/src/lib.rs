//! Test support for tars-mqtt: brokers that a test holds in its hand.
//!
//! | module | what it is | sockets | paused time |
//! |---|---|---|---|
//! | [`TestBroker`] | the broker of [`memory`] for the tests of a service: events in, events out | no | yes |
//! | [`memory`] | an adapter and its broker inside the process, with scripted faults | no | yes |
//! | [`mosquitto`] | a real Mosquitto process, to be stopped, killed and paused | yes | no |
//! | `embedded` | a broker inside the process over TCP, with the feature `embedded` | yes | no |
//! | [`scripted`] | a listening socket, driven byte by byte | yes | no |
//! | [`proxy`] | what stands before a broker and cuts, holds, delays and throttles | yes | no |
//! | `certificates` | of authorities of a test's own, good and bad ones, with the feature `tls` | | |
//! | [`conformance`] | the contract of the ports, for every adapter and broker | | |

#[cfg(feature = "tls")]
pub mod certificates;
pub mod conformance;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod memory;
pub mod mosquitto;
pub mod proxy;
pub mod scripted;
mod test_broker;

pub use test_broker::TestBroker;
