//! Where a client stands, as a value that can be awaited and as a stream of events.

use std::fmt;
use std::time::Duration;

use futures_core::Stream;
use tars_contracts::TopicFilter;
use tars_ports::{EndReason, Error, QoS};
use tokio::sync::{broadcast, watch};

/// The state of a client:
/// `Created → Connecting → Connected ⇄ Reconnecting → Disconnecting → Disconnected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Never connected.
    Created,
    /// The first attempt is under way.
    Connecting,
    /// The broker accepted.
    Connected,
    /// The link was lost; attempts go on by themselves.
    Reconnecting,
    /// Finishing what is under way.
    Disconnecting,
    /// Ended: by `disconnect()`, `shutdown()`, or a lost link with reconnection off.
    Disconnected,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A client's state, as it changes.
#[derive(Debug, Clone)]
pub struct StateWatch(pub(crate) watch::Receiver<State>);

impl StateWatch {
    /// The state at this moment.
    #[must_use]
    pub fn current(&self) -> State {
        *self.0.borrow()
    }

    /// Resolves once the client is in this state; at once if it is already.
    /// Cancel-safe. If the client is gone before, it resolves as well: look at
    /// what it returns.
    pub async fn until(&mut self, state: State) -> State {
        // An error means that the client is gone: its last state stays.
        let _ = self.0.wait_for(|current| *current == state).await;
        self.current()
    }

    /// Resolves with the next state. Cancel-safe. `None` when the client is gone.
    pub async fn changed(&mut self) -> Option<State> {
        self.0.changed().await.ok()?;
        Some(*self.0.borrow_and_update())
    }
}

/// What happened to a client, with the reason.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LifecycleEvent {
    /// The broker accepted the connection.
    Connected {
        /// The broker had kept the session: nothing had to be subscribed again.
        session_present: bool,
    },
    /// An attempt to connect failed.
    ConnectFailed {
        /// Why.
        error: Error,
    },
    /// The connection ended without having been asked to.
    ConnectionLost {
        /// Why.
        reason: Error,
    },
    /// The next attempt is set.
    ReconnectScheduled {
        /// Counted from 1 since the last stable connection.
        attempt: u32,
        /// Until the attempt begins.
        delay: Duration,
    },
    /// Short-lived connections follow each other: probably a second client with the same id.
    ClientIdContested {
        /// The client id in question.
        client_id: String,
    },
    /// The broker granted these filters again after a reconnect, with these QoS.
    SubscriptionsRestored {
        /// Those of one exchange; a thousand filters make one event.
        filters: Vec<(TopicFilter, QoS)>,
    },
    /// The broker refused a filter that it had granted before.
    SubscriptionRefused {
        /// The filter.
        filter: TopicFilter,
    },
    /// `disconnect()` has finished.
    Disconnected,
    /// `shutdown()` has finished, or the client ended with its connection.
    Shutdown,
}

/// A stream of [`LifecycleEvent`]s from the moment it was asked for. It buffers
/// 64 events; who is slower than that misses the oldest, with a warning in the log.
pub struct Lifecycle(pub(crate) broadcast::Receiver<LifecycleEvent>);

impl Lifecycle {
    /// The next event; `None` when the client is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<LifecycleEvent> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Closed) => return None,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "lifecycle events were missed: their reader is too slow");
                }
            }
        }
    }

    /// As a [`Stream`].
    pub fn into_stream(self) -> impl Stream<Item = LifecycleEvent> + Send + Unpin {
        Box::pin(futures_util::stream::unfold(self, |mut events| async move {
            let event = events.next().await?;
            Some((event, events))
        }))
    }
}

/// The reason of an end, as an error a caller can be given.
pub(crate) fn reason_of(end: &EndReason) -> Error {
    use tars_ports::ErrorKind::ConnectionLost;
    match end {
        EndReason::Lost(error) => error.clone(),
        EndReason::Disconnected => Error::new(ConnectionLost, "the connection was ended with DISCONNECT"),
        _ => Error::new(ConnectionLost, "the connection was closed on this side"),
    }
}
