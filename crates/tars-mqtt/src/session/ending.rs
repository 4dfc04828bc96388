//! The end of a session: in good order, with what is under way finished up to a deadline;
//! or at once, when its last handle is gone or a lost link must not come back.

use std::time::Duration;

use futures_util::StreamExt;
use tars_contracts::HealthStatus;
use tars_ports::{Error, ErrorKind, Incoming};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Instrument;

use super::Session;
use super::link::Phase;
use crate::lifecycle::{LifecycleEvent, State};
use crate::service::health::Health;
use crate::service::shutdown::{Drain, ShutdownReport};

/// How long an orderly end may take at least to write its DISCONNECT.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a session is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It may connect again.
    Disconnect,
    /// For good.
    Shutdown,
}

impl Session {
    pub(super) fn begin_drain(&mut self, ending: Ending, reply: Option<oneshot::Sender<ShutdownReport>>) {
        if let Some(drain) = &mut self.drain {
            drain.replies.extend(reply);
            // A shutdown is the stronger of the two.
            if ending == Ending::Shutdown {
                drain.ending = ending;
            }
            return;
        }
        // On a kept session the broker sends again what it has no acknowledgement for.
        let clean = self.shared.config.clean_session;
        let unstarted = self
            .dispatch
            .wind_down(|received| received.is_reliable() && (clean || !received.is_unacknowledged()));
        let client_id = &self.shared.config.client_id;
        let span = tracing::info_span!("disconnect", %client_id, ?ending);
        let unsettled = self.shared.outbox.len();
        span.in_scope(|| tracing::info!(%client_id, ?ending, unsettled, "finishing what is under way"));
        self.drain = Some(Drain {
            ending,
            span,
            deadline: Instant::now() + self.shared.config.shutdown_timeout,
            replies: reply.into_iter().collect(),
            jobs: self.dispatch.work().jobs(),
            unsettled,
            unstarted,
        });
        if !matches!(self.phase, Phase::Offline) {
            self.shared.set_state(State::Disconnecting);
        }
        let online = self.online().is_some();
        if let Some(health) = &mut self.health {
            health.set(HealthStatus::new(false).with_event("shutdown"), online, None);
        }
    }

    /// Whether an end in progress has nothing left to wait for.
    pub(super) fn has_drained(&self) -> bool {
        let Some(drain) = &self.drain else {
            return false;
        };
        if Instant::now() >= drain.deadline {
            return true;
        }
        let idle = self.dispatch.work().jobs() == 0 && self.shared.outbox.len() == 0;
        let told = self.online().is_none() || self.health.as_ref().is_none_or(Health::is_settled);
        match self.phase {
            Phase::Offline => true,
            _ if !self.connected_before => true,
            _ => idle && told,
        }
    }

    /// The end of an orderly end. Returns the report when the session is over.
    pub(super) async fn finish(&mut self) -> Option<ShutdownReport> {
        let drain = self.drain.take()?;
        let span = drain.span.clone();
        self.end(drain).instrument(span).await
    }

    async fn end(&mut self, drain: Drain) -> Option<ShutdownReport> {
        let cut_off = self.dispatch.stop().await;
        let (kind, why) = (
            drain.error_kind(),
            "the client was ended before the broker confirmed it",
        );
        if drain.ending == Ending::Shutdown {
            self.shared.close();
        }
        let unsettled = self.shared.outbox.fail_all(kind, why);
        let disconnected = self.end_link(drain.deadline).await;
        let error = Error::new(kind, "the client was ended");
        self.fail_waiters(&error);
        let report = drain.report(cut_off, unsettled, disconnected);
        let event = match drain.ending {
            Ending::Disconnect => LifecycleEvent::Disconnected,
            Ending::Shutdown => LifecycleEvent::Shutdown,
        };
        tracing::info!(
            client_id = %self.shared.config.client_id,
            ending = ?drain.ending,
            handlers_finished = report.handlers_finished,
            handlers_cut_off = report.handlers_cut_off,
            unstarted = report.unstarted,
            publishes_settled = report.publishes_settled,
            publishes_unsettled = report.publishes_unsettled,
            goodbye = report.disconnected,
            "disconnected",
        );
        self.shared.set_state(State::Disconnected);
        self.shared.emit(event);
        for reply in drain.replies {
            let _ = reply.send(report);
        }
        (drain.ending == Ending::Shutdown).then_some(report)
    }

