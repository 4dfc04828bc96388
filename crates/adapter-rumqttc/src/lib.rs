//! One MQTT 3.1.1 connection on rumqttc's packet codec: a
//! [`tars_ports::Connector`].
//!
//! The whole public surface is [`RumqttcConnector`]; no type of rumqttc appears in
//! it. The bytes go through [`tars_net`]: TCP, TLS (feature `tls`), WebSocket (feature
//! `websocket`).
//!
//! # How much of rumqttc is used, and why
//! The codec, `rumqttc::mqttbytes::v4`. Not its event loop: that is not
//! cancel-safe, cannot pause reading, flushes after every message, hides packet
//! ids and gates acknowledgements behind the in-flight window. Not its state
//! machine either: it gives an id out again before PUBCOMP, delivers QoS 2
//! duplicates and takes a PUBREL after a resume for an error. Nor its TLS, which brings
//! crates with known advisories.
//!
//! Measured with rumqttc 0.25.1 over loopback on two cores, 200-byte payloads,
//! TCP_NODELAY on both, in messages per second (range of six runs, on one thread
//! and on several):
//!
//! | | its event loop | this crate |
//! |---|---|---|
//! | QoS 0 out, into a sink | 0.3 to 0.7 M | 3.3 to 5.5 M |
//! | QoS 1 out, PUBACK at once, window 100 | 0.1 to 0.4 M | 1.8 to 2.8 M |
//! | QoS 0 in, as it comes | 2.0 to 3.0 M | 0.9 to 2.8 M |
//!
//! Inward a task of its own costs a hand-over per message, which buys the pause at
//! the budget and answers that go out while the application is busy.
//!
//! # What is where
//! | module | subject |
//! |---|---|
//! | `connector`, `handshake` | one attempt, up to CONNACK |
//! | `handle`, `outbox` | what callers ask for |
//! | `inbound`, `inbox`, `qos2_inbound` | what arrives, its budget and its acknowledgements |
//! | `driver` | the task that owns the socket |
//! | `flows`, `keepalive`, `read_buffer`, `write_buffer` | its parts, without any I/O |
//! | `convert`, `error` | between the codec's words and the ports' |
//!
//! # Choices that show
//! - At the inbound budget reading pauses. While own publishes or subscriptions
//!   wait for an answer, up to twice the budget is read, because the answer lies
//!   behind messages.
//! - PINGREQ goes out when nothing was sent *or* nothing was read for the
//!   keep-alive time; a peer that then stays silent for as long again, 10 s at
//!   most, has ended the connection.
//! - While `max_inflight_qos2` QoS 2 publishes are in flight, QoS 1 waits too.
//!   Mosquitto counts both against one window, and drops what exceeds it while it
//!   acknowledges it.
//! - Publishes leave in the order in which they were taken over, whatever their
//!   QoS; SUBSCRIBE and UNSUBSCRIBE may overtake waiting publishes.
//! - `disconnect` waits half its time for the in-flight window; publishes that
//!   still wait are then "not sent", and DISCONNECT goes out.
#![forbid(unsafe_code)]

mod connector;
mod convert;
mod driver;
mod error;
mod flows;
mod gather;
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
