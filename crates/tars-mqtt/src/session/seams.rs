//! The seams of a reconnect: an attempt, its success, its failure, and the end of a
//! link. The order of the steps is the table in `docs/architecture.md`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tars_ports::{ConnectOptions, Connected, EndReason, Ended, Error, ErrorKind, SessionState, TlsFiles};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::Session;
use super::link::{Online, Phase};
use super::outbox::MAX_INFLIGHT_QOS2;
use super::trouble::{CONTESTED, Outage};
use crate::credentials;
use crate::dispatch::Slot;
use crate::lifecycle::{LifecycleEvent, State, reason_of};
use crate::service::health::last_will;
use crate::service::heartbeat::Heartbeat;
use crate::service::shutdown::ShutdownReport;
use crate::shared::{Live, Shared};
use crate::spans::ms;
use crate::stats::count;

async fn options(shared: &Shared) -> Result<ConnectOptions, Error> {
    let config = &shared.config;
    let mut options = ConnectOptions::new(config.broker.host.clone(), config.broker.port, config.client_id.clone());
    options.transport = config.broker.transport;
    options.path.clone_from(&config.broker.path);
    options.tls = TlsFiles::new(
        config.ca_file.clone(),
        config.cert_file.clone(),
        config.key_file.clone(),
    );
    options.credentials = credentials::current(config, shared.hooks.credentials.as_ref()).await?;
    options.keep_alive = config.keep_alive;
    options.clean_session = config.clean_session;
    options.timeout = config.connect_timeout;
    options.max_packet_size = config.max_packet_size;
    options.max_inflight = config.max_inflight;
    options.max_inflight_qos2 = MAX_INFLIGHT_QOS2;
    options.inbound_messages = config.inbound_messages;
    options.inbound_bytes = config.inbound_bytes;
    if config.health {
        options.last_will = Some(last_will(config)?);
    }
    Ok(options)
}

impl Session {
    /// Begins an attempt. Options are made anew each time: a secret may have been
    /// rotated, and the will carries the time of the connect.
    pub(super) fn attempt(&mut self) {
        let (shared, connector) = (self.shared.clone(), self.connector.clone());
        let carried = self.carried.clone();
        let config = &self.shared.config;
        let span = tracing::info_span!(
            "connect", client_id = %config.client_id, broker = %config.broker,
            attempt = self.backoff.attempt(), session_present = Empty,
        );
        let attempt = async move {
            let options = options(&shared).await?;
            let connected = connector.connect(&options, carried).await?;
            Span::current().record("session_present", connected.session_present);
            Ok(connected)
        };
        self.phase = Phase::Connecting(attempt.instrument(span).boxed());
    }

    pub(super) fn established(&mut self, connected: Connected) {
        if self.connecting.as_ref().is_some_and(oneshot::Sender::is_closed) {
            // Given up at the last moment.
            return self.give_up_connecting();
        }
        let now = Instant::now();
        let session_present = connected.session_present;
        let reconnected = self.connected_before;
        self.carried = SessionState::new();
        count(&self.shared.stats.connects);
        if reconnected {
            self.shared.stats.metrics.reconnects.add(1);
        }
        self.say_connected(session_present, reconnected);
        // What arrives now finds its handlers; what waits of the old link may go.
        self.dispatch.connection_began(session_present);
        if !reconnected && self.drain.is_none() {
            self.dispatch.start();
            if !self.shared.capabilities.manual_ack {
                tracing::warn!(
                    client_id = %self.shared.config.client_id,
                    "this adapter acknowledges messages on receipt: what fails or is cut off does not come again"
                );
            }
        }
        self.subscriptions.connection_began(session_present);
        if let Some(health) = &mut self.health {
            health.connection_began(reconnected, self.drain.is_some());
        }
        self.shared.outbox.rewind(connected.resumed);
        let config = &self.shared.config;
        self.heartbeat = config.heartbeat.map(|interval| Heartbeat::new(interval, now));
        self.stable_at = Some(now + config.reconnect_max_delay);
        let live = Live {
            connection: connected.connection.clone(),
        };
        self.shared.live.store(Some(Arc::new(live)));
        self.phase = Phase::Online(Box::new(Online::new(connected.connection, connected.inbound)));
        self.connected_before = true;
        if self.drain.is_none() {
            self.shared.set_state(State::Connected);
        }
        self.shared.emit(LifecycleEvent::Connected { session_present });
        if let Some(reply) = self.connecting.take() {
            let _ = reply.send(Ok(()));
        }
    }

    pub(super) fn attempt_failed(&mut self, error: Error) {
        if matches!(
            error.kind(),
            ErrorKind::ConnectionLost | ErrorKind::Timeout | ErrorKind::Protocol
        ) {
            self.subscriptions.attempt_unanswered();
        }
        self.shared.emit(LifecycleEvent::ConnectFailed { error: error.clone() });
        let first = self.connecting.is_some();
        if first && !self.shared.config.connect_retry {
            return self.back_to_start(&error);
        }
        let aloud = self.say_failed_attempt(&error);
        self.schedule(error.is_transient(), aloud);
    }

