//! Test support for tars-mqtt: brokers that a test holds in its hand.
//!
//! | module | what it is | sockets | paused time |
//! |---|---|---|---|
//! | [`memory`] | an adapter and its broker inside the process, with scripted faults | no | yes |
//! | [`scripted`] | a listening socket, driven byte by byte | yes | no |

#![forbid(unsafe_code)]

pub mod memory;
pub mod scripted;
