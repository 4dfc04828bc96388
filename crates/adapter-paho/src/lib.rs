//! One MQTT 3.1.1 connection on the Paho C library: a [`tars_ports::Connector`].
//!
//! The whole public surface is [`PahoConnector`]; no type of paho appears in it.
//! The bytes go through [`tars_net`]: TCP, TLS (feature `tls`), WebSocket (feature
//! `websocket`); paho itself is built without OpenSSL. It needs `cmake`, `make` and a C compiler
//! to build.
//!
//! # What paho cannot do, and how that shows
//! | not possible | what happens instead |
//! |---|---|
//! | acknowledge later | on receipt: deliveries have no token, [`ack`](tars_ports::Connection::ack) does nothing (`manual_ack` is false) |
//! | pause reading | above eight times `inbound_messages`, or `inbound_bytes`, waiting to be taken, the connection ends as "lagging"; what arrives after that is lost, acknowledged or not |
//! | end without DISCONNECT | [`close`](tars_ports::Connection::close), and dropping the handles, send it where they can, so that the last will stays silent (`abrupt_close` is false); only a killed process or a lost link makes it speak |
//! | carry QoS 2 into the next connection | no session is taken or handed on (`qos2_resume` is false) |
//! | show PINGRESP | [`activity`](tars_ports::Connection::activity) counts messages, acknowledgements, SUBACK and UNSUBACK; a quiet link that answers pings stands still in it |
//! | show DUP | [`Delivery::dup`](tars_ports::Delivery::dup) is never set; a QoS 2 message comes with its PUBREL |
//! | say why a link ended | "closed, broken or silent" is one error |
//! | turn keepalive off | a `keep_alive` of zero is sent as 65,535 s |
//! | ping on time for each connection | how often it looks, up to every 5 s, is set for the whole process by whoever connected last: beside others a `keep_alive` below 10 s comes too late for the broker |
//! | keep an acknowledgement that comes together with the end | rarely lost; its message is "outcome unknown" |
//! | tell written from queued | QoS 1 and 2 that were handed to paho and are not confirmed are "outcome unknown"; [`Ended::unsent`](tars_ports::Ended::unsent) counts QoS 0 that paho did not report as written: what still lay in the buffers between paho and the broker is not in it |
//!
//! `disconnect` waits half its time for acknowledgements, and for QoS 0 to be written; then
//! DISCONNECT goes out. Behind a QoS 1 or 2 message so large that the buffers do not
//! take it, paho closes without DISCONNECT and says nothing.
//!
//! # Dangers of the library, and what stands against them
//! Paho has one lock and two threads for the whole process; calling it at the wrong
//! time, or dropping the last client on one of its threads, stops all connections.
//! So **each connection has a thread that alone owns its client** from creation to
//! destruction (`client`); callbacks only put what they got into a queue
//! (`arrivals`), whose memory is bounded by counting; everything else happens in an async
//! task that never calls paho (`driver`). The library's own reconnect, offline
//! buffer and persistence stay off.
//!
//! Where a QoS 1 or 2 PUBLISH meets a socket error, the C library frees its payload
//! twice, and the process aborts: a broker killed under load is enough. So **the
//! socket to the broker is ours**, and paho is connected to it over loopback
//! (`relay`), where no write ever fails.
//!
//! A broken or hostile broker aborts a process that uses paho: by a PUBLISH whose topic is
//! not UTF-8 (the wrapper panics in a C callback), or a SUBACK that has fewer codes than
//! filters (it reads beyond their end). So **paho sees nothing that was not checked**: the
//! relay frames what the broker sends (`screen`), and the first packet that breaks the
//! protocol, or the limit, ends the link before a byte of it has passed.
//!
//! Paho logs through the `log` crate. At DEBUG it writes passwords and payloads, so
//! while it connects all logging of the process is capped at INFO, and the C library's own
//! trace is never turned on. Payloads of publishes still appear at DEBUG: filter the
//! target `paho_mqtt` to `info`.
//!
//! # What is where
//! | module | subject |
//! |---|---|
//! | `connector` | one attempt, up to CONNACK |
//! | `client` | the thread that owns paho's client: the only place that calls it |
//! | `arrivals`, `inbound` | what arrives: the queue behind the callbacks, and the stream |
//! | `handle`, `outbox` | what callers ask for |
//! | `relay`, `screen` | the socket to the broker, and what may come through it |
//! | `driver`, `window` | the task between them: in-flight window, receipts, the end |
//! | `convert`, `error`, `logs` | between paho's words and the ports' |

mod arrivals;
mod client;
mod connector;
mod convert;
mod driver;
mod error;
mod handle;
mod inbound;
mod logs;
mod outbox;
mod relay;
mod screen;
mod shared;
mod window;

pub use connector::PahoConnector;
