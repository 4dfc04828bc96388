//! The session: one task that owns everything that outlives a connection.
//!
//! When to connect, what is subscribed, what is unsettled, what the service's health
//! is. It waits for one thing at a time ([`event`]), decides, and never waits for a
//! handler. Handles send it commands; deliveries go through it to the dispatch.
//!
//! ```text
//! Offline ── connect ──▶ Connecting ── CONNACK ──▶ Online
//!    ▲                     │    ▲                    │
//!    └── first failure ────┘    └──── Waiting ◀──────┘ link lost
//! ```

mod backoff;
mod ending;
mod event;
mod link;
pub(crate) mod outbox;
mod seams;
#[cfg(test)]
mod slots;
pub(crate) mod subscriptions;
mod trouble;
mod turns;

use std::sync::Arc;

use tars_contracts::{HealthStatus, TopicFilter, TopicName, keepalive_topic};
use tars_ports::{Connector, Error, ErrorKind, QoS, SessionState};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::backoff::Backoff;
pub(crate) use self::ending::Ending;
use self::event::Event;
use self::link::Phase;
use self::subscriptions::{
    Pending, Place, SubscribeReply, Subscriptions, UnsubscribeReply, check_room, check_shape, check_shared,
};
use self::trouble::Outage;
use self::turns::Turns;
use crate::burst::Burst;
use crate::client::WeakClient;
use crate::dispatch::{Dispatch, Entry};
use crate::lifecycle::State;
use crate::service::health::Health;
use crate::service::heartbeat::Heartbeat;
use crate::service::shutdown::{Drain, ShutdownReport};
use crate::shared::Shared;
use crate::subscribe::{Acknowledge, Route};

/// What a handle asks of the session.
pub(crate) enum Command {
    Connect(oneshot::Sender<Result<(), Error>>),
    Subscribe {
        route: Box<Route>,
        reply: SubscribeReply,
    },
    Unsubscribe {
        filter: TopicFilter,
        /// Only the subscription with this number.
        id: Option<u64>,
        reply: UnsubscribeReply,
    },
    Health {
        status: HealthStatus,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    End(Ending, Option<oneshot::Sender<ShutdownReport>>),
}

/// See the module.
pub(crate) struct Session {
    shared: Arc<Shared>,
    connector: Arc<dyn Connector>,
    commands: mpsc::Receiver<Command>,
    handles_left: bool,
    dispatch: Dispatch,
    subscriptions: Subscriptions,
    phase: Phase,
    /// What the next connection gets from the last one.
    carried: SessionState,
    backoff: Backoff,
    health: Option<Health>,
    heartbeat: Option<Heartbeat>,
    keepalive_topic: Option<TopicName>,
    /// Who waits for the first connection.
    connecting: Option<oneshot::Sender<Result<(), Error>>>,
    /// There was a connection since `connect()`.
    connected_before: bool,
    /// When the present connection counts as stable.
    stable_at: Option<Instant>,
    /// The last link ended without DISCONNECT: its will may still be on its way.
    will_may_speak: bool,
    short_lived: u32,
    connect_failures: Burst,
    outage: Option<Outage>,
    drain: Option<Drain>,
    turns: Turns,
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connector: Arc<dyn Connector>,
        client: WeakClient,
        commands: mpsc::Receiver<Command>,
        routes: Vec<Route>,
        seed: Option<u64>,
    ) -> Result<Self, Error> {
        let config = &shared.config;
        let keepalive_topic = config
            .heartbeat
            .map(|_| keepalive_topic(&config.client_id))
            .transpose()?;
        let mut session = Self {
            dispatch: Dispatch::new(shared.clone(), client),
            subscriptions: Subscriptions::new(keepalive_topic.clone().map(TopicFilter::from)),
            backoff: Backoff::new(config.reconnect_min_delay, config.reconnect_max_delay, seed),
            health: config.health.then(|| Health::new(config)).transpose()?,
            heartbeat: None,
            keepalive_topic,
            phase: Phase::Offline,
            carried: SessionState::new(),
            connecting: None,
            connected_before: false,
            stable_at: None,
            will_may_speak: false,
            short_lived: 0,
            connect_failures: Burst::default(),
            outage: None,
            drain: None,
            turns: Turns::default(),
            connector,
            commands,
            handles_left: true,
            shared,
        };
        for route in routes {
            let entry = session.entry(route)?;
            session.dispatch.insert(entry);
        }
        Ok(session)
    }

    /// Runs until the client is shut down or its last handle is gone.
    pub(crate) async fn run(mut self) -> ShutdownReport {
        loop {
            let event = self.next_event().await;
            if let Some(report) = self.handle(event).await {
                return report;
            }
            self.advance();
            self.shared.outbox.watch(self.drain.is_some() || self.outage.is_some());
            self.tell_readiness();
            self.complain();
            self.say_caught_up();
            if self.has_drained()
                && let Some(report) = self.finish().await
            {
                return report;
            }
        }
    }

    fn tell_readiness(&self) {
        let connected = self.online().is_some_and(|online| online.restored);
        let ready = connected && self.drain.is_none() && self.subscriptions.are_complete();
        self.shared.set_ready(ready);
    }

