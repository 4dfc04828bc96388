//! The client: a cheap handle to a session that runs by itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture};
use serde::Serialize;
use tars_contracts::{HealthStatus, TopicFilter, TopicName};
use tars_ports::{Capabilities, Connection, Error, ErrorKind, Message, Publisher, QoS, Receipt, TryPublishError};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::builder::ClientBuilder;
use crate::config::Config;
use crate::context::Context;
use crate::handler::{Handler, Invalid};
use crate::lifecycle::{Lifecycle, LifecycleEvent, State, StateWatch};
use crate::publish::{EventId, Publish};
use crate::service::shutdown::ShutdownReport;
use crate::session::outbox::Outbox;
use crate::session::{Command, Ending, Session};
use crate::stats::{Counters, Stats, count};
use crate::subscribe::{Route, Subscribe};

/// What is called with every message that was no valid input.
pub(crate) type InvalidHook = Arc<dyn Fn(&Context, &Invalid) + Send + Sync>;

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
    pub(crate) outbox: Outbox,
    pub(crate) live: ArcSwapOption<Live>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) events: broadcast::Sender<LifecycleEvent>,
    pub(crate) on_invalid: Option<InvalidHook>,
    /// Why the client ended, if nobody asked it to.
    pub(crate) end_reason: OnceLock<Error>,
    closed: AtomicBool,
    next_id: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: Config, capabilities: Capabilities, on_invalid: Option<InvalidHook>) -> Self {
        let stats = Arc::<Counters>::default();
        Self {
            outbox: Outbox::new(config.outbox_messages, config.outbox_bytes, stats.clone()),
            capabilities,
            stats,
            live: ArcSwapOption::empty(),
            state: watch::Sender::new(State::Created),
            events: broadcast::Sender::new(64),
            on_invalid,
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
        self.state
            .send_if_modified(|current| std::mem::replace(current, state) != state);
    }

    /// Tells whoever listens; nobody has to.
    pub(crate) fn emit(&self, event: LifecycleEvent) {
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

    /// Counts and logs a message that was no valid input, and tells the hook.
    pub(crate) fn report_invalid(&self, context: &Context, invalid: Invalid) {
        count(&self.stats.invalid);
        let payload = context.payload();
        let start = String::from_utf8_lossy(&payload[..payload.len().min(64)]);
        tracing::warn!(topic = %context.topic(), reason = invalid.0, bytes = payload.len(), "invalid message skipped");
        tracing::trace!(topic = %context.topic(), ?start, "the invalid payload begins with");
        if let Some(hook) = &self.on_invalid {
            hook(context, &invalid);
        }
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

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was shut down")
}

type Running = SharedFuture<BoxFuture<'static, ShutdownReport>>;

enum Task {
    /// Connect was never called: the session has no task yet.
    Waiting(Box<Session>),
    Running(Running),
    /// Shut down without ever having connected.
    Never,
}

pub(crate) struct Handle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    task: Mutex<Task>,
}

/// A weak handle: it does not keep the client alive.
#[derive(Clone)]
pub struct WeakClient(Weak<Handle>);

impl WeakClient {
    /// The client, as long as another handle is alive.
    #[must_use]
    pub fn upgrade(&self) -> Option<Client> {
        self.0.upgrade().map(Client)
    }
}

/// A client of an MQTT broker, for a service of the fleet.
///
/// It is a handle: cloning it is cheap, all clones are the same client, and all
/// methods may be called from many tasks at once. The work is done by one task of
/// its own, which begins with [`connect`](Self::connect).
///
/// End it with [`shutdown`](Self::shutdown), or use [`Client::run`], which does.
/// Dropping the last handle closes the link without DISCONNECT, so that the last
/// will speaks.
#[derive(Clone)]
pub struct Client(Arc<Handle>);

impl Client {
    /// A client with this configuration and nothing special.
    ///
    /// # Errors
    /// When the configuration asks for what this build or adapter cannot do.
    pub fn new(config: Config) -> Result<Self, Error> {
        Self::builder(config).build()
    }

    /// A client configured from the environment.
    ///
    /// # Errors
    /// All problems of the configuration at once.
    pub fn from_env() -> Result<Self, Error> {
        Self::new(Config::from_env()?)
    }

    /// For handlers that must be in place before the first packet, hooks, or a
    /// connector of one's own.
    pub fn builder(config: Config) -> ClientBuilder {
        ClientBuilder::new(config)
    }

    pub(crate) fn assemble(
        shared: Arc<Shared>,
        session: impl FnOnce(WeakClient, mpsc::Receiver<Command>) -> Option<Session>,
    ) -> Self {
        let (commands, receiver) = mpsc::channel(64);
        Self(Arc::new_cyclic(|weak| Handle {
            shared,
            commands,
            task: Mutex::new(
                session(WeakClient(weak.clone()), receiver)
                    .map_or(Task::Never, |session| Task::Waiting(Box::new(session))),
            ),
        }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// Connects, and resolves when the broker accepted. From then on the client
    /// keeps itself connected.
    ///
    /// The first failure is returned, unless `MQTT_CONNECT_RETRY` is on. After
    /// [`disconnect`](Self::disconnect) it may be called again.
    ///
    /// Dropped before it resolves, the attempt is given up.
    ///
    /// # Errors
    /// What happened: [`HostNotFound`](ErrorKind::HostNotFound),
    /// [`Unreachable`](ErrorKind::Unreachable), [`Refused`](ErrorKind::Refused),
    /// [`Tls`](ErrorKind::Tls), [`Timeout`](ErrorKind::Timeout);
    /// [`AlreadyConnected`](ErrorKind::AlreadyConnected);
    /// [`Closed`](ErrorKind::Closed) after a shutdown.
    pub async fn connect(&self) -> Result<(), Error> {
        self.shared().check_open()?;
        self.start();
        self.command(Command::Connect).await?
    }

    /// Starts the session's task, once.
    fn start(&self) {
        let mut task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Task::Waiting(_) = &*task
            && let Task::Waiting(session) = std::mem::replace(&mut *task, Task::Never)
        {
            let shared = self.shared().clone();
            let running = tokio::spawn(session.run());
            // Whoever shuts down waits for the task itself, not for a message from it.
            let report = async move {
                running.await.unwrap_or_else(|error| {
                    tracing::error!(%error, "the session's task ended abnormally");
                    shared.close();
                    shared.set_state(State::Disconnected);
                    ShutdownReport::default()
                })
            };
            *task = Task::Running(report.boxed().shared());
        }
    }

    async fn command<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.0.commands.send(command(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }

    /// Where the client stands, as a value that can be awaited.
    #[must_use]
    pub fn state(&self) -> StateWatch {
        StateWatch(self.shared().state.subscribe())
    }

    /// Whether there is a connection at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared().live.load().is_some()
    }

    /// What happens from now on, with the reasons.
    #[must_use]
    pub fn lifecycle(&self) -> Lifecycle {
        Lifecycle(self.shared().events.subscribe())
    }

    /// A snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().stats.snapshot(self.shared().outbox.len() as u64)
    }

    /// The configuration it was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared().config
    }

    /// What the adapter in use can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.shared().capabilities
    }

    /// Publishes an event: `data`, which must be a JSON object, in an envelope. Set
    /// options, then `.await`; it returns the envelope's id.
    ///
    /// The data is serialised here, so nothing is borrowed afterwards. What is wrong
    /// with topic or data is the error of the awaited publish.
    pub fn publish_event<T>(&self, topic: T, event_type: &str, data: &(impl Serialize + ?Sized)) -> Publish<EventId>
    where
        T: TryInto<TopicName, Error: Into<Error>>,
    {
        Publish::event(self.shared().clone(), topic, event_type, data)
    }

    /// Publishes raw bytes, for payloads that are signed or not JSON.
    pub fn publish<T>(&self, topic: T, payload: impl Into<Bytes>) -> Publish
    where
        T: TryInto<TopicName, Error: Into<Error>>,
    {
        Publish::raw(self.shared().clone(), topic, payload)
    }

    /// Publishes the health of this service (QoS 1, retained), and resolves when the
    /// broker has it. Nothing happens when health is off.
    ///
    /// While reconnecting it becomes the status that is published on return.
    pub fn publish_health(&self, ok: bool) -> PublishHealth {
        PublishHealth {
            client: self.clone(),
            status: HealthStatus::new(ok),
        }
    }

    /// Subscribes with a handler: see [`crate::handler`] for what it may take and
    /// return. Set options, then `.await`.
    pub fn subscribe<Args>(&self, filter: impl AsRef<str>, handler: impl Handler<Args>) -> Subscribe {
        Subscribe {
            client: self.clone(),
            route: Route::new(filter, handler),
        }
    }

    /// Ends the subscription with this filter; resolves when the broker confirmed.
    /// Messages that wait for the handler are still handled.
    ///
    /// # Errors
    /// [`InvalidFilter`](ErrorKind::InvalidFilter);
    /// [`NotConnected`](ErrorKind::NotConnected) before the first connect;
    /// [`Timeout`](ErrorKind::Timeout); [`Closed`](ErrorKind::Closed).
    pub async fn unsubscribe(&self, filter: impl AsRef<str>) -> Result<(), Error> {
        let filter = TopicFilter::new(filter)
            .map_err(|error| Error::new(ErrorKind::InvalidFilter, error.to_string()).with_source(error))?;
        self.unsubscribe_route(filter, None).await
    }

    pub(crate) async fn unsubscribe_route(&self, filter: TopicFilter, id: Option<u64>) -> Result<(), Error> {
        self.within_timeout(|reply| Command::Unsubscribe { filter, id, reply })
            .await
    }

    pub(crate) async fn subscribe_route(&self, route: Route) -> Result<(u64, QoS), Error> {
        self.within_timeout(|reply| Command::Subscribe {
            route: Box::new(route),
            reply,
        })
        .await
    }

    async fn within_timeout<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        self.shared().check_open()?;
        if matches!(self.shared().state(), State::Created | State::Disconnected) {
            return Err(Error::new(
                ErrorKind::NotConnected,
                "the client is not connected: call connect() first",
            ));
        }
        match tokio::time::timeout(self.config().publish_timeout, self.command(command)).await {
            Ok(answer) => answer?,
            Err(_) => Err(Error::new(ErrorKind::Timeout, "the broker did not answer in time")),
        }
    }

    /// Finishes and ends: publishes health `shutdown`, takes in nothing new, lets
    /// running handlers finish and unsettled publishes settle (at most
    /// `MQTT_SHUTDOWN_TIMEOUT`), sends DISCONNECT, ends every task. Afterwards every
    /// operation returns `Closed`.
    ///
    /// It may be called in any state and from several tasks at once; all get the
    /// same report. Dropped before it resolves, the shutdown goes on by itself.
    /// Called inside a handler it would wait for that very handler, up to the
    /// timeout: spawn it instead.
    pub async fn shutdown(&self) -> ShutdownReport {
        let running = {
            let mut task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner);
            match &*task {
                Task::Running(running) => Some(running.clone()),
                Task::Waiting(_) | Task::Never => {
                    *task = Task::Never;
                    None
                }
            }
        };
        let Some(running) = running else {
            self.shared().close();
            self.shared().set_state(State::Disconnected);
            return ShutdownReport::default();
        };
        // If the session has ended already there is nobody to tell.
        let _ = self.0.commands.send(Command::End(Ending::Shutdown, None)).await;
        running.await
    }

    /// Tells the session to shut down, without waiting: for drop guards.
    pub(crate) fn shutdown_soon(&self) {
        if let Err(mpsc::error::TrySendError::Full(command)) =
            self.0.commands.try_send(Command::End(Ending::Shutdown, None))
        {
            let commands = self.0.commands.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { commands.send(command).await });
            }
        }
    }

    /// As [`shutdown`](Self::shutdown), but [`connect`](Self::connect) may be called
    /// again, and the subscriptions come back. Publishes that are still unsettled at
    /// the deadline fail as "outcome unknown".
    ///
    /// # Errors
    /// [`NotConnected`](ErrorKind::NotConnected) when there is nothing to disconnect,
    /// [`Closed`](ErrorKind::Closed) after a shutdown.
    pub async fn disconnect(&self) -> Result<ShutdownReport, Error> {
        self.shared().check_open()?;
        if matches!(self.shared().state(), State::Created | State::Disconnected) {
            return Err(Error::new(ErrorKind::NotConnected, "the client is not connected"));
        }
        self.command(|reply| Command::End(Ending::Disconnect, Some(reply)))
            .await
    }

    /// A handle that does not keep the client alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.0))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("client_id", &self.config().client_id)
            .field("state", &self.shared().state())
            .finish_non_exhaustive()
    }
}

