//! What the session waits for, all in one place.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tars_ports::{Connected, Connection, Error, Incoming, QoS, Refused, Settled};
use tokio::time::{Instant, sleep, sleep_until};

use super::link::{Online, Phase};
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
    /// The health status in flight has settled.
    HealthSettled(Result<Settled, Error>),
    /// One of the times in [`Session::next_wake`] has come.
    Time,
    /// Something may be possible now that was not before.
    Progress,
}

impl Session {
    /// Waits for the next thing to happen, with a turn for each. Every branch is
    /// cancel-safe: what is not chosen is still there the next time.
    pub(super) async fn next_event(&mut self) -> Event {
        let wake = self.next_wake();
        let work = self.dispatch.work().clone();
        let may_read = self.has_room();
        self.turns
            .first([
                pin!(only_if(self.handles_left, async {
                    Event::Command(self.commands.recv().await)
                })),
                pin!(abandoned(self.connecting.as_mut())),
                pin!(next_of(&mut self.phase, self.health.as_mut(), may_read)),
                pin!(self.shared.outbox.changed().map(|()| Event::Progress)),
                pin!(self.shared.replies.swept_earlier().map(|()| Event::Progress)),
                pin!(only_if(
                    self.drain.is_some(),
                    work.became_idle().map(|()| Event::Progress)
                )),
                pin!(only_if(!may_read, work.freed().map(|()| Event::Progress))),
                pin!(only_if(
                    wake.is_some(),
                    sleep_until(wake.unwrap_or_else(Instant::now)).map(|()| Event::Time)
                )),
            ])
            .await
    }
}

async fn only_if<T>(wanted: bool, event: impl Future<Output = T>) -> T {
    if !wanted {
        pending::<()>().await;
    }
    event.await
}

async fn abandoned(connecting: Option<&mut tokio::sync::oneshot::Sender<Result<(), Error>>>) -> Event {
    match connecting {
        Some(reply) => reply.closed().await,
        None => pending().await,
    }
    Event::ConnectAbandoned
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
        let Self {
            turns,
            connection,
            inbound,
            gone: has_gone,
            exchange,
            room,
            ..
        } = self;
        let reads = may_read || *has_gone;
        turns
            .first([
                pin!(only_if(reads, inbound.next().map(Event::Arrived))),
                pin!(only_if(!reads, async {
                    gone(connection.as_ref()).await;
                    *has_gone = true;
                    Event::Progress
                })),
                pin!(async {
                    let (step, answer) = ready_or_never(exchange).await;
                    *exchange = None;
                    Event::Exchanged(step, answer)
                }),
                pin!(async {
                    let _ = ready_or_never(room).await;
                    *room = None;
                    Event::Progress
                }),
                pin!(health_settled(health).map(Event::HealthSettled)),
            ])
            .await
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
