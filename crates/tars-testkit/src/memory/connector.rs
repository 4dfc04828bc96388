//! The port for connecting to the in-memory broker.

use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use tars_ports::{
    Capabilities, ConnectOptions, Connected, Connector, Error, ErrorKind, ProtocolVersion, SessionState, Transport,
};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::Shared;
use super::connection::MemoryConnection;
use super::core::Core;
use super::driver::Driver;
use super::inbound::MemoryInbound;

/// Deliveries between the connection's task and the stream; behind them reading pauses.
const DELIVERIES: usize = 16;

/// Connects to one [`MemoryBroker`](super::MemoryBroker). Clones connect to the same one.
#[derive(Clone)]
pub struct MemoryConnector {
    shared: Arc<Shared>,
}

impl MemoryConnector {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn attempt(&self, options: &ConnectOptions, session: SessionState) -> Result<Connected, Error> {
        let credentials = options.credentials.as_ref().map(|given| {
            let password = given.password.as_ref().map_or("", |password| password.expose_secret());
            (given.username.as_str(), password)
        });
        let latency = self.shared.look(|state| state.config.latency);
        if !latency.is_zero() && self.shared.look(|state| !state.stopped) {
            sleep(latency * 2).await;
        }
        let wake = Arc::new(Notify::new());
        let (link, session_present) = loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            // A frozen broker takes the CONNECT and says nothing.
            if !self.shared.look(|state| state.frozen) {
                let answer = self.shared.change(|state| {
                    if state.stopped {
                        let text = format!(
                            "nobody listens on {}: the in-memory broker is stopped",
                            options.address()
                        );
                        return Some(Err(Error::new(ErrorKind::Unreachable, text)));
                    }
                    (!state.frozen).then(|| state.connect(options, credentials, Arc::clone(&wake)))
                });
                if let Some(answer) = answer {
                    break answer?;
                }
            }
            changed.await;
        };

        // From here on nothing is awaited: dropping the attempt cannot leave a link behind.
        let (core, resumed) = Core::new(link, options, wake, session_present.then_some(session));
        let core = Arc::new(core);
        let (sender, receiver) = mpsc::channel(DELIVERIES);
        let driver = Driver::new(Arc::clone(&self.shared), link, Arc::clone(&core), sender);
        let inbound = MemoryInbound::new(receiver, tokio::spawn(driver.run()));
        let connection = Arc::new(MemoryConnection::new(core));
        let mut connected = Connected::new(connection, Box::pin(inbound), session_present);
        connected.resumed = resumed;
        Ok(connected)
    }
}

#[async_trait]
impl Connector for MemoryConnector {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.manual_ack = true;
        capabilities.qos2 = true;
        capabilities.qos2_resume = true;
        capabilities.abrupt_close = true;
        capabilities.versions = &[ProtocolVersion::V3_1_1];
        capabilities
    }

    async fn connect(&self, options: &ConnectOptions, session: SessionState) -> Result<Connected, Error> {
        if options.transport != Transport::Tcp {
            let text = format!("the in-memory adapter has no {}", options.transport.scheme());
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        self.shared.change(|state| {
            *state.record.attempts.entry(options.client_id.clone()).or_default() += 1;
        });
        match timeout(options.timeout, self.attempt(options, session)).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("{} did not answer within {:?}", options.address(), options.timeout),
            )),
        }
    }
}

impl std::fmt::Debug for MemoryConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryConnector").finish_non_exhaustive()
    }
}