    /// Sets the next attempt. What does not heal by waiting a little is tried at the
    /// longest delay.
    fn schedule(&mut self, transient: bool, aloud: bool) {
        let delay = if transient {
            self.backoff.next_delay()
        } else {
            self.backoff.longest_delay()
        };
        let attempt = self.backoff.attempt();
        self.say_next_attempt(aloud, delay);
        self.shared.emit(LifecycleEvent::ReconnectScheduled { attempt, delay });
        self.phase = Phase::Waiting(Instant::now() + delay);
    }

    pub(super) fn give_up_connecting(&mut self) {
        self.subscriptions.attempt_unanswered();
        self.back_to_start(&Error::new(ErrorKind::NotConnected, "connecting was given up"));
    }

    /// No connection came about: as before `connect()`. Who waited for it is told.
    fn back_to_start(&mut self, error: &Error) {
        self.phase = Phase::Offline;
        let ended_before = self.shared.stats.connects.value() > 0;
        self.shared.set_state(if ended_before {
            State::Disconnected
        } else {
            State::Created
        });
        if let Some(reply) = self.connecting.take() {
            let _ = reply.send(Err(error.clone()));
        }
        self.fail_waiters(
            &Error::new(ErrorKind::NotConnected, "the client could not connect").with_source(error.clone()),
        );
    }

    pub(super) async fn stream_ended(&mut self) -> Option<ShutdownReport> {
        let error = Error::new(ErrorKind::Internal, "the adapter's stream ended without a reason");
        self.link_ended(Ended::new(EndReason::Lost(error))).await
    }

    /// The link is gone. Unless the client is ending or may not reconnect, the next
    /// attempt is set.
    pub(super) async fn link_ended(&mut self, ended: Ended) -> Option<ShutdownReport> {
        self.shared.live.store(None);
        self.shared.outbox.shut();
        self.heartbeat = None;
        self.count_lost(ended.unsent);
        self.carried = ended.session;
        let Phase::Online(online) = std::mem::replace(&mut self.phase, Phase::Offline) else {
            return None;
        };
        if let Some(health) = &mut self.health {
            health.connection_ended();
        }
        self.will_may_speak = true;
        let reason = if online.given_up {
            let what = "three heartbeats in a row stayed unanswered, so the link was given up";
            Error::new(ErrorKind::ConnectionLost, what)
        } else {
            reason_of(&ended.reason)
        };
        self.outage = Some(Outage::begin(&self.shared));
        let aloud = self.say_lost_link(&reason);
        self.shared
            .emit(LifecycleEvent::ConnectionLost { reason: reason.clone() });
        if !self.shared.config.reconnect {
            let why = format!("the connection was lost and MQTT_RECONNECT is off: {reason}");
            let _ = self
                .shared
                .end_reason
                .set(reason.while_doing("the connection was lost and MQTT_RECONNECT is off"));
            return Some(self.end_abruptly(&why).await);
        }
        if self.drain.is_none() {
            self.shared.set_state(State::Reconnecting);
        }
        let stayed_up = self.stable_at.take().is_none();
        self.note_short_life(stayed_up, online.began.elapsed());
        // A packet above our limit, for example: a broker that keeps the session sends it
        // again each time, so there is no hurry, and the reason is in every event.
        self.schedule(reason.is_transient(), aloud);
        None
    }

    /// Two clients with one id throw each other out for ever: their connections are
    /// short, and the backoff, which only a stable connection resets, slows them down.
    fn note_short_life(&mut self, stayed_up: bool, lived: Duration) {
        self.short_lived = if stayed_up { 0 } else { self.short_lived + 1 };
        if self.short_lived >= CONTESTED {
            let client_id = self.shared.config.client_id.clone();
            if self.short_lived == CONTESTED {
                tracing::warn!(
                    %client_id, lived_ms = ms(lived), in_a_row = self.short_lived,
                    "connections end shortly after they begin: is another client using the same client id?",
                );
            }
            self.shared.emit(LifecycleEvent::ClientIdContested { client_id });
        }
    }

    /// Reply filters without a request for long leave the wire.
    fn release_unused_replies(&mut self, now: Instant) {
        for (filter, slot) in self.shared.replies.expired(now) {
            if let Some(entry) = self.dispatch.entry(&filter, &Slot::Own(slot)).cloned() {
                self.dispatch.remove(&entry);
                self.subscriptions.removed();
            }
        }
    }

    /// The earliest time at which something is due.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let attempt = match self.phase {
            Phase::Waiting(until) => Some(until),
            _ => None,
        };
        let beat = self.heartbeat.as_ref().map(Heartbeat::next);
        let drained = self.drain.as_ref().map(|drain| drain.deadline);
        let expired = self.shared.outbox.next_deadline();
        let look = self.shared.work.next_look();
        let unused = self.shared.replies.next_sweep();
        [attempt, beat, drained, expired, look, self.stable_at, unused]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self) {
        let now = Instant::now();
        self.shared.outbox.expire(now);
        self.release_unused_replies(now);
        if matches!(self.phase, Phase::Waiting(until) if until <= now) {
            self.attempt();
        }
        if self.stable_at.is_some_and(|at| at <= now) {
            self.stable_at = None;
            self.short_lived = 0;
            self.backoff.reset();
            // A cluster may publish the old link's will after our new status.
            if std::mem::take(&mut self.will_may_speak)
                && let Some(health) = &mut self.health
            {
                health.repeat();
            }
        }
        self.beat(now);
    }
}
