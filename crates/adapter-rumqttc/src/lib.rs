//! One MQTT 3.1.1 connection on rumqttc's packet codec: a
//! [`tars_ports::Connector`].
//!
//! The whole public surface is [`RumqttcConnector`]; no type of rumqttc appears in it.
#![forbid(unsafe_code)]

mod connector;
mod convert;
mod driver;
mod error;
mod flows;
mod handle;
mod handshake;
mod inbound;
mod inbox;
mod keepalive;
mod outbox;
mod qos2_inbound;
mod read_buffer;
mod shared;
mod write_buffer;

pub use connector::RumqttcConnector;
