//! A broker inside the process, and the adapter to it: MQTT 3.1.1 at the level of
//! packets, without sockets and without bytes.
//!
//! [`MemoryBroker`] is the handle that a test holds: it makes connectors, injects
//! faults ([`stop`](MemoryBroker::stop), [`cut`](MemoryBroker::cut),
//! [`freeze`](MemoryBroker::freeze), or with [`inject`](MemoryBroker::inject) at a chosen
//! packet) and shows what happened.
//! [`MemoryConnector`] is the port that the code under test gets. Both work in
//! tokio's paused time: whatever waits, waits on tokio's clock or on a state.
//!
//! ```
//! use tars_ports::{ConnectOptions, Connector, Message, PublisherExt, SessionState};
//! use tars_testkit::memory::MemoryBroker;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let broker = MemoryBroker::new();
//! let options = ConnectOptions::new("memory", 1883, "stt");
//! let connected = broker.connector().connect(&options, SessionState::new()).await.unwrap();
//!
//! let topic = "stt/final".parse().unwrap();
//! connected.connection.publish(Message::new(topic, "hi")).await.unwrap().await.unwrap();
//! broker.wait_until(|broker| broker.published().len() == 1).await;
//! # }
//! ```
//!
//! Not here: MQTT 5, TLS, WebSocket, access rules by topic.

mod connection;
mod connector;
mod core;
mod driver;
mod faults;
mod inbound;
mod observe;
mod packet;
mod passage;
mod protocol;
mod routing;
mod script;
mod session;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tars_ports::Message;
use tokio::sync::Notify;

pub use connector::MemoryConnector;
pub use observe::Arrived;
pub use packet::{PacketKind, Way};
pub use script::{Fault, Faults};

use self::state::State;

/// How many copies a client with overlapping filters gets. MQTT 3.1.1 (section
/// 3.3.5) allows both, and brokers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OverlapMode {
    /// One in all, at the highest QoS of the matching filters, as Mosquitto does.
    #[default]
    OneCopy,
    /// One for each matching filter, at that filter's QoS.
    CopyPerFilter,
}

/// A message that the broker took in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logged {
    /// Who sent it; `None` for [`MemoryBroker::publish`].
    pub client_id: Option<String>,
    /// As it was sent, a will included; its key is 0.
    pub message: Message,
}

/// The broker. Clones are handles to the same one; it lives as long as the last of
/// them, its connectors and its connections.
#[derive(Clone)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes those who wait for a change, in the order in which they came. (A `watch`
    /// would wake them in an order of chance.)
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of a caller runs under the lock, and the state is never left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock())
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }
}

impl MemoryBroker {
    /// A running broker: one copy for overlapping filters, no latency, a window of 20,
    /// everybody may connect.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new()),
                changed: Notify::new(),
            }),
        }
    }

    /// Sets what clients with overlapping filters get. Default [`OverlapMode::OneCopy`].
    #[must_use]
    pub fn with_overlap(self, mode: OverlapMode) -> Self {
        self.shared.change(|state| state.config.overlap = mode);
        self
    }

    /// Sets how long a packet takes in each direction. Default zero: even so nothing
    /// settles inside the call that sends it.
    #[must_use]
    pub fn with_latency(self, latency: Duration) -> Self {
        self.shared.change(|state| state.config.latency = latency);
        self
    }

    /// Sets how many QoS 1/2 messages one client may have unacknowledged; more wait
    /// in the broker. Default 20, as Mosquitto; at least 1.
    #[must_use]
    pub fn with_window(self, window: u16) -> Self {
        self.shared.change(|state| state.config.window = window.max(1));
        self
    }

    /// Lets only clients with this user name and password in.
    #[must_use]
    pub fn with_credentials(self, user: impl Into<String>, password: impl Into<String>) -> Self {
        let credentials = Some((user.into(), password.into()));
        self.shared.change(|state| state.config.credentials = credentials);
        self
    }

    /// Keeps a record of every packet, for [`packets`](Self::packets). Off by default.
    #[must_use]
    pub fn with_packet_record(self) -> Self {
        self.shared.change(|state| state.config.record_packets = true);
        self
    }

    /// A connector to this broker. Host and port of the options are not looked at.
    #[must_use]
    pub fn connector(&self) -> MemoryConnector {
        MemoryConnector::new(Arc::clone(&self.shared))
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBroker")
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
