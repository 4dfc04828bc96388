//! The ten-line service of the README, as a program: `service.rs` beside this file is its text,
//! kept apart so that a formatter leaves the ten lines alone.
//!
//! ```sh
//! MQTT_URL=mqtt://localhost MQTT_CLIENT_ID=wake cargo run --package tars-tests --bin ten-lines
//! ```

include!("service.rs");