/// The client is a publisher as well: layers wrap it like a connection. Its
/// receipts survive reconnects. For QoS 1 and 2 a full outbox comes back as `Full`.
#[async_trait]
impl Publisher for Client {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        self.shared().try_publish(message)
    }

    async fn ready(&self) -> Result<(), Error> {
        self.shared().room().await
    }
}

/// A health status that has not been published: add `event` or `error`, then `.await`.
#[must_use = "nothing is published until it is awaited"]
pub struct PublishHealth {
    client: Client,
    status: HealthStatus,
}

impl PublishHealth {
    /// What happened, such as `ready`.
    pub fn event(mut self, event: impl Into<String>) -> Self {
        self.status = self.status.with_event(event);
        self
    }

    /// What is wrong.
    pub fn error(mut self, error: impl Into<String>) -> Self {
        self.status = self.status.with_error(error);
        self
    }
}

impl std::future::IntoFuture for PublishHealth {
    type Output = Result<(), Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        async move {
            if !self.client.config().health {
                return Ok(());
            }
            let status = self.status;
            self.client
                .within_timeout(|reply| Command::Health { status, reply })
                .await
        }
        .boxed()
    }
}

impl Shared {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        self.check_open().map_err(TryPublishError::Failed)?;
        if message.qos == QoS::AtMostOnce {
            let live = self.live.load_full();
            let Some(live) = live else {
                let error = Error::new(ErrorKind::NotConnected, "the client is not connected");
                return Err(TryPublishError::Failed(error));
            };
            return live.connection.try_publish(message);
        }
        if !self.was_connected() {
            let error = Error::new(ErrorKind::NotConnected, "the client is not connected");
            return Err(TryPublishError::Failed(error));
        }
        self.check(&message).map_err(TryPublishError::Failed)?;
        let deadline = Instant::now() + self.config.publish_timeout;
        self.outbox.try_append(message, deadline)
    }

    async fn room(&self) -> Result<(), Error> {
        self.check_open()?;
        if let Some(live) = self.live.load_full() {
            live.connection.ready().await?;
        }
        self.outbox.room().await
    }
}
