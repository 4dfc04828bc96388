//! [`RumqttcConnector`]: the port's way in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tars_ports::{Capabilities, ConnectOptions, Connected, Connector, Error, ProtocolVersion, SessionState};

use crate::driver::Driver;
use crate::handle::Handle;
use crate::inbound::InboundStream;
use crate::inbox::Inbox;
use crate::keepalive::Keepalive;
use crate::shared::Shared;
use crate::{convert, handshake};

/// The protocol's own limit on a packet's remaining length (MQTT 3.1.1 section 2.2.3).
const PROTOCOL_LIMIT: usize = 268_435_455;

/// Numbers connections in this process, so that an acknowledgement that comes too
/// late never meets a connection it does not belong to.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// Connects over MQTT 3.1.1, by every transport that [`tars_net`] was built with. It
/// keeps no state of its own.
///
/// ```no_run
/// use adapter_rumqttc::RumqttcConnector;
/// use tars_ports::{ConnectOptions, Connector, SessionState};
///
/// # async fn example() -> Result<(), tars_ports::Error> {
/// let options = ConnectOptions::new("localhost", 1883, "thermometer");
/// let connected = RumqttcConnector::new().connect(&options, SessionState::new()).await?;
/// connected.connection.disconnect().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct RumqttcConnector {}

impl RumqttcConnector {
    /// A connector.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Connector for RumqttcConnector {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.manual_ack = true;
        capabilities.qos2 = true;
        capabilities.qos2_resume = true;
        capabilities.abrupt_close = true;
        capabilities.tls = cfg!(feature = "tls");
        capabilities.websocket = cfg!(feature = "websocket");
        capabilities.versions = &[ProtocolVersion::V3_1_1];
        capabilities
    }

    async fn connect(&self, options: &ConnectOptions, session: SessionState) -> Result<Connected, Error> {
        let limit = options.max_packet_size.min(PROTOCOL_LIMIT);
        let accepted = handshake::connect(options, limit).await?;

        // From here on nothing waits: dropped before this, the attempt has left nothing behind.
        let session = if accepted.session_present {
            session
        } else {
            SessionState::default()
        };
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let inbox = Inbox::new(
            number,
            &session.inbound,
            options.inbound_messages,
            options.inbound_bytes,
        );
        let shared = Arc::new(Shared::new(options.address(), inbox));
        let session_present = accepted.session_present;
        let keepalive = Keepalive::new(keep_alive(options), tokio::time::Instant::now());
        let mut driver = Driver::new(accepted, Arc::clone(&shared), options, limit, keepalive);
        let resumed = driver.resume(session.outbound)?;
        tracing::debug!(
            connection = number,
            address = shared.address,
            client_id = options.client_id,
            session_present,
            resumed = resumed.len(),
            "connected"
        );
        let driver = tokio::spawn(driver.run());
        let handle = Handle::new(Arc::clone(&shared), limit, options.timeout);
        let inbound = InboundStream::new(shared, driver);
        let mut connected = Connected::new(Arc::new(handle), Box::pin(inbound), session_present);
        connected.resumed = resumed;
        Ok(connected)
    }
}

/// What CONNECT promised: never longer than the broker was told.
fn keep_alive(options: &ConnectOptions) -> Duration {
    options
        .keep_alive
        .min(Duration::from_secs(convert::keep_alive_seconds(options).into()))
}
