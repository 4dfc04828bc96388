//! The port for connecting: one attempt, one connection, one end.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::Stream;

use crate::{
    AckOutcome, AckToken, Capabilities, ConnectOptions, Delivery, Error, Publisher, Receipt, SessionState, Subscriber,
};

/// Makes connections. One value serves a client for its whole life.
///
/// # Contract
/// - [`connect`](Self::connect) is one attempt, never a retry, bounded by
///   [`ConnectOptions::timeout`] from name lookup to CONNACK.
/// - Every connection is a new one, with a number of its own in its
///   [`AckToken`]s. Nothing passes from one to the next but the
///   [`SessionState`] that the caller carries.
#[async_trait]
pub trait Connector: Send + Sync {
    /// What this adapter can do.
    fn capabilities(&self) -> Capabilities;

    /// Connects and resolves after CONNACK.
    ///
    /// With `session_present`, the QoS 2 flows of `session` go on at once
    /// ([`Connected::resumed`]); without, `session` is forgotten.
    ///
    /// Cancel-safe: dropped before it resolves, the attempt ends and its socket closes.
    ///
    /// # Errors
    /// [`HostNotFound`](crate::ErrorKind::HostNotFound),
    /// [`Unreachable`](crate::ErrorKind::Unreachable),
    /// [`Refused`](crate::ErrorKind::Refused) by the broker,
    /// [`Tls`](crate::ErrorKind::Tls), [`Protocol`](crate::ErrorKind::Protocol),
    /// [`Timeout`](crate::ErrorKind::Timeout), or
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when the options ask for what
    /// the capabilities lack.
    async fn connect(&self, options: &ConnectOptions, session: SessionState) -> Result<Connected, Error>;
}

/// A connection that the broker accepted.
#[non_exhaustive]
pub struct Connected {
    /// The handle, for sending.
    pub connection: Arc<dyn Connection>,
    /// The one owned stream of what arrives.
    pub inbound: Inbound,
    /// The broker had kept the session (MQTT 3.1.1 section 3.2.2.2).
    pub session_present: bool,
    /// QoS 2 publishes of the earlier connection that go on in this one:
    /// [`Message::key`](crate::Message::key) and a receipt.
    pub resumed: Vec<(u64, Receipt)>,
}

impl Connected {
    /// A connection without resumed flows.
    #[must_use]
    pub fn new(connection: Arc<dyn Connection>, inbound: Inbound, session_present: bool) -> Self {
        Self {
            connection,
            inbound,
            session_present,
            resumed: Vec::new(),
        }
    }
}

/// What arrives: any number of deliveries, then exactly once [`Incoming::Ended`],
/// then `None`.
///
/// Dropping it ends the connection without DISCONNECT where the adapter can.
pub type Inbound = Pin<Box<dyn Stream<Item = Incoming> + Send>>;

/// An item of [`Inbound`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming {
    /// A message.
    Delivery(Delivery),
    /// The end; nothing follows.
    Ended(Ended),
}

/// How a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// What to give to the next connection.
    pub session: SessionState,
    /// QoS 0 messages that were taken over and never written.
    pub unsent: u64,
}

impl Ended {
    /// An end that carries nothing on.
    #[must_use]
    pub fn new(reason: EndReason) -> Self {
        Self {
            reason,
            session: SessionState::default(),
            unsent: 0,
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EndReason {
    /// [`Connection::disconnect`]: DISCONNECT was sent.
    Disconnected,
    /// [`Connection::close`], or every handle is gone.
    Closed,
    /// The network, the broker or the protocol.
    Lost(Error),
}

/// What a connection has seen, for a watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Activity {
    /// Packets read since the connection began; any of them proves life.
    pub packets_read: u64,
    /// Reading is paused at the inbound budget, so silence proves nothing.
    pub reading_paused: bool,
}

impl Activity {
    /// Both parts of it.
    #[must_use]
    pub fn new(packets_read: u64, reading_paused: bool) -> Self {
        Self {
            packets_read,
            reading_paused,
        }
    }
}

/// The handle to a live connection.
///
/// # Contract
/// - After the end every call fails with
///   [`NotConnected`](crate::ErrorKind::NotConnected), and every receipt has
///   settled: what the broker did not confirm as "outcome unknown", what was never
///   written as "not sent".
/// - Keepalive is the connection's own work: PINGREQ goes out while reading is
///   paused too, and a peer that stops answering ends the connection.
/// - At the inbound budget ([`ConnectOptions::inbound_messages`]) reading pauses;
///   acknowledgements, publishes and PINGREQ go on.
#[async_trait]
pub trait Connection: Publisher + Subscriber {
    /// Says that a delivery is done. Returns at once; the adapter sends
    /// acknowledgements in MQTT's order, and never behind waiting publishes. A token
    /// of another connection, or a second use, does nothing.
    fn ack(&self, token: AckToken, outcome: AckOutcome);

    /// What was seen of the peer so far.
    fn activity(&self) -> Activity;

    /// Ends the connection cleanly: writes out all that was taken over, including
    /// acknowledgements, sends DISCONNECT and closes. The will does not speak.
    /// Bounded by [`ConnectOptions::timeout`]. After a clean end calling it again is no
    /// error; after any other it is [`NotConnected`](crate::ErrorKind::NotConnected).
    ///
    /// Dropped before it resolves, the end goes on by itself.
    ///
    /// # Errors
    /// When DISCONNECT could not be written; the connection has ended all the same.
    async fn disconnect(&self) -> Result<(), Error>;

    /// Ends the connection at once, without DISCONNECT where the adapter has
    /// `abrupt_close`, so that the last will speaks.
    fn close(&self);
}
