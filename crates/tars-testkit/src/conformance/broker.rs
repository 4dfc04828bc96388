//! Brokers as the behaviours need them: reached directly, over a link that fails on
//! demand, stopped and started, or played by a script where no real broker does it.

mod memory;
mod script;
mod tcp;
#[cfg(feature = "tls")]
mod transport;

use std::any::Any;

use async_trait::async_trait;
use tars_ports::{ConnectOptions, Refusal, Transport};

use super::Failure;
use crate::proxy::Direction;

pub use memory::MemoryTestBroker;
pub use tcp::{TcpServer, TcpTestBroker};
#[cfg(feature = "tls")]
pub(super) use transport::Secured;

/// What a broker can be made to do beyond what all can. All `false` by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Facilities {
    /// It is reached over TCP, so that host names are looked up.
    pub sockets: bool,
    /// It can be staged with [`Scene::Password`].
    pub passwords: bool,
    /// It can be staged with [`Scene::Transport`].
    pub transports: bool,
    /// A link can be held in one direction, while the broker takes in what comes.
    pub one_way: bool,
    /// A stop keeps sessions.
    pub keeps_sessions: bool,
    /// QoS 2 flows go on even where the session comes back before the broker has noticed
    /// the end of its last connection.
    pub resumes_at_once: bool,
}

/// A broker that one behaviour has to itself. Clients with a clean session and with a
/// kept one may connect, publish and subscribe to anything that begins with
/// `suite`.
#[async_trait]
pub trait TestBroker: Send + Sync {
    /// What it can do.
    fn facilities(&self) -> Facilities;

    /// How this client reaches it, with defaults in all else.
    fn options(&self, client_id: &str) -> ConnectOptions;

    /// A way to it for this client, to be cut and held.
    ///
    /// # Errors
    /// When it cannot be made.
    async fn link(&self, client_id: &str) -> Result<Box<dyn Link>, Failure>;

    /// A peer that behaves as the scene says, in place of the broker.
    ///
    /// # Errors
    /// When it cannot be made, or the facilities lack it.
    async fn stage(&self, client_id: &str, scene: Scene) -> Result<Staged, Failure>;

    /// It goes away without telling anybody: links end, and nobody listens.
    ///
    /// # Errors
    /// When it does not.
    async fn kill(&self) -> Result<(), Failure>;

    /// It goes away in good order: links end, and nobody listens.
    ///
    /// # Errors
    /// When it does not.
    async fn stop(&self) -> Result<(), Failure>;

    /// It comes back at the same address.
    ///
    /// # Errors
    /// When it does not.
    async fn start_again(&self) -> Result<(), Failure>;
}

/// A way to the broker that fails on demand.
pub trait Link: Send + Sync {
    /// How to connect over it.
    fn options(&self) -> ConnectOptions;

    /// Breaks it at once; the next connection gets through.
    fn cut(&self);

    /// Breaks it after about so many bytes more in that direction: the way to meet a
    /// protocol flow in its middle.
    fn cut_after(&self, direction: Direction, bytes: u64);

    /// Stops it from passing on what goes in that direction, or lets it go on. Without
    /// [`Facilities::one_way`] it stops both directions.
    fn hold(&self, direction: Direction, on: bool);
}

/// What a peer does that no broker can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scene {
    /// Refuses everybody who connects.
    Refuse(Refusal),
    /// Takes the connection and never answers.
    Silent,
    /// Nobody listens.
    Absent,
    /// Refuses this filter and grants all others.
    DenyFilter(String),
    /// Lets only this user in.
    Password {
        /// The user's name.
        user: String,
        /// And password.
        password: String,
    },
    /// Reached by this transport.
    Transport(Security),
}

/// How a broker is reached, and what it and the client show each other. By default all is
/// good and there is no client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Security {
    /// What carries the bytes.
    pub transport: Transport,
    /// The broker's certificate, where the transport has one.
    pub broker: BrokerCertificate,
    /// The broker lets only clients in that have a certificate it can check.
    pub asks_client: bool,
    /// The client's.
    pub client: ClientCertificate,
    /// The broker speaks TLS 1.3 only, or 1.2 only.
    pub tls13: bool,
}

impl Security {
    /// Good on all sides, TLS 1.3.
    #[must_use]
    pub fn new(transport: Transport) -> Self {
        Self {
            transport,
            broker: BrokerCertificate::Good,
            asks_client: false,
            client: ClientCertificate::None,
            tls13: true,
        }
    }
}

/// The certificate that a broker shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerCertificate {
    /// A good one.
    Good,
    /// It was good once.
    Expired,
    /// It will be good.
    NotYetValid,
    /// Of another host.
    WrongName,
    /// Of an authority that the client does not trust.
    OtherAuthority,
}

/// The certificate that a client shows when asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientCertificate {
    /// It has none.
    None,
    /// A good one.
    Good,
    /// Of an authority that the broker does not trust.
    OtherAuthority,
    /// With the private key of another.
    OtherKey,
}

/// A scene that goes on until it is dropped.
#[non_exhaustive]
pub struct Staged {
    /// How to reach it.
    pub options: ConnectOptions,
    _holds: Box<dyn Any + Send + Sync>,
}

impl Staged {
    /// Reached so, for as long as `holds` is kept.
    pub fn new(options: ConnectOptions, holds: impl Any + Send + Sync) -> Self {
        Self {
            options,
            _holds: Box::new(holds),
        }
    }
}
