//! What a test sees of the broker, and how it waits for it.

use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::time::Duration;

use tars_contracts::TopicFilter;
use tars_ports::{Message, QoS};
use tokio::time::{Instant, timeout};

use super::packet::{PacketKind, Way};
use super::{Logged, MemoryBroker};

/// On tokio's clock, so that it costs nothing in paused time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A packet that came to the other end of its link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrived {
    /// When, on tokio's clock.
    pub at: Instant,
    /// The client at one end.
    pub client_id: String,
    /// Which way it came.
    pub way: Way,
    /// What it is.
    pub kind: PacketKind,
    /// `None` where it has none.
    pub packet_id: Option<u16>,
    /// Of a PUBLISH.
    pub message: Option<Message>,
}

impl MemoryBroker {
    /// Every packet that arrived at either end, in order, if
    /// [`with_packet_record`](Self::with_packet_record) is on. The last 65,536 are kept.
    #[must_use]
    pub fn packets(&self) -> Vec<Arrived> {
        self.shared.look(|state| state.record.arrived.iter().cloned().collect())
    }

    /// Every message the broker took in, in order, wills included. QoS 2 counts from
    /// PUBREL on. The last 65,536 are kept.
    #[must_use]
    pub fn published(&self) -> Vec<Message> {
        self.shared
            .look(|state| state.record.log.iter().map(|logged| logged.message.clone()).collect())
    }

    /// As [`published`](Self::published), with the senders.
    #[must_use]
    pub fn log(&self) -> Vec<Logged> {
        self.shared.look(|state| state.record.log.iter().cloned().collect())
    }

    /// Forgets the log, so that long runs keep no payloads.
    pub fn clear_log(&self) {
        self.shared.change(|state| state.record.log.clear());
    }

    /// The retained message of exactly this topic.
    #[must_use]
    pub fn retained(&self, topic: &str) -> Option<Message> {
        self.shared.look(|state| state.retained.get(topic).cloned())
    }

    /// What this client is subscribed to, in the order of subscribing; also while it
    /// is away, if its session is kept.
    #[must_use]
    pub fn subscriptions(&self, client_id: &str) -> Vec<(TopicFilter, QoS)> {
        self.shared.look(|state| {
            let session = state.sessions.get(client_id);
            session.map(|session| session.subscriptions.clone()).unwrap_or_default()
        })
    }

    /// Client ids with a live link, sorted.
    #[must_use]
    pub fn connections(&self) -> Vec<String> {
        self.shared.look(|state| {
            let live = state.links.values().filter(|link| link.is_live());
            let mut ids: Vec<String> = live.map(|link| link.client_id.clone()).collect();
            ids.sort();
            ids
        })
    }

    /// Client ids with a session, connected or not, sorted.
    #[must_use]
    pub fn sessions(&self) -> Vec<String> {
        self.shared.look(|state| state.sessions.keys().cloned().collect())
    }

    /// How often this client was let in.
    #[must_use]
    pub fn connect_count(&self, client_id: &str) -> usize {
        let record = |client_id| self.shared.look(|state| state.record.connects.get(client_id).copied());
        record(client_id).unwrap_or_default()
    }

    /// How often this client tried to connect, whatever came of it.
    #[must_use]
    pub fn connect_attempts(&self, client_id: &str) -> usize {
        let record = |client_id| self.shared.look(|state| state.record.attempts.get(client_id).copied());
        record(client_id).unwrap_or_default()
    }

    /// Every SUBSCRIBE of this client over all its connections, refused filters included.
    #[must_use]
    pub fn subscribe_packets(&self, client_id: &str) -> Vec<Vec<(TopicFilter, QoS)>> {
        self.shared
            .look(|state| state.record.subscribes.get(client_id).cloned().unwrap_or_default())
    }

    /// QoS 1/2 messages that this client has not acknowledged, and those that wait
    /// behind them for the window or for the client.
    #[must_use]
    pub fn backlog(&self, client_id: &str) -> (usize, usize) {
        self.shared.look(|state| {
            let session = state.sessions.get(client_id);
            session.map(|session| session.backlog()).unwrap_or_default()
        })
    }

    /// QoS 0 messages dropped because a client did not read.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.look(|state| state.record.dropped)
    }

    /// Waits until `reached` says yes, asking at each change of the broker's state.
    ///
    /// Cancel-safe.
    ///
    /// # Panics
    /// After 60 s of tokio's clock, naming the caller.
    #[track_caller]
    pub fn wait_until<'a>(
        &'a self,
        mut reached: impl FnMut(&MemoryBroker) -> bool + 'a,
    ) -> impl Future<Output = ()> + 'a {
        let caller = Location::caller();
        async move {
            let waiting = async {
                loop {
                    // Enrolled before the look, so that no change falls in between.
                    let mut changed = pin!(self.shared.changed.notified());
                    changed.as_mut().enable();
                    if reached(self) {
                        return;
                    }
                    changed.await;
                }
            };
            if timeout(PATIENCE, waiting).await.is_err() {
                panic!("{caller}: the state that is waited for did not come within {PATIENCE:?}");
            }
        }
    }
}
