//! Events on any publisher: a fake, a connection, a stack of layers.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tars_contracts::{ContractError, TopicName, fresh_id, unix_now, write_envelope};
use tars_ports::{Error, Message, Publisher, PublisherExt, QoS, Receipt, TryPublishError};

use crate::Layer;

/// A layer that knows who speaks, and so can wrap data in envelopes: put it outermost, and
/// a stack has [`publish_event`](EventPublisher::publish_event) as the client has.
///
/// ```
/// use serde_json::json;
/// use tars_layers::{Events, LayerExt, Retry};
/// # use tars_ports::{QoS, Receipt, mock::MockPublisher};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tars_ports::Error> {
/// # let mut client = MockPublisher::new();
/// # client.expect_try_publish().returning(|_| Ok(Receipt::settled()));
/// let publisher = client.layer(Retry::new()).layer(Events::new("stt"));
/// let id = publisher.publish_event("stt/final", "stt.final", &json!({"text": "hello"})).qos(QoS::AtLeastOnce).await?;
/// # assert_eq!(id.len(), 32);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a layer does nothing until it is put around a publisher"]
pub struct Events {
    source: Arc<str>,
}

impl Events {
    /// `source` stands in every envelope; with a client it is `MQTT_SOURCE_NAME`.
    pub fn new(source: impl Into<Arc<str>>) -> Self {
        Self { source: source.into() }
    }
}

impl<P: Publisher> Layer<P> for Events {
    type Layered = EventPublisher<P>;

    fn layer(self, inner: P) -> EventPublisher<P> {
        EventPublisher {
            source: self.source,
            inner,
        }
    }
}

/// A publisher inside an [`Events`] layer.
#[derive(Clone)]
pub struct EventPublisher<P> {
    source: Arc<str>,
    inner: P,
}

impl<P> EventPublisher<P> {
    /// What it wraps.
    pub fn inner(&self) -> &P {
        &self.inner
    }
}

impl<P: Publisher> EventPublisher<P> {
    /// Publishes `data`, which must be a JSON object, in an envelope: set options, then
    /// `.await`; it returns the envelope's id. The data is serialised here.
    pub fn publish_event<T>(
        &self,
        topic: T,
        event_type: impl Into<String>,
        data: &(impl Serialize + ?Sized),
    ) -> PublishEvent<'_, P>
    where
        T: TryInto<TopicName, Error: Into<Error>>,
    {
        let topic = topic.try_into().map_err(Into::into);
        let data = to_raw_value(data).map_err(|error| Error::from(ContractError::Serialize(error)));
        PublishEvent {
            publisher: self,
            target: topic.and_then(|topic| Ok((topic, data?))),
            event_type: event_type.into(),
            id: fresh_id(),
            qos: QoS::AtMostOnce,
            retain: false,
        }
    }
}

#[async_trait]
impl<P: Publisher> Publisher for EventPublisher<P> {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        self.inner.try_publish(message)
    }

    async fn ready(&self, qos: QoS) -> Result<(), Error> {
        self.inner.ready(qos).await
    }
}

/// An event on its way: options, then `.await`.
///
/// Dropped before it was taken over nothing was sent; dropped later it goes out all the same.
#[must_use = "nothing is published until it is awaited"]
pub struct PublishEvent<'a, P> {
    publisher: &'a EventPublisher<P>,
    target: Result<(TopicName, Box<RawValue>), Error>,
    event_type: String,
    id: String,
    qos: QoS,
    retain: bool,
}

impl<P: Publisher> PublishEvent<'_, P> {
    /// Quality of service; default [`QoS::AtMostOnce`].
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Whether the broker keeps it for later subscribers; default `false`.
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// Gives the envelope this id instead of a fresh one. An empty one changes nothing.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        let id = id.into();
        if !id.is_empty() {
            self.id = id;
        }
        self
    }

    /// Resolves once it was taken over, with the receipt.
    ///
    /// # Errors
    /// [`InvalidTopic`](tars_ports::ErrorKind::InvalidTopic),
    /// [`InvalidPayload`](tars_ports::ErrorKind::InvalidPayload), and those of
    /// [`PublisherExt::publish`].
    pub async fn accepted(self) -> Result<Receipt, Error> {
        let (publisher, message) = (self.publisher, self.message()?);
        publisher.inner.publish(message).await
    }

    fn message(self) -> Result<Message, Error> {
        let (topic, data) = self.target?;
        let mut payload = Vec::with_capacity(256);
        let source = &self.publisher.source;
        write_envelope(&mut payload, &self.id, &self.event_type, unix_now(), source, &data)
            .map_err(|error| Error::from(error).while_doing(format_args!("event {} for {topic}", self.event_type)))?;
        Ok(Message::new(topic, payload).with_qos(self.qos).with_retain(self.retain))
    }
}

impl<'a, P: Publisher> IntoFuture for PublishEvent<'a, P> {
    type Output = Result<String, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        async move {
            let id = self.id.clone();
            self.accepted().await?.await?;
            Ok(id)
        }
        .boxed()
    }
}

impl<P: fmt::Debug> fmt::Debug for EventPublisher<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventPublisher")
            .field("source", &self.source)
            .field("inner", &self.inner)
            .finish()
    }
}
