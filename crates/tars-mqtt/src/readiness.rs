//! Readiness: whether a service can do its work at this moment, for the probes of containers
//! and the supervisors of processes.
//!
//! Invariant: it is said by the session alone, which knows both the connection and what the
//! broker granted on it.

use tars_ports::Error;

use crate::client::Client;

impl Client {
    /// Whether there is a connection and the broker has granted every subscription: those of
    /// [`subscribe`](Self::subscribe), [`on`](Self::on), [`respond`](Self::respond) and of the
    /// builder's routes. For the readiness probe of a container.
    ///
    /// It is `false` before the first connection, while reconnecting until the subscriptions
    /// are restored, while a new filter waits for its grant, when the broker refused to restore
    /// one ([`SubscriptionRefused`](crate::LifecycleEvent::SubscriptionRefused)), and from the
    /// beginning of a shutdown. The reply topics of requests do not count. A service that
    /// subscribes after connecting counts as ready before its first `subscribe`; give the
    /// handlers to the [builder](crate::ClientBuilder::route) where that matters.
    ///
    /// A lost link is noticed as fast as TCP, keepalive or the heartbeat do.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.shared().ready.borrow()
    }

    /// Resolves once [`is_ready`](Self::is_ready), at once if it is already. It waits across
    /// reconnects and for a [`connect`](Self::connect) that is still to come, without a limit.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) when the client was shut down or ended with its connection.
    pub async fn until_ready(&self) -> Result<(), Error> {
        let mut ready = self.shared().ready.subscribe();
        let mut state = self.state();
        // A shutdown after `disconnect` changes no state, but it is told.
        let mut events = self.shared().events.subscribe();
        loop {
            self.shared().check_open()?;
            tokio::select! {
                biased;
                Ok(_) = ready.wait_for(|ready| *ready) => return Ok(()),
                _ = state.changed() => {}
                _ = events.recv() => {}
            }
        }
    }
}
