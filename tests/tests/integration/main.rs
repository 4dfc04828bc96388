//! Everything together: the client with its real adapter, against a Mosquitto process of each
//! test's own, beside Mosquitto's command-line clients, a Python service, and services in child
//! processes.
//!
//! Real sockets need real time, so nothing here is in paused time, and nothing sleeps for a state:
//! states are awaited, within a limit. A tool that is missing fails the test and says how to get it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod authorisation;
mod bad_input_from_outside;
mod command_line_tools;
mod environment;
mod flood;
mod large;
mod migrated;
mod mixed_fleet;
mod outage_seen;
mod overlap;
mod panics;
mod python_consumer;
mod request_response;
mod restart_under_traffic;
mod sessions;
mod stopped_broker;
mod support;
mod ten_lines;
mod transports;
mod wire_order;
