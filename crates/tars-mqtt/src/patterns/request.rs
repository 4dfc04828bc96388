//! A request on its way: options, then `.await` for the reply.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tars_contracts::{Envelope, Event, TopicError, TopicFilter, TopicName};
use tars_ports::{Error, ErrorKind, Message, QoS};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::error_reply::ErrorReply;
use super::replies::{Expectation, Expected, Sink};
use crate::client::Client;
use crate::context::Context;
use crate::lifecycle::State;
use crate::publish::{EventId, Publish};
use crate::shared::{Shared, closed};
use crate::spans::{self, Clock};
use crate::stats::count;

/// A request that does not say yet where its replies come: call
/// [`reply_on`](Request::reply_on) before `.await`.
///
/// ```compile_fail
/// # async fn example(client: tars_mqtt::Client) {
/// let data = serde_json::json!({});
/// client.request::<tars_mqtt::Data>("llm/request", "llm.request", &data).await;
/// # }
/// ```
#[derive(Debug)]
pub struct NoReplyTopic(pub(super) ());

/// Where a request's replies come.
#[derive(Debug)]
pub struct ReplyOn(pub(super) Result<TopicFilter, TopicError>);

/// A request that has not begun: say where the reply comes with
/// [`reply_on`](Self::reply_on), set options, then `.await` the reply.
///
/// It is an event like any other, published at QoS 1; the reply is the first event on
/// the reply topic that carries its correlation id (its own id, or `correlate`). Any
/// number may be in flight, on one reply topic or on many, also inside handlers: replies
/// do not pass through a subscription's queue, nor through a handler of the same topic.
///
/// The reply topic is subscribed, and granted, before the request leaves; it stays
/// subscribed for a minute after its last request. At most 64 reply topics stay so, then
/// the longest unused one leaves.
///
/// A request whose link is lost before the reply came is sent again with the same id on
/// the next connection; one that was not confirmed yet is sent once, as any publish. So
/// the peer may see it twice, and [`Client::respond`] with `MQTT_DEDUPE_TTL` answers
/// twice what it did once.
///
/// Cancelling: dropped, it leaves nothing behind here; the request may be on its way. A
/// late reply is ignored and counted in
/// [`Stats::replies_ignored`](crate::Stats::replies_ignored), as are other clients'
/// replies on the same topic.
///
/// # Errors
/// [`Timeout`](ErrorKind::Timeout) when no reply came in time;
/// [`ErrorReply`](ErrorKind::ErrorReply) when the peer answered with an error: see
/// [`ErrorReply`]; [`InvalidPayload`](ErrorKind::InvalidPayload) when the reply does not
/// fit `R`; what publishing and subscribing may fail with;
/// [`NotConnected`](ErrorKind::NotConnected) or [`Closed`](ErrorKind::Closed) when the
/// client is ended meanwhile.
#[must_use = "nothing is requested until it is awaited"]
pub struct Request<R, On = ReplyOn> {
    pub(super) call: Call,
    pub(super) on: On,
    reply: PhantomData<fn() -> R>,
}

/// What a request and a request for a stream have in common.
pub(super) struct Call {
    pub(super) shared: std::sync::Arc<Shared>,
    /// `None` if the client of a context is gone.
    pub(super) client: Option<Client>,
    publish: Publish<EventId>,
    event_type: String,
    reply_type: Option<String>,
    reply_qos: QoS,
    pub(super) timeout: Option<Duration>,
}

impl Client {
    /// Publishes an event and waits for its reply, as an `Envelope<R>`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tars_mqtt::{Client, Error};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Answer { reply: String }
    ///
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let answer = client
    ///     .request::<Answer>("llm/request", "llm.request", &serde_json::json!({"text": "hi"}))
    ///     .reply_on("llm/response")
    ///     .timeout(Duration::from_secs(5))
    ///     .await?;
    /// println!("{}", answer.data.reply);
    /// # Ok(())
    /// # }
    /// ```
    pub fn request<R>(
        &self,
        topic: impl TryInto<TopicName, Error: Into<Error>>,
        event_type: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Request<R, NoReplyTopic> {
        let publish = self.publish_event(topic, event_type, data);
        Request::new(Call::new(
            self.shared().clone(),
            Some(self.clone()),
            publish,
            event_type,
        ))
    }
}

impl Client {
    /// Sends a typed event and waits for another as its reply: as
    /// [`request`](Self::request), with topics, types and the request's QoS from the types.
    /// Of the events on the reply's topic only those of its type are replies.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use tars_mqtt::{Client, Error, Event};
    ///
    /// #[derive(Serialize, Deserialize, Event)]
    /// #[event(type = "memory.query", topic = "memory/query", qos = 1)]
    /// struct Query { text: String }
    ///
    /// #[derive(Serialize, Deserialize, Event)]
    /// #[event(type = "memory.results", topic = "memory/results", qos = 1)]
    /// struct Results { found: Vec<String> }
    ///
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let results = client.ask::<Results>(&Query { text: "tea".into() }).await?;
    /// println!("{:?}", results.data.found);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ask<R: Event>(&self, event: &(impl Event + Serialize)) -> Request<R> {
        // Named here, so that `ask::<R>` takes one type.
        fn call<E: Event + Serialize>(client: &Client, event: &E) -> Call {
            let call = Call::new(
                client.shared().clone(),
                Some(client.clone()),
                client.send(event),
                E::TYPE,
            );
            call.qos(E::QOS)
        }
        Request {
            call: call(self, event).reply_type(R::TYPE),
            on: ReplyOn(R::filter()),
            reply: PhantomData,
        }
    }
}

