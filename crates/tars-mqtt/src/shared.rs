//! What handles, contexts, workers and the session share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use tars_ports::{Capabilities, Connection, Error, ErrorKind};
use tokio::sync::{broadcast, watch};

use crate::burst::Burst;
use crate::config::Config;
use crate::context::Context;
use crate::dispatch::Work;
use crate::handler::Invalid;
use crate::hooks::Hooks;
use crate::lifecycle::{LifecycleEvent, State};
use crate::patterns::replies::Replies;
use crate::session::outbox::Outbox;
use crate::stats::Counters;

/// A live connection, for the short path of QoS 0.
pub(crate) struct Live {
    pub(crate) connection: Arc<dyn Connection>,
}

/// What handles, contexts, workers and the session share. It keeps nothing alive
/// but itself: whether the client lives is decided by its handles.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) capabilities: Capabilities,
    pub(crate) stats: Arc<Counters>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) work: Arc<Work>,
    pub(crate) replies: Replies,
    /// How many connections had their subscriptions restored.
    pub(crate) restored: watch::Sender<u64>,
    pub(crate) live: ArcSwapOption<Live>,
    pub(crate) state: watch::Sender<State>,
    /// Connected, and everything subscribed is granted.
    pub(crate) ready: watch::Sender<bool>,
    pub(crate) events: broadcast::Sender<LifecycleEvent>,
    pub(crate) hooks: Hooks,
    /// Messages without a subscription.
    pub(crate) unrouted: Burst,
    /// Why the client ended, if nobody asked it to.
    pub(crate) end_reason: OnceLock<Error>,
    closed: AtomicBool,
    next_id: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: Config, capabilities: Capabilities, hooks: Hooks) -> Self {
        let stats = Arc::new(Counters::new(&config.client_id));
        stats.metrics.state(State::Created);
        Self {
            outbox: Outbox::new(
                config.outbox_messages,
                config.outbox_bytes,
                config.max_inflight,
                stats.clone(),
            ),
            work: Arc::new(Work::new(&config.client_id)),
            replies: Replies::default(),
            restored: watch::Sender::new(0),
            capabilities,
            stats,
            live: ArcSwapOption::empty(),
            state: watch::Sender::new(State::Created),
            ready: watch::Sender::new(false),
            events: broadcast::Sender::new(64),
            hooks,
            unrouted: Burst::default(),
            end_reason: OnceLock::new(),
            closed: AtomicBool::new(false),
            next_id: AtomicU64::new(0),
            config,
        }
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.send_if_modified(|current| {
            // Under its lock, so that the last one to be set is the last one here.
            self.stats.metrics.state(state);
            std::mem::replace(current, state) != state
        });
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready
            .send_if_modified(|current| std::mem::replace(current, ready) != ready);
    }

    /// Tells whoever listens; nobody has to.
    pub(crate) fn emit(&self, event: LifecycleEvent) {
        self.hooks.lifecycle(&event);
        let _ = self.events.send(event);
    }

    /// After this every operation returns `Closed`.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.outbox.close();
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(self
                .end_reason
                .get()
                .map_or_else(closed, |reason| closed().with_source(reason.clone())));
        }
        Ok(())
    }

    /// Logs a message that was no valid input, at WARN once per burst, and tells the hook.
    pub(crate) fn report_invalid(&self, context: &Context, invalid: Invalid, burst: &Burst) {
        let payload = context.payload();
        let start = String::from_utf8_lossy(&payload[..payload.len().min(64)]);
        let (topic, reason, bytes) = (context.topic(), &invalid.0, payload.len());
        match burst.say() {
            Some(unsaid) => tracing::warn!(%topic, reason, bytes, unsaid, "invalid message skipped"),
            None => tracing::debug!(%topic, reason, bytes, "invalid message skipped"),
        }
        tracing::trace!(topic = %context.topic(), ?start, "the invalid payload begins with");
        self.hooks.invalid(context, &invalid);
    }

    /// Whether QoS 1 and 2 may be taken in: there was a connection, and there may be one again.
    pub(crate) fn was_connected(&self) -> bool {
        matches!(
            self.state(),
            State::Connected | State::Reconnecting | State::Disconnecting
        )
    }

    pub(crate) fn check_qos2(&self) -> Result<(), Error> {
        let what = if !self.capabilities.qos2 {
            "this adapter has no QoS 2"
        } else if !self.config.clean_session && !self.capabilities.qos2_resume {
            "this adapter cannot carry QoS 2 over a reconnect, so it does not go together with a \
             persistent session (MQTT_CLEAN_SESSION=false)"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Unsupported, what))
    }

    pub(crate) fn fresh_route_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was shut down")
}
