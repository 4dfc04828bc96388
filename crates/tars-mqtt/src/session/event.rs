//! What the session waits for, all in one place.

use std::future::pending;
use std::time::Duration;

use futures_util::StreamExt;
use tars_ports::{Connected, Connection, Error, Incoming, QoS, Refused, Settled};
use tokio::time::{Instant, sleep, sleep_until};

use super::link::{Flight, Online, Phase};
use super::subscriptions::Step;
use super::{Command, Session};
use crate::service::health::Health;

/// How often a connection that is not read is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// The broker's answer to a [`Step`].
pub(super) type Answer = Result<Vec<Result<QoS, Refused>>, Error>;

/// Something the session has to react to.
pub(super) enum Event {
    /// From a handle; `None` when the last one is gone.
    Command(Option<Command>),
    /// Whoever waited for the first connection does not any more.
    ConnectAbandoned,
    /// An attempt to connect has ended.
    Attempted(Result<Connected, Error>),
    /// Something came in; `None` if the connection's stream ended without saying why.
    Arrived(Option<Incoming>),
    /// The broker answered, or not, what was asked last.
    Exchanged(Step, Answer),
    /// A publish in flight has settled.
    Settled(Flight),
    /// The health status in flight has settled.
    HealthSettled(Result<Settled, Error>),
    /// One of the times in [`Session::next_wake`] has come.
    Time,
    /// Something may be possible now that was not before.
    Progress,
}

impl Session {
    /// Waits for the next thing to happen. Every branch is cancel-safe: what is not
    /// chosen is still there the next time.
    pub(super) async fn next_event(&mut self) -> Event {
        let wake = self.next_wake();
        let draining = self.drain.is_some();
        let work = self.dispatch.work().clone();
        let may_read = self.has_room();
        tokio::select! {
            command = self.commands.recv(), if self.handles_left => Event::Command(command),
            () = abandoned(self.connecting.as_mut()) => Event::ConnectAbandoned,
            event = next_of(&mut self.phase, self.health.as_mut(), may_read) => event,
            () = self.shared.outbox.changed() => Event::Progress,
            () = work.became_idle(), if draining => Event::Progress,
            () = work.freed(), if !may_read => Event::Progress,
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => Event::Time,
        }
    }
}

async fn abandoned(connecting: Option<&mut tokio::sync::oneshot::Sender<Result<(), Error>>>) {
    match connecting {
        Some(reply) => reply.closed().await,
        None => pending().await,
    }
}

async fn next_of(phase: &mut Phase, health: Option<&mut Health>, may_read: bool) -> Event {
    match phase {
        Phase::Offline | Phase::Waiting(_) => pending().await,
        Phase::Connecting(attempt) => Event::Attempted(attempt.await),
        Phase::Online(online) => online.next_event(health, may_read).await,
    }
}

impl Online {
    async fn next_event(&mut self, health: Option<&mut Health>, may_read: bool) -> Event {
        tokio::select! {
            incoming = self.inbound.next(), if may_read || self.gone => Event::Arrived(incoming),
            () = gone(self.connection.as_ref()), if !may_read && !self.gone => {
                self.gone = true;
                Event::Progress
            }
            Some(flight) = self.in_flight.next() => Event::Settled(flight),
            (step, answer) = ready_or_never(&mut self.exchange) => {
                self.exchange = None;
                Event::Exchanged(step, answer)
            }
            _ = ready_or_never(&mut self.room) => {
                self.room = None;
                Event::Progress
            }
            result = health_settled(health) => Event::HealthSettled(result),
        }
    }
}

/// Resolves when the connection has ended, for when its stream is not read.
async fn gone(connection: &dyn Connection) {
    while connection.ready(QoS::AtMostOnce).await.is_ok() {
        sleep(LOOK).await;
    }
}

async fn ready_or_never<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

async fn health_settled(health: Option<&mut Health>) -> Result<Settled, Error> {
    match health.and_then(Health::receipt) {
        Some(receipt) => receipt.await,
        None => pending().await,
    }
}
