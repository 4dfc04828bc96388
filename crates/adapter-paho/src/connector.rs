//! [`PahoConnector`]: the port's way in.

use std::sync::{Arc, mpsc};

use async_trait::async_trait;
use tars_net::Stream;
use tars_net::error::connect_timeout;
use tars_ports::{Capabilities, ConnectOptions, Connected, Connector, Error, ProtocolVersion, SessionState};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::client::{self, Attempt};
use crate::driver::Driver;
use crate::handle::Handle;
use crate::inbound::InboundStream;
use crate::shared::{Shared, Verdict};
use crate::{arrivals, convert, error, relay};

/// The protocol's own limit on a packet's remaining length (MQTT 3.1.1 section 2.2.3).
const PROTOCOL_LIMIT: usize = 268_435_455;

/// Connects over MQTT 3.1.1, by every transport that [`tars_net`] was built with. It
/// keeps no state of its own.
///
/// Dropping an attempt closes its socket; the thread behind it ends by itself, as soon
/// as paho has let go.
///
/// The session that the caller carries is not used: `qos2_resume` is false.
///
/// ```no_run
/// use adapter_paho::PahoConnector;
/// use tars_ports::{ConnectOptions, Connector, SessionState};
///
/// # async fn example() -> Result<(), tars_ports::Error> {
/// let options = ConnectOptions::new("localhost", 1883, "thermometer");
/// let connected = PahoConnector::new().connect(&options, SessionState::new()).await?;
/// connected.connection.disconnect().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct PahoConnector {}

impl PahoConnector {
    /// A connector.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Connector for PahoConnector {
    /// `manual_ack` is false because the wrapper acknowledges whatever the callback
    /// says; `abrupt_close` because every way to end a client sends DISCONNECT.
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.qos2 = true;
        capabilities.tls = cfg!(feature = "tls");
        capabilities.websocket = cfg!(feature = "websocket");
        capabilities.versions = &[ProtocolVersion::V3_1_1];
        capabilities
    }

    async fn connect(&self, options: &ConnectOptions, _session: SessionState) -> Result<Connected, Error> {
        let deadline = Instant::now() + options.timeout;
        // Before anything is asked of the network.
        convert::connect(options)?;
        let stream = tars_net::dial(options, deadline).await?;
        attempt(options, stream, deadline).await
    }
}

/// Lets paho shake hands over `stream`.
async fn attempt(options: &ConnectOptions, stream: Stream, deadline: Instant) -> Result<Connected, Error> {
    let limit = options.max_packet_size.min(PROTOCOL_LIMIT);
    let shared = Arc::new(Shared::new(options.address()));
    let (arrivals, arrived) = arrivals::queue(&shared, options);
    // Dropped, or at the end of the time, the line is cut: paho is told, and the
    // thread ends by itself.
    let certificate_asked = stream.certificate_asked();
    let (address, dialling, line) = relay::open(stream, Arc::clone(&shared), limit)
        .await
        .map_err(|cause| error::internal("no loopback connection could be made for paho").with_source(cause))?;
    let attempt = Attempt {
        create: convert::create(options, address),
        connect: convert::connect(options)?,
        timeout: options.timeout,
        shared: Arc::clone(&shared),
        arrivals,
        dialling,
    };
    let (accepted, answer) = oneshot::channel();
    let (calls, receiver) = mpsc::channel();
    let thread = tokio::task::spawn_blocking(move || client::run(attempt, accepted, &receiver));
    let session_present = match timeout_at(deadline, answer).await {
        Ok(Ok(Ok(session_present))) => session_present,
        Ok(Ok(Err(cause))) => {
            return Err(match shared.verdict() {
                Some(Verdict::Breach(breach)) => error::no_connack(options, breach),
                _ => error::connect(options, cause, certificate_asked, line.broken()),
            });
        }
        Ok(Err(_)) => return Err(error::internal("the thread that owns paho's client is gone")),
        Err(_) => return Err(connect_timeout(options, "waiting for CONNACK")),
    };
    // From here on nothing waits: dropped before this, the attempt ends by itself.
    // A broker has no session to be present when asked for a clean one (section 3.2.2.2).
    let session_present = session_present && !options.clean_session;
    tracing::debug!(
        address = shared.address,
        client_id = options.client_id,
        session_present,
        "connected"
    );
    let driver = Driver::new(Arc::clone(&shared), calls, thread, line, options);
    let driver = tokio::spawn(driver.run());
    let handle = Handle::new(Arc::clone(&shared), limit, options.timeout);
    let inbound = InboundStream::new(shared, arrived, driver);
    Ok(Connected::new(Arc::new(handle), Box::pin(inbound), session_present))
}
