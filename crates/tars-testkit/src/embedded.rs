//! A broker inside the process over real TCP (mqtt5), for machines without Mosquitto
//! and for examples. It speaks MQTT 3.1.1 and 5 on one port of loopback and keeps
//! everything in memory: a stop forgets sessions and retained messages.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tars_testkit::embedded::EmbeddedError> {
//! let mut broker = tars_testkit::embedded::EmbeddedBroker::start().await?;
//! println!("{}", broker.url());
//! broker.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Not here: files, passwords, TLS, WebSocket. When a client id is taken over, mqtt5
//! sends a DISCONNECT that MQTT 3.1.1 does not allow: clients may report it as such.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mqtt5::broker::config::{StorageBackend, StorageConfig};
use mqtt5::broker::{BrokerConfig, BrokerShutdownHandle, MqttBroker};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The largest packet of MQTT (section 2.2.3), so that limits are the clients' own.
const MAX_PACKET_SIZE: usize = 268_435_455;

/// mqtt5 itself gives open connections 5 s to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the broker did not start, or did not end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The broker says so.
    #[error("the embedded broker failed: {0}")]
    Broker(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Its task did not come to an end and was aborted, or panicked.
    #[error("the embedded broker did not end within {PATIENCE:?}, or panicked")]
    Task,
}

impl EmbeddedError {
    fn broker(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Broker(Box::new(error))
    }
}

/// The broker. See the [module](self). Dropping it ends it without waiting.
pub struct EmbeddedBroker {
    address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    shutdown: BrokerShutdownHandle,
    task: JoinHandle<Result<(), EmbeddedError>>,
}

impl EmbeddedBroker {
    /// Starts it on a free port of 127.0.0.1 and resolves once it accepts connections.
    ///
    /// # Errors
    /// [`EmbeddedError::Broker`].
    pub async fn start() -> Result<Self, EmbeddedError> {
        let (address, running) = Running::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        Ok(Self {
            address,
            running: Some(running),
        })
    }

    /// Where it listens; the same for its whole life.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `mqtt://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Ends it and joins its task: sockets are closed, sessions and retained messages
    /// are forgotten. A stopped one stays stopped.
    ///
    /// Dropped before it resolves, the end goes on by itself.
    ///
    /// # Errors
    /// See [`EmbeddedError`]; it has ended all the same.
    pub async fn stop(&mut self) -> Result<(), EmbeddedError> {
        match self.running.take() {
            Some(running) => running.stop().await,
            None => Ok(()),
        }
    }

    /// Starts an empty broker on the same port. Nothing happens where it runs already.
    ///
    /// # Errors
    /// [`EmbeddedError::Broker`], also when somebody else took the port meanwhile.
    pub async fn start_again(&mut self) -> Result<(), EmbeddedError> {
        if self.running.is_none() {
            let (_, running) = Running::start(self.address).await?;
            self.running = Some(running);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not the shutdown signal: before the broker is ready it would be lost. An
        // aborted `run` tells its connections itself. After a stop it does nothing.
        self.task.abort();
    }
}

impl Running {
    async fn start(address: SocketAddr) -> Result<(SocketAddr, Self), EmbeddedError> {
        let storage = StorageConfig::new().with_backend(StorageBackend::Memory);
        let config = BrokerConfig::default()
            .with_bind_address(address)
            .with_max_packet_size(MAX_PACKET_SIZE)
            .with_storage(storage);
        let mut broker = MqttBroker::with_config(config).await.map_err(EmbeddedError::broker)?;
        let address = broker.local_addr().unwrap_or(address);
        let shutdown = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let task = tokio::spawn(async move { broker.run().await.map_err(EmbeddedError::broker) });
        let mut running = Self { shutdown, task };
        // Without an answer the broker has ended already.
        if ready.wait_for(|ready| *ready).await.is_err() {
            let ended = (&mut running.task).await.unwrap_or(Err(EmbeddedError::Task));
            return Err(ended.err().unwrap_or(EmbeddedError::Task));
        }
        Ok((address, running))
    }

    async fn stop(mut self) -> Result<(), EmbeddedError> {
        self.shutdown.shutdown();
        match timeout(PATIENCE, &mut self.task).await {
            Ok(joined) => joined.unwrap_or(Err(EmbeddedError::Task)),
            Err(_) => Err(EmbeddedError::Task),
        }
    }
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedBroker")
            .field("address", &self.address)
            .field("running", &self.running.is_some())
            .finish()
    }
}
