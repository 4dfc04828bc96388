//! What a handler has at hand besides its message.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tars_contracts::{EnvelopeHead, TopicName};
use tars_ports::Error;

use crate::client::{Client, WeakClient};
use crate::dispatch::Received;
use crate::event::Event;
use crate::handler::InboundMessage;
use crate::publish::{EventId, Publish};
use crate::shared::Shared;

/// The message's surroundings: reply, publish, correlation id. Cheap to clone.
///
/// It holds the client weakly: a handler that keeps a context does not keep the
/// client connected, one that captures a [`Client`] does.
#[derive(Clone)]
pub struct Context {
    received: Arc<Received>,
    shared: Arc<Shared>,
    client: WeakClient,
}

impl Context {
    pub(crate) fn new(received: Arc<Received>, shared: Arc<Shared>, client: WeakClient) -> Self {
        Self {
            received,
            shared,
            client,
        }
    }

    /// The span of the message.
    pub(crate) fn span(&self) -> &tracing::Span {
        &self.received.span
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The topic it was published to.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        &self.received.delivery.topic
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.received.delivery.payload
    }

    /// The whole message; no payload is copied.
    #[must_use]
    pub fn message(&self) -> InboundMessage {
        InboundMessage::of(&self.received.delivery)
    }

    /// The envelope's correlation id; `None` if the message is no envelope.
    #[must_use]
    pub fn correlation_id(&self) -> Option<String> {
        let head = EnvelopeHead::peek(self.payload())?;
        head.correlation_id().map(str::to_owned)
    }

    /// Publishes an event; as [`Client::publish_event`].
    pub fn publish_event<T>(&self, topic: T, event_type: &str, data: &(impl Serialize + ?Sized)) -> Publish<EventId>
    where
        T: TryInto<TopicName, Error: Into<Error>>,
    {
        Publish::event(self.shared.clone(), topic, event_type, data)
    }

    /// Publishes an event at QoS 1 that carries this message's correlation id.
    pub fn reply<T>(&self, topic: T, event_type: &str, data: &(impl Serialize + ?Sized)) -> Publish<EventId>
    where
        T: TryInto<TopicName, Error: Into<Error>>,
    {
        self.correlated(
            self.publish_event(topic, event_type, data)
                .qos(tars_ports::QoS::AtLeastOnce),
        )
    }

    /// Publishes an [`Event`]; as [`Client::send`].
    pub fn send<E: Event + Serialize>(&self, event: &E) -> Publish<EventId> {
        Publish::typed(self.shared.clone(), event)
    }

    /// Publishes an [`Event`] that carries this message's correlation id, at the event's own
    /// QoS: an answer deserves `qos = 1` in its type.
    pub fn send_reply<E: Event + Serialize>(&self, event: &E) -> Publish<EventId> {
        self.correlated(self.send(event))
    }

    fn correlated(&self, publish: Publish<EventId>) -> Publish<EventId> {
        match self.correlation_id() {
            Some(id) => publish.correlation_id(id),
            None => publish,
        }
    }

    /// Publishes raw bytes; as [`Client::publish`].
    pub fn publish<T>(&self, topic: T, payload: impl Into<Bytes>) -> Publish
    where
        T: TryInto<TopicName, Error: Into<Error>>,
    {
        Publish::raw(self.shared.clone(), topic, payload)
    }

    /// The client, to subscribe with for example; `None` when its last handle is gone.
    #[must_use]
    pub fn client(&self) -> Option<Client> {
        self.client.upgrade()
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("topic", self.topic())
            .finish_non_exhaustive()
    }
}