    /// Ends the link in good order; what was taken over has until then to be written.
    /// Returns whether DISCONNECT was sent.
    async fn end_link(&mut self, until: Instant) -> bool {
        self.shared.live.store(None);
        self.stable_at = None;
        self.heartbeat = None;
        let mut online = match std::mem::replace(&mut self.phase, Phase::Offline) {
            Phase::Online(online) => online,
            Phase::Connecting(_) => {
                self.subscriptions.attempt_unanswered();
                return false;
            }
            Phase::Offline | Phase::Waiting(_) => return false,
        };
        let until = until.max(Instant::now() + FAREWELL);
        let farewell = tokio::time::timeout_at(until, online.connection.disconnect()).await;
        let disconnected = matches!(farewell, Ok(Ok(())));
        if !disconnected {
            let client_id = &self.shared.config.client_id;
            tracing::warn!(%client_id, "DISCONNECT could not be sent: the broker will publish the last will");
            online.connection.close();
        }
        // The connection's last word carries what the next one needs.
        let ended = async {
            while let Some(incoming) = online.inbound.next().await {
                if let Incoming::Ended(ended) = incoming {
                    return Some(ended);
                }
            }
            None
        };
        if let Ok(Some(ended)) = tokio::time::timeout(FAREWELL, ended).await {
            self.count_lost(ended.unsent);
            self.carried = ended.session;
        }
        self.will_may_speak = !disconnected;
        disconnected
    }

    /// The last handle is gone. An end in progress goes on, and is one for good;
    /// otherwise the link closes without DISCONNECT, so that the last will speaks.
    pub(super) async fn orphaned(&mut self) -> Option<ShutdownReport> {
        self.handles_left = false;
        if let Some(drain) = &mut self.drain {
            drain.ending = Ending::Shutdown;
            return None;
        }
        Some(self.end_abruptly("the last handle was dropped").await)
    }

    /// Ends the session without asking anybody to finish.
    pub(super) async fn end_abruptly(&mut self, why: &str) -> ShutdownReport {
        // The link first: a dead letter that fails now must not be followed by its acknowledgement.
        if let Some(live) = self.shared.live.swap(None) {
            live.connection.close();
        }
        self.shared.close();
        self.phase = Phase::Offline;
        let cut_off = self.dispatch.stop().await;
        let unsettled = self.shared.outbox.fail_all(ErrorKind::Closed, why);
        self.fail_waiters(&Error::new(ErrorKind::Closed, why.to_owned()));
        tracing::warn!(
            client_id = %self.shared.config.client_id, why, handlers_cut_off = cut_off,
            publishes_unsettled = unsettled, "ended without a shutdown",
        );
        self.shared.set_state(State::Disconnected);
        self.shared.emit(LifecycleEvent::Shutdown);
        let report = ShutdownReport {
            handlers_cut_off: cut_off,
            publishes_unsettled: unsettled,
            ..ShutdownReport::default()
        };
        if let Some(drain) = self.drain.take() {
            for reply in drain.replies {
                let _ = reply.send(report);
            }
        }
        report
    }

    pub(super) fn fail_waiters(&mut self, error: &Error) {
        if let Some(reply) = self.connecting.take() {
            let _ = reply.send(Err(error.clone()));
        }
        self.subscriptions.fail_pending(&mut self.dispatch, error);
        if let Some(health) = &mut self.health {
            health.fail_waiters(error);
        }
    }

    pub(super) fn count_lost(&self, unsent: u64) {
        if unsent > 0 {
            self.shared.stats.lost_unsent.add(unsent);
            tracing::warn!(client_id = %self.shared.config.client_id, unsent, "QoS 0 messages were lost with the link");
        }
    }
}