    async fn handle(&mut self, event: Event) -> Option<ShutdownReport> {
        match event {
            Event::Command(Some(command)) => self.command(command),
            Event::Command(None) => return self.orphaned().await,
            Event::ConnectAbandoned => self.give_up_connecting(),
            Event::Attempted(Ok(connected)) => self.established(connected),
            Event::Attempted(Err(error)) => self.attempt_failed(error),
            Event::Arrived(incoming) => return self.arrived(incoming).await,
            Event::Exchanged(step, result) => self.exchanged(step, result),
            Event::HealthSettled(result) => {
                if let Some(health) = &mut self.health {
                    health.settled(result);
                }
            }
            Event::Time => self.on_time(),
            Event::Progress => {}
        }
        None
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Connect(reply) => self.connect(reply),
            Command::Subscribe { route, reply } => self.subscribe(*route, reply),
            Command::Unsubscribe { filter, id, reply } => self.unsubscribe(filter, id, reply),
            Command::Health { status, reply } => self.tell_health(status, reply),
            Command::End(ending, reply) => self.begin_drain(ending, reply),
        }
    }

    fn tell_health(&mut self, status: HealthStatus, reply: oneshot::Sender<Result<(), Error>>) {
        if let Some(drain) = &self.drain {
            // The last word is that of the end, whatever a task of the service still reports.
            let _ = reply.send(Err(Error::new(drain.error_kind(), "the client is ending")));
            return;
        }
        let online = self.online().is_some();
        let Some(health) = &mut self.health else {
            let _ = reply.send(Ok(()));
            return;
        };
        match self.shared.check(&health.message(&status, &self.shared.config)) {
            Ok(()) => health.set(status, online, Some(reply)),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn connect(&mut self, reply: oneshot::Sender<Result<(), Error>>) {
        if !matches!(self.phase, Phase::Offline) || self.drain.is_some() {
            let state = self.shared.state();
            let error = Error::new(ErrorKind::AlreadyConnected, format!("the client is {state:?} already"));
            let _ = reply.send(Err(error));
            return;
        }
        self.connecting = Some(reply);
        self.connected_before = false;
        self.backoff.reset();
        if let Some(health) = &mut self.health {
            health.start_over();
        }
        self.shared.set_state(State::Connecting);
        self.outage = None;
        self.say_connecting();
        self.attempt();
    }

    fn entry(&self, route: Route) -> Result<Arc<Entry>, Error> {
        let filter = route.check()?;
        check_shared(&filter, &self.dispatch, self.subscriptions.echo())?;
        check_shape(&filter, self.shared.config.max_packet_size)?;
        check_room(&filter, &self.dispatch, self.shared.config.max_subscriptions)?;
        if route.options.acknowledge == Some(Acknowledge::AfterSuccess) && !self.shared.capabilities.manual_ack {
            let what = "this adapter acknowledges on receipt and cannot do it after success";
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        if route.options.qos == QoS::ExactlyOnce {
            self.shared.check_qos2()?;
        }
        let id = self.shared.fresh_route_id();
        let config = &self.shared.config;
        let Route {
            slot, target, options, ..
        } = route;
        Ok(Arc::new(Entry::new(id, filter, slot, target, options, config)))
    }

    fn subscribe(&mut self, route: Route, reply: SubscribeReply) {
        // A handler that is let finish may still make a request.
        if let Some(drain) = &self.drain
            && !route.slot.is_own()
        {
            let _ = reply.send(Err(Error::new(drain.error_kind(), "the client is ending")));
            return;
        }
        if matches!(self.phase, Phase::Offline) {
            let _ = reply.send(Err(Error::new(ErrorKind::NotConnected, "the client is not connected")));
            return;
        }
        match self.entry(route) {
            Err(error) => drop(reply.send(Err(error))),
            Ok(entry) => {
                // The handler first: a retained message may come before SUBACK.
                let replaced = self.dispatch.insert(entry.clone());
                let place = Place { entry, replaced };
                self.subscriptions.add(place, reply, &mut self.dispatch);
            }
        }
    }

    fn unsubscribe(&mut self, filter: TopicFilter, id: Option<u64>, reply: UnsubscribeReply) {
        if let Err(error) = check_shape(&filter, self.shared.config.max_packet_size) {
            let _ = reply.send(Err(error));
            return;
        }
        let meant = |entry: &&Arc<Entry>| id.map_or(!entry.slot.is_own(), |id| entry.id == id);
        let meant: Vec<_> = self.dispatch.under(&filter).filter(meant).cloned().collect();
        if let Some(id) = id
            && meant.is_empty()
        {
            // Another handler has taken its place: that one stays.
            self.subscriptions.forget_replaced(&filter, id);
            let _ = reply.send(Ok(()));
            return;
        }
        let slots = |pending: &Pending| meant.iter().any(|entry| entry.slot == pending.place.entry.slot);
        for pending in self.subscriptions.take_pending(&filter, slots) {
            let error = Error::new(
                ErrorKind::NotConnected,
                "it was unsubscribed before the broker had granted it",
            );
            let _ = pending.reply.send(Err(error));
        }
        meant.iter().for_each(|entry| self.dispatch.remove(entry));
        self.subscriptions.leave(filter, reply);
    }
}

impl Drop for Session {
    /// However it goes, nobody waits for it any more: its runtime may end under it.
    fn drop(&mut self) {
        self.shared.live.store(None);
        self.shared.set_ready(false);
        self.shared.close();
        let why = "the client's task has ended";
        if std::thread::panicking() {
            // Who runs in a scope is told: there is no other end of it.
            let reason = Error::new(ErrorKind::Internal, "the client's task panicked");
            let _ = self.shared.end_reason.set(reason);
        }
        self.shared.outbox.fail_all(ErrorKind::Closed, why);
        self.shared.set_state(State::Disconnected);
    }
}
