//! What a behaviour is played with: a connector, and a broker of its own.

use std::sync::Arc;

use tars_ports::{Capabilities, ConnectOptions, Connector, QoS};

use super::broker::{MemoryTestBroker, TcpTestBroker, TestBroker};
use super::{Facilities, Failure, OrFail};
use crate::memory::MemoryBroker;
use crate::mosquitto::Mosquitto;

/// A connector and the broker that it connects to. Each behaviour gets a new one, so
/// that none meets another's topics or faults.
#[non_exhaustive]
pub struct Setup {
    /// The adapter under test.
    pub connector: Arc<dyn Connector>,
    /// What it connects to.
    pub broker: Box<dyn TestBroker>,
}

impl Setup {
    /// This connector and this broker.
    pub fn new(connector: impl Connector + 'static, broker: impl TestBroker + 'static) -> Self {
        Self {
            connector: Arc::new(connector),
            broker: Box::new(broker),
        }
    }

    /// The in-memory adapter and its broker, with 1 ms of latency so that a fault can
    /// come while packets are under way.
    ///
    /// # Errors
    /// None; it is async and fallible as its siblings are.
    pub async fn memory() -> Result<Self, Failure> {
        let broker = MemoryBroker::new().with_latency(std::time::Duration::from_millis(1));
        Ok(Self::new(broker.connector(), MemoryTestBroker::new(broker)))
    }

    /// This connector, and a new Mosquitto.
    ///
    /// # Errors
    /// When Mosquitto does not start.
    pub async fn mosquitto(connector: impl Connector + 'static) -> Result<Self, Failure> {
        // So that what a session keeps outlives a restart.
        let broker = Mosquitto::builder().persistence(true).start().await;
        let broker = broker.or_fail("Mosquitto does not start")?;
        Ok(Self::new(connector, TcpTestBroker::new(broker)))
    }

    /// This connector, and a new Mosquitto that it reaches by this transport, with TLS 1.3
    /// where it is encrypted.
    ///
    /// # Errors
    /// When Mosquitto does not start.
    #[cfg(feature = "tls")]
    pub async fn mosquitto_over(
        transport: tars_ports::Transport,
        connector: impl Connector + 'static,
    ) -> Result<Self, Failure> {
        let secured = super::broker::Secured::start(super::Security::new(transport)).await?;
        let broker = TcpTestBroker::new(secured.broker);
        let broker = broker.reached_by(secured.port, transport, secured.tls, secured.certificates);
        Ok(Self::new(connector, broker))
    }

    /// This connector, and a new broker inside the process.
    ///
    /// # Errors
    /// When it does not start.
    #[cfg(feature = "embedded")]
    pub async fn embedded(connector: impl Connector + 'static) -> Result<Self, Failure> {
        let broker = crate::embedded::EmbeddedBroker::start().await;
        let broker = broker.or_fail("the embedded broker does not start")?;
        Ok(Self::new(connector, TcpTestBroker::new(broker)))
    }

    /// What the adapter says it can do.
    pub(super) fn capabilities(&self) -> Capabilities {
        self.connector.capabilities()
    }

    /// Straight to the broker.
    pub(super) fn options(&self, client_id: &str) -> ConnectOptions {
        self.broker.options(client_id)
    }

    /// QoS levels that the adapter has.
    pub(super) fn levels(&self) -> &'static [QoS] {
        const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
        if self.capabilities().qos2 { &ALL } else { &ALL[..2] }
    }

    /// The first need that is not met.
    pub(super) fn lacks(&self, needs: &[Need]) -> Option<Need> {
        let (capabilities, facilities) = (self.capabilities(), self.broker.facilities());
        needs
            .iter()
            .copied()
            .find(|need| !need.is_met(&capabilities, &facilities))
    }
}

/// What a behaviour needs to apply: a capability of the adapter (or its absence), or a
/// facility of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// [`Capabilities::manual_ack`].
    ManualAck,
    /// Its absence.
    NoManualAck,
    /// [`Capabilities::qos2`].
    Qos2,
    /// Its absence.
    NoQos2,
    /// [`Capabilities::qos2_resume`].
    Qos2Resume,
    /// Its absence.
    NoQos2Resume,
    /// [`Capabilities::abrupt_close`].
    AbruptClose,
    /// Its absence.
    NoAbruptClose,
    /// One of TLS and WebSocket is missing.
    MissingTransport,
    /// [`Capabilities::tls`].
    Tls,
    /// [`Facilities::transports`].
    Transports,
    /// [`Facilities::sockets`].
    Sockets,
    /// [`Facilities::passwords`].
    Passwords,
}

impl Need {
    /// Whether this adapter and this broker have it.
    #[must_use]
    pub fn is_met(self, capabilities: &Capabilities, facilities: &Facilities) -> bool {
        match self {
            Self::ManualAck => capabilities.manual_ack,
            Self::NoManualAck => !capabilities.manual_ack,
            Self::Qos2 => capabilities.qos2,
            Self::NoQos2 => !capabilities.qos2,
            Self::Qos2Resume => capabilities.qos2_resume,
            Self::NoQos2Resume => !capabilities.qos2_resume,
            Self::AbruptClose => capabilities.abrupt_close,
            Self::NoAbruptClose => !capabilities.abrupt_close,
            Self::MissingTransport => !(capabilities.tls && capabilities.websocket),
            Self::Tls => capabilities.tls,
            Self::Transports => facilities.transports,
            Self::Sockets => facilities.sockets,
            Self::Passwords => facilities.passwords,
        }
    }

    /// What it says where a behaviour does not apply.
    #[must_use]
    pub fn unmet(self) -> &'static str {
        match self {
            Self::ManualAck => "the adapter has no manual_ack",
            Self::NoManualAck => "the adapter has manual_ack",
            Self::Qos2 => "the adapter has no qos2",
            Self::NoQos2 => "the adapter has qos2",
            Self::Qos2Resume => "the adapter has no qos2_resume",
            Self::NoQos2Resume => "the adapter has qos2_resume",
            Self::AbruptClose => "the adapter has no abrupt_close",
            Self::NoAbruptClose => "the adapter has abrupt_close",
            Self::MissingTransport => "the adapter has every transport",
            Self::Tls => "the adapter has no tls",
            Self::Transports => "the broker is reached by one transport only",
            Self::Sockets => "the broker has no sockets",
            Self::Passwords => "the broker knows no passwords",
        }
    }
}