impl Context {
    /// Publishes an event and waits for its reply; as [`Client::request`].
    pub fn request<R>(
        &self,
        topic: impl TryInto<TopicName, Error: Into<Error>>,
        event_type: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Request<R, NoReplyTopic> {
        let publish = self.publish_event(topic, event_type, data);
        Request::new(Call::new(self.shared().clone(), self.client(), publish, event_type))
    }
}

impl<R> Request<R, NoReplyTopic> {
    pub(super) fn new(call: Call) -> Self {
        Self {
            call,
            on: NoReplyTopic(()),
            reply: PhantomData,
        }
    }

    /// The topic, or filter, on which the reply comes. Other clients may use the same.
    pub fn reply_on(self, filter: impl AsRef<str>) -> Request<R> {
        Request {
            call: self.call,
            on: ReplyOn(TopicFilter::new(filter)),
            reply: PhantomData,
        }
    }
}

impl<R, On> Request<R, On> {
    /// How long to wait for the reply, an absent connection included; default
    /// `MQTT_PUBLISH_TIMEOUT`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.call.timeout = Some(timeout);
        self
    }

    /// The QoS of the request; default [`QoS::AtLeastOnce`].
    pub fn qos(mut self, qos: QoS) -> Self {
        self.call = self.call.qos(qos);
        self
    }

    /// The QoS to receive the reply with; default [`QoS::AtMostOnce`], because a broker
    /// whose window is full of messages that handlers have not finished sends no QoS 1
    /// message, and such a handler may be waiting for this reply.
    pub fn reply_qos(mut self, qos: QoS) -> Self {
        self.call = self.call.reply_qos(qos);
        self
    }

    /// Of which type the reply is, for topics on which other events carry the same
    /// correlation id; `{reply type}.error` is an error reply. Default: any.
    pub fn reply_type(mut self, event_type: impl Into<String>) -> Self {
        self.call = self.call.reply_type(event_type);
        self
    }

    /// The id that request and reply carry; default a fresh one. It must not be that of
    /// another request in flight.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.call = self.call.correlation_id(id);
        self
    }

    /// The id that request and reply carry.
    #[must_use]
    pub fn id(&self) -> &str {
        self.call.id()
    }
}

impl<R: DeserializeOwned + 'static> IntoFuture for Request<R> {
    type Output = Result<Envelope<R>, Error>;
    type IntoFuture = RequestFuture<R>;

    fn into_future(self) -> Self::IntoFuture {
        RequestFuture(Box::pin(self.call.reply(self.on)))
    }
}

/// An awaited [`Request`].
#[must_use = "futures do nothing unless polled"]
pub struct RequestFuture<R>(Pin<Box<dyn Future<Output = Result<Envelope<R>, Error>> + Send>>);

impl<R> Future for RequestFuture<R> {
    type Output = Result<Envelope<R>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// A call that is ready to go: its place is taken.
pub(super) struct Ready {
    pub(super) shared: std::sync::Arc<Shared>,
    pub(super) client: Client,
    pub(super) expected: Expected,
    pub(super) message: Message,
    pub(super) span: Span,
    /// After this nobody waits any more.
    deadline: Option<Instant>,
    /// For errors.
    pub(super) what: String,
}

impl Call {
    pub(super) fn new(
        shared: std::sync::Arc<Shared>,
        client: Option<Client>,
        publish: Publish<EventId>,
        event_type: &str,
    ) -> Self {
        Self {
            shared,
            client,
            publish: publish.qos(QoS::AtLeastOnce),
            event_type: event_type.to_owned(),
            reply_type: None,
            reply_qos: QoS::AtMostOnce,
            timeout: None,
        }
    }

    pub(super) fn qos(mut self, qos: QoS) -> Self {
        self.publish = self.publish.qos(qos);
        self
    }

    pub(super) fn reply_qos(mut self, qos: QoS) -> Self {
        self.reply_qos = qos;
        self
    }

    pub(super) fn reply_type(mut self, event_type: impl Into<String>) -> Self {
        self.reply_type = Some(event_type.into());
        self
    }

