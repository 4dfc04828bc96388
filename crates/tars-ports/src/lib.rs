//! The ports of tars-mqtt: the traits an MQTT library is adapted to, and the
//! values that pass through them.
//!
//! An adapter makes **one connection** and knows nothing of retries: it connects
//! once, sends, receives, acknowledges, and says why it ended. Everything that
//! outlives a connection (when to reconnect, what is subscribed, what is not yet
//! settled) belongs to the facade `tars-mqtt`.
//!
//! | trait | what it does |
//! |---|---|
//! | [`Connector`] | makes a connection: one attempt, bounded in time |
//! | [`Connection`] | the handle to a live one: publish, subscribe, acknowledge, end |
//! | [`Publisher`] | takes a [`Message`] over and hands back a [`Receipt`] |
//! | [`Subscriber`] | asks the broker for filters, or gives them back |
//!
//! All of them are object-safe and forwarded for `Arc<T>` and `Box<T>`. The
//! feature `mock` adds mockall fakes ([`mock`]).
//!
//! No type of an MQTT library appears here, and nothing here opens a socket.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod ack;
mod capabilities;
mod connector;
mod delivery;
mod error;
mod message;
#[cfg(feature = "mock")]
pub mod mock;
mod options;
mod publisher;
mod receipt;
mod session;
mod subscriber;

pub use ack::{AckSequencer, Acknowledgement};
pub use capabilities::{Capabilities, ProtocolVersion};
pub use connector::{Activity, Connected, Connection, Connector, EndReason, Ended, Inbound, Incoming};
pub use delivery::{AckOutcome, AckToken, Delivery};
pub use error::{Error, ErrorKind, Fate, Refusal, TlsFault};
pub use message::{Message, Properties};
pub use options::{ConnectOptions, Credentials, TlsFiles, Transport};
pub use publisher::{Publisher, PublisherExt, TryPublishError};
pub use receipt::{Receipt, Settled, Settler};
pub use session::{OutboundQos2, SessionState};
pub use subscriber::{Refused, Subscriber};
pub use tars_contracts::QoS;
