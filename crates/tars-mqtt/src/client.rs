//! The client: a cheap handle to a session that runs by itself.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture};
use serde::{Deserialize, Serialize};
use tars_contracts::{HealthStatus, TopicFilter, TopicName};
use tars_ports::{Capabilities, Error, ErrorKind, Message, Publisher, QoS, Receipt, TryPublishError};
use tokio::sync::{mpsc, oneshot};

use crate::builder::ClientBuilder;
use crate::config::Config;
use crate::event::{Event, EventHandler};
use crate::handler::Handler;
use crate::lifecycle::{Lifecycle, State, StateWatch};
use crate::publish::{EventId, Publish};
use crate::service::shutdown::ShutdownReport;
use crate::service::status::PublishHealth;
use crate::session::{Command, Ending, Session};
use crate::shared::{Shared, closed};
use crate::stats::Stats;
use crate::subscribe::{Route, Subscribe};

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

    /// A snapshot of the counters, and of what is under way.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let requests = shared.replies.waiting();
        shared.stats.snapshot(shared.outbox.len(), requests, &shared.work)
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

    /// Publishes an [`Event`] to its topic, with its QoS and retain flag. As
    /// [`publish_event`](Self::publish_event), options can be set before the `.await`.
    ///
    /// ```no_run
    /// # use tars_mqtt::{Client, Error};
    /// use serde::{Deserialize, Serialize};
    /// use tars_mqtt::Event;
    ///
    /// #[derive(Serialize, Deserialize, Event)]
    /// #[event(type = "stt.final", topic = "stt/final", qos = 1)]
    /// struct FinalTranscript { text: String }
    ///
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// client.send(&FinalTranscript { text: "hello".into() }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// A field that does not fit into the topic is an
    /// [`InvalidTopic`](ErrorKind::InvalidTopic) of the awaited publish.
    pub fn send<E: Event + Serialize>(&self, event: &E) -> Publish<EventId> {
        Publish::typed(self.shared().clone(), event)
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

    /// Subscribes to an [`Event`] with its own filter and QoS. Which event it is says the
    /// handler's first argument: the event, or the [`Envelope`](crate::Envelope) around it.
    /// Further ones are those of every [handler](crate::handler). Set options, then `.await`.
    ///
    /// ```no_run
    /// # use tars_mqtt::{Client, Error};
    /// use serde::Deserialize;
    /// use tars_mqtt::{Context, Envelope, Event};
    ///
    /// #[derive(Deserialize, Event)]
    /// #[event(type = "stt.final", topic = "stt/final", qos = 1)]
    /// struct FinalTranscript { text: String }
    ///
    /// #[derive(Deserialize, Event)]
    /// #[event(type = "llm.stream.delta", topic = "llm/stream")]
    /// struct Delta { text: String }
    ///
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// client.on(async |transcript: FinalTranscript| println!("{}", transcript.text)).await?;
    /// client
    ///     .on::<Delta, _>(async |delta: Envelope<Delta>, context: Context| {
    ///         println!("{} on {}: {}", delta.correlation_id(), context.topic(), delta.data.text);
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Several events may share a topic, each with a handler of its own: an event of another
    /// type is passed over, which is logged at DEBUG and counted apart
    /// ([`Stats::passed_over`]). Subscribing to the same event again replaces its handler.
    pub fn on<E, Args>(&self, handler: impl EventHandler<E, Args>) -> Subscribe
    where
        // Not `DeserializeOwned`: of this one the compiler knows which derive is missing.
        E: Event + for<'de> Deserialize<'de>,
    {
        Subscribe {
            client: self.clone(),
            route: Route::on(handler),
        }
    }

    /// Ends the subscriptions with this filter, those of events too; resolves when the broker
    /// confirmed.
    /// Messages that wait for a handler are still handled. For one handler alone there is
    /// [`Subscription::unsubscribe`](crate::Subscription::unsubscribe).
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
        let (reply, answer) = oneshot::channel();
        let mut granting = Granting {
            client: self,
            filter: route.check()?,
            answer,
        };
        let route = Box::new(route);
        let granted = async {
            let command = Command::Subscribe { route, reply };
            self.0.commands.send(command).await.map_err(|_| closed())?;
            (&mut granting.answer).await.map_err(|_| closed())?
        };
        self.in_time(granted).await
    }

    pub(crate) async fn within_timeout<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        self.in_time(async { self.command(command).await? }).await
    }

    /// An exchange with the broker, for which a connection is waited for.
    async fn in_time<T>(&self, exchange: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.shared().check_open()?;
        if matches!(self.shared().state(), State::Created | State::Disconnected) {
            return Err(Error::new(
                ErrorKind::NotConnected,
                "the client is not connected: call connect() first",
            ));
        }
        let answered = tokio::time::timeout(self.config().publish_timeout, exchange).await;
        answered.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "the broker did not answer in time")))
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
        self.command_soon(Command::End(Ending::Shutdown, None));
    }

    /// Ends a subscription, without waiting: for drop guards.
    pub(crate) fn unsubscribe_soon(&self, filter: TopicFilter, id: u64) {
        let (reply, _) = oneshot::channel();
        let id = Some(id);
        self.command_soon(Command::Unsubscribe { filter, id, reply });
    }

    fn command_soon(&self, command: Command) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.0.commands.try_send(command) {
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

/// Who waits for a subscription may be dropped when it was granted already: a grant that
/// nobody took is given back.
struct Granting<'a> {
    client: &'a Client,
    filter: TopicFilter,
    answer: oneshot::Receiver<Result<(u64, QoS), Error>>,
}

impl Drop for Granting<'_> {
    fn drop(&mut self) {
        // From here on the session finds nobody, and undoes it by itself.
        self.answer.close();
        if let Ok(Ok((id, _))) = self.answer.try_recv() {
            self.client.unsubscribe_soon(self.filter.clone(), id);
        }
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

    async fn ready(&self, qos: QoS) -> Result<(), Error> {
        self.shared().room(qos).await
    }
}