    pub(super) fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.publish = self.publish.correlation_id(id);
        self
    }

    pub(super) fn id(&self) -> &str {
        self.publish.id()
    }

    /// Checks what can be checked, and takes a place among those that wait.
    pub(super) fn ready(self, on: ReplyOn, sink: Sink, timeout: Option<Duration>) -> Result<Ready, Error> {
        let client = self.client.ok_or_else(closed)?;
        let invalid = |error: TopicError| {
            Error::new(ErrorKind::InvalidFilter, format!("reply topic: {error}")).with_source(error)
        };
        let filter = on.0.map_err(invalid)?;
        if filter.share_group().is_some() {
            let what = "replies on a shared subscription would reach any client of its group";
            return Err(Error::new(ErrorKind::InvalidFilter, what));
        }
        let id = self.publish.id().to_owned();
        let message = self.publish.into_message()?;
        self.shared.check(&message)?;
        let what = format!(
            "request {} to {} with replies on {filter}",
            self.event_type, message.topic
        );
        let span = spans::request(&message, &filter);
        let expectation = Expectation {
            filter,
            request: (message.topic.clone(), self.event_type),
            reply_type: self.reply_type,
        };
        let expected = Expected::new(&self.shared, &id, expectation, self.reply_qos, sink)?;
        Ok(Ready {
            shared: self.shared,
            client,
            expected,
            message,
            span,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            what,
        })
    }

    async fn reply<R: DeserializeOwned>(self, on: ReplyOn) -> Result<Envelope<R>, Error> {
        let timeout = self.timeout.unwrap_or(self.shared.config.publish_timeout);
        let (sender, reply) = oneshot::channel();
        let ready = self.ready(on, Sink::One(sender), Some(timeout))?;
        let exchange = async {
            ready.subscribed().await?;
            tokio::select! {
                biased;
                reply = reply => reply.map_err(|_| Error::new(ErrorKind::Internal, "the reply was lost")),
                error = ready.sent() => Err(error),
            }
        };
        let clock = Clock::start(&ready.span);
        let replied = tokio::select! {
            biased;
            replied = exchange => replied,
            error = ready.ended() => Err(error),
            () = tokio::time::sleep(timeout) => {
                let what = format!("no reply came within {timeout:?}: is somebody answering?");
                Err(Error::new(ErrorKind::Timeout, what))
            }
        };
        ready.span.in_scope(|| match &replied {
            Ok(_) => tracing::debug!(elapsed_ms = clock.ms(), "a reply came"),
            Err(error) => tracing::debug!(%error, elapsed_ms = clock.ms(), "no reply came"),
        });
        replied
            .and_then(|payload| read(&payload, &ready.shared))
            .map_err(|error| error.while_doing(&ready.what))
    }
}

impl Ready {
    /// Resolves when replies can come, however long the connection is away.
    pub(super) async fn subscribed(&self) -> Result<(), Error> {
        loop {
            match self.expected.subscribed(&self.client).await {
                Err(error) if error.kind() == ErrorKind::Timeout => {}
                result => return result,
            }
        }
    }

    /// Sends the request, and again after each reconnect. Resolves only when that fails.
    pub(super) async fn sent(&self) -> Error {
        let shared = &*self.shared;
        let mut restored = shared.restored.subscribe();
        loop {
            let limit = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let sent = async { shared.take_in(Ok(self.message.clone()), limit, false).await?.await };
            match sent.instrument(self.span.clone()).await {
                // Until now the outbox would have sent it again by itself. What was
                // confirmed on the connection before may have lost its reply with it.
                Ok(_) => drop(restored.borrow_and_update()),
                // QoS 0 waits for no connection, but a request does.
                Err(error) if waits(&error) && shared.was_connected() => {}
                Err(error) => return error,
            }
            // The sender lives as long as the client's shared state.
            let _ = restored.changed().await;
        }
    }

    /// Resolves when the client has ended.
    pub(super) async fn ended(&self) -> Error {
        self.client.state().until(State::Disconnected).await;
        let what = "the client was disconnected while a reply was waited for";
        let disconnected = || Error::new(ErrorKind::NotConnected, what);
        self.shared.check_open().err().unwrap_or_else(disconnected)
    }
}

fn waits(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotConnected | ErrorKind::ConnectionLost | ErrorKind::Timeout
    )
}

/// A reply as what was asked for.
pub(super) fn read<R: DeserializeOwned>(payload: &[u8], shared: &Shared) -> Result<Envelope<R>, Error> {
    if let Some(error) = ErrorReply::read(payload) {
        return Err(error);
    }
    Envelope::from_bytes(payload).map_err(|error| {
        count(&shared.stats.invalid);
        Error::new(ErrorKind::InvalidPayload, format!("the reply does not fit: {error}")).with_source(error)
    })
}
