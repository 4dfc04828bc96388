//! A request whose answer comes in pieces: options, then `.await` for the stream.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tars_contracts::{Envelope, TopicFilter, TopicName};
use tars_ports::{Error, QoS};
use tokio::sync::mpsc;

use super::in_order::InOrder;
use super::replies::Sink;
use super::request::{Call, NoReplyTopic, ReplyOn};
use crate::client::Client;
use crate::context::Context;

/// How long a missing item is waited for, if not said otherwise.
const GAP: Duration = Duration::from_secs(5);
/// Items that wait to be read, or for one before them, if not said otherwise.
const BUFFER: usize = 256;

/// A request for a stream that has not begun: say where the items come with
/// [`reply_on`](Self::reply_on), set options, then `.await` the [`ReplyStream`].
///
/// Awaited, it resolves when the items can come and the request is on its way. As a [`Request`](crate::Request), it is
/// published at QoS 1, and sent again after a reconnect as long as no item has come.
#[must_use = "nothing is requested until it is awaited"]
pub struct StreamRequest<R, On = ReplyOn> {
    call: Call,
    on: On,
    limits: Limits,
    item: PhantomData<fn() -> R>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) idle: Option<Duration>,
    pub(super) gap: Duration,
    pub(super) buffer: usize,
    pub(super) first_seq: u64,
}

impl Client {
    /// Publishes an event and gives what is answered piece by piece, in the order of
    /// `seq`, until an item is `done`.
    ///
    /// ```
    /// use tars_mqtt::{Client, Error};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Delta { delta: String }
    ///
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let mut deltas = client
    ///     .request_stream::<Delta>("llm/request", "llm.request", &serde_json::json!({"text": "hi"}))
    ///     .reply_on("llm/stream")
    ///     .await?;
    /// while let Some(item) = deltas.next().await {
    ///     print!("{}", item?.data.delta);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn request_stream<R>(
        &self,
        topic: impl TryInto<TopicName, Error: Into<Error>>,
        event_type: &str,
        data: &(impl Serialize + ?Sized),
    ) -> StreamRequest<R, NoReplyTopic> {
        let publish = self.publish_event(topic, event_type, data);
        StreamRequest::new(Call::new(
            self.shared().clone(),
            Some(self.clone()),
            publish,
            event_type,
        ))
    }
}

impl Context {
    /// As [`Client::request_stream`].
    pub fn request_stream<R>(
        &self,
        topic: impl TryInto<TopicName, Error: Into<Error>>,
        event_type: &str,
        data: &(impl Serialize + ?Sized),
    ) -> StreamRequest<R, NoReplyTopic> {
        let publish = self.publish_event(topic, event_type, data);
        StreamRequest::new(Call::new(self.shared().clone(), self.client(), publish, event_type))
    }
}

impl<R> StreamRequest<R, NoReplyTopic> {
    fn new(call: Call) -> Self {
        Self {
            call,
            on: NoReplyTopic(()),
            limits: Limits {
                idle: None,
                gap: GAP,
                buffer: BUFFER,
                first_seq: 0,
            },
            item: PhantomData,
        }
    }

    /// The topic, or filter, on which the items come. Other clients may use the same.
    pub fn reply_on(self, filter: impl AsRef<str>) -> StreamRequest<R> {
        StreamRequest {
            call: self.call,
            on: ReplyOn(TopicFilter::new(filter)),
            limits: self.limits,
            item: PhantomData,
        }
    }
}

impl<R, On> StreamRequest<R, On> {
    /// How long the next item may take, the first one and an absent connection included;
    /// default `MQTT_PUBLISH_TIMEOUT`. Then the stream ends with
    /// [`Timeout`](crate::ErrorKind::Timeout).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle = Some(timeout);
        self
    }

    /// How long to wait for an item while later ones are there; default 5 s. Then the
    /// stream ends with [`Gap`](crate::ErrorKind::Gap).
    pub fn gap_timeout(mut self, timeout: Duration) -> Self {
        self.limits.gap = timeout;
        self
    }

    /// How many items may wait to be read, and how many for one before them; default
    /// 256. Who reads more slowly than they come gets an error after what it has,
    /// [`Full`](crate::ErrorKind::Full).
    pub fn buffer(mut self, items: usize) -> Self {
        self.limits.buffer = items.max(1);
        self
    }

    /// The `seq` of the first item; default 0.
    pub fn first_seq(mut self, seq: u64) -> Self {
        self.limits.first_seq = seq;
        self
    }

    /// The QoS of the request; default [`QoS::AtLeastOnce`].
    pub fn qos(mut self, qos: QoS) -> Self {
        self.call = self.call.qos(qos);
        self
    }

    /// The QoS to receive the items with; default [`QoS::AtMostOnce`]; see
    /// [`Request::reply_qos`](crate::Request::reply_qos).
    pub fn reply_qos(mut self, qos: QoS) -> Self {
        self.call = self.call.reply_qos(qos);
        self
    }

    /// The id that request and items carry; default a fresh one.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.call = self.call.correlation_id(id);
        self
    }

    /// The id that request and items carry.
    #[must_use]
    pub fn id(&self) -> &str {
        self.call.id()
    }
}

impl<R: DeserializeOwned + Send + 'static> IntoFuture for StreamRequest<R> {
    type Output = Result<ReplyStream<R>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let idle = self.limits.idle.unwrap_or(self.call.shared.config.publish_timeout);
            let (sender, items) = mpsc::channel(self.limits.buffer);
            let ready = self.call.ready(self.on, Sink::Many(sender), None)?;
            let subscribed = tokio::select! {
                biased;
                subscribed = tokio::time::timeout(idle, ready.subscribed()) => subscribed.unwrap_or_else(|_| Err(too_late(idle))),
                error = ready.ended() => Err(error),
            };
            subscribed.map_err(|error| error.while_doing(&ready.what))?;
            let limits = Limits {
                idle: Some(idle),
                ..self.limits
            };
            let items = InOrder::begin(ready, items, limits)?;
            Ok(ReplyStream(items.into_stream().fuse().boxed()))
        })
    }
}

pub(super) fn too_late(idle: Duration) -> Error {
    Error::new(
        tars_ports::ErrorKind::Timeout,
        format!("nothing came within {idle:?}: is somebody answering?"),
    )
}

/// The items of an answer, in the order of `seq`, each once.
///
/// They are recognised by the request's id, as their correlation id or as `data.id`.
/// An item with `"done": true` ends the stream, whatever its type; it is given as well if
/// it fits `R`. Items without a `seq` are given as they come.
///
/// An error is always the last item: [`Timeout`](crate::ErrorKind::Timeout) when nothing
/// came for too long, [`Gap`](crate::ErrorKind::Gap) when one is missing,
/// [`Full`](crate::ErrorKind::Full) when it was read too slowly,
/// [`ErrorReply`](crate::ErrorKind::ErrorReply) when the peer gave up,
/// [`InvalidPayload`](crate::ErrorKind::InvalidPayload) when an item does not fit,
/// [`Closed`](crate::ErrorKind::Closed) or
/// [`NotConnected`](crate::ErrorKind::NotConnected) when the client is ended.
///
/// Dropping it releases everything; the peer does not learn of that.
#[must_use = "a stream does nothing unless read"]
pub struct ReplyStream<R>(Pin<Box<dyn Stream<Item = Result<Envelope<R>, Error>> + Send>>);

impl<R> ReplyStream<R> {
    /// The next item; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Envelope<R>, Error>> {
        self.0.next().await
    }
}

impl<R> Stream for ReplyStream<R> {
    type Item = Result<Envelope<R>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}
