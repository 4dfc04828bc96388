//! A publish on its way: options, then `.await`.

use std::future::{Future, IntoFuture};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tars_contracts::{ContractError, TopicName, fresh_id, unix_now, write_envelope};
use tars_ports::{Error, ErrorKind, Fate, Message, PublisherExt, QoS, Receipt, TryPublishError};
use tokio::time::Instant;
use tracing::Span;

use crate::event::Event;
use crate::shared::Shared;
use crate::spans;
use crate::stats::count;

/// About 31 years, which no clock overflows: as good as without a limit.
const FOREVER: Duration = Duration::from_secs(1_000_000_000);

/// The id of the envelope that was published.
pub type EventId = String;

/// A publish that has not begun: set its options, then `.await` it.
///
/// Awaited, it resolves when the message is where its QoS promises: QoS 0 taken
/// over by a live connection; QoS 1 PUBACK received; QoS 2 PUBCOMP received. For
/// pipelining, [`accepted`](Self::accepted) resolves earlier, with a [`Receipt`].
///
/// While the client is reconnecting, QoS 0 fails at once with `NotConnected`; QoS 1
/// and 2 wait and are sent afterwards, in order, until their time is over.
///
/// Cancelling: dropped before the message was taken in, nothing is left behind;
/// dropped after, the message still goes out.
#[must_use = "nothing is published until it is awaited"]
pub struct Publish<T = ()> {
    shared: Arc<Shared>,
    message: Result<Message, Error>,
    timeout: Option<Duration>,
    fail_fast: bool,
    output: T,
}

impl Publish {
    pub(crate) fn raw<T>(shared: Arc<Shared>, topic: T, payload: impl Into<Bytes>) -> Self
    where
        T: TryInto<TopicName, Error: Into<Error>>,
    {
        let message = topic
            .try_into()
            .map_err(Into::into)
            .map(|topic| Message::new(topic, payload));
        Self::new(shared, message, ())
    }
}

impl Publish<EventId> {
    pub(crate) fn event<T, D>(shared: Arc<Shared>, topic: T, event_type: &str, data: &D) -> Self
    where
        T: TryInto<TopicName, Error: Into<Error>>,
        D: Serialize + ?Sized,
    {
        Self::enveloped(shared, topic.try_into().map_err(Into::into), event_type, data)
    }

    fn enveloped<D>(shared: Arc<Shared>, topic: Result<TopicName, Error>, event_type: &str, data: &D) -> Self
    where
        D: Serialize + ?Sized,
    {
        let id = fresh_id();
        let message = topic.and_then(|topic| {
            let payload = envelope(&id, event_type, &shared.config.source_name, data)
                .map_err(|error| Error::from(error).while_doing(format_args!("event {event_type} for {topic}")))?;
            Ok(Message::new(topic, payload))
        });
        Self::new(shared, message, id)
    }

    pub(crate) fn typed<E: Event + Serialize>(shared: Arc<Shared>, event: &E) -> Self {
        let topic = event
            .topic()
            .map_err(|error| Error::from(error).while_doing(format_args!("event {}", E::TYPE)));
        Self::enveloped(shared, topic, E::TYPE, event)
            .qos(E::QOS)
            .retain(E::RETAIN)
    }

    /// Gives the envelope this id instead of a fresh one: a reply carries the
    /// request's. An empty one changes nothing.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        let id = id.into();
        if id.is_empty() {
            return self;
        }
        if let Ok(message) = &mut self.message {
            message.payload = with_id(&message.payload, &self.output, &id).into();
        }
        self.output = id;
        self
    }

    /// What is to be sent, for patterns that send it themselves.
    pub(crate) fn into_message(self) -> Result<Message, Error> {
        self.message
    }

    /// The envelope's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.output
    }
}

fn envelope<D>(id: &str, event_type: &str, source: &str, data: &D) -> Result<Vec<u8>, ContractError>
where
    D: Serialize + ?Sized,
{
    // What is usual does not grow.
    let mut payload = Vec::with_capacity(512);
    write_envelope(&mut payload, id, event_type, unix_now(), source, data)?;
    Ok(payload)
}

/// The same envelope with another id. The id is its first field, and a fresh one
/// needs no escapes: so where it ends is known, and the data is not written twice.
fn with_id(payload: &[u8], fresh: &str, id: &str) -> Vec<u8> {
    const BEFORE: usize = r#"{"id":"#.len();
    let rest = &payload[BEFORE + 1 + fresh.len() + 1..];
    let mut out = Vec::with_capacity(payload.len() + id.len());
    out.extend_from_slice(&payload[..BEFORE]);
    serde_json::to_writer(&mut out, id).expect("a string is always JSON, and a Vec takes it");
    out.extend_from_slice(rest);
    out
}

impl<T> Publish<T> {
    fn new(shared: Arc<Shared>, message: Result<Message, Error>, output: T) -> Self {
        Self {
            shared,
            message,
            timeout: None,
            fail_fast: false,
            output,
        }
    }

    /// Quality of service; default [`QoS::AtMostOnce`].
    pub fn qos(mut self, qos: QoS) -> Self {
        if let Ok(message) = &mut self.message {
            message.qos = qos;
        }
        self
    }

    /// Whether the broker keeps the message for later subscribers; default `false`.
    pub fn retain(mut self, retain: bool) -> Self {
        if let Ok(message) = &mut self.message {
            message.retain = retain;
        }
        self
    }

    /// How long it may stay unsettled, reconnects included; default `MQTT_PUBLISH_TIMEOUT`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Never waits for room or for a connection: what cannot go now fails now, with
    /// `NotConnected` or `Full`.
    pub fn fail_fast(mut self) -> Self {
        self.fail_fast = true;
        self
    }

    /// Resolves once the client has taken the message in, with a [`Receipt`] that
    /// settles when the message is where its QoS promises.
    ///
    /// Dropped before it resolves, nothing is left behind.
    ///
    /// # Errors
    /// As for awaiting the publish itself, as far as they show up before it is sent.
    pub async fn accepted(self) -> Result<Receipt, Error> {
        self.shared.take_in(self.message, self.timeout, self.fail_fast).await
    }
}

impl<T: Send + 'static> IntoFuture for Publish<T> {
    type Output = Result<T, Error>;
    type IntoFuture = PublishFuture<T>;

    fn into_future(self) -> Self::IntoFuture {
        PublishFuture(Stage::New(Some(self)))
    }
}

/// An awaited [`Publish`].
#[must_use = "futures do nothing unless polled"]
pub struct PublishFuture<T>(Stage<T>);

enum Stage<T> {
    New(Option<Publish<T>>),
    Waiting(Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>),
}

impl<T> Unpin for PublishFuture<T> {}

impl<T: Send + 'static> Future for PublishFuture<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Stage::New(publish) = &mut self.0 {
            let publish = publish.take().expect("a publish is not polled after it completed");
            let Publish {
                shared,
                message,
                timeout,
                fail_fast,
                output,
            } = publish;
            // The short path: a QoS 0 message that the connection takes at once needs no box.
            let message = match shared.try_best_effort(message) {
                ControlFlow::Break(result) => return Poll::Ready(result.map(|()| output)),
                ControlFlow::Continue(message) => message,
            };
            self.0 = Stage::Waiting(Box::pin(async move {
                let receipt = shared.take_in(message, timeout, fail_fast).await?;
                receipt.await?;
                Ok(output)
            }));
        }
        match &mut self.0 {
            Stage::Waiting(waiting) => waiting.as_mut().poll(cx),
            Stage::New(_) => unreachable!("replaced above"),
        }
    }
}

impl Shared {
    /// QoS 0 without waiting; what has to wait, or is not QoS 0, goes on.
    fn try_best_effort(
        &self,
        message: Result<Message, Error>,
    ) -> ControlFlow<Result<(), Error>, Result<Message, Error>> {
        let live = self.live.load();
        let (message, live) = match (message, live.as_deref()) {
            (Ok(message), Some(live)) if message.qos == QoS::AtMostOnce => (message, live),
            (message, _) => return ControlFlow::Continue(message),
        };
        let topic = message.topic.clone();
        let refused = |error| ControlFlow::Break(Err(self.not_taken_in(error, Some(topic))));
        if let Err(error) = self.check(&message) {
            return refused(error);
        }
        let span = spans::publish(&message);
        match live.connection.try_publish(message) {
            Ok(_settled) => {
                self.taken_over(&span);
                ControlFlow::Break(Ok(()))
            }
            Err(TryPublishError::Full(message)) => ControlFlow::Continue(Ok(message)),
            Err(TryPublishError::Failed(error)) => refused(error),
            Err(_) => refused(Error::new(ErrorKind::Internal, "the adapter gave an unknown answer")),
        }
    }

    /// Counts a QoS 0 publish that a connection has taken over.
    fn taken_over(&self, span: &Span) {
        count(&self.stats.published);
        tracing::debug!(parent: span, "published");
    }

    /// Counts a publish that failed before anything of it was sent, and says so.
    fn not_taken_in(&self, error: Error, topic: Option<TopicName>) -> Error {
        count(&self.stats.publish_failed);
        let error = error.with_fate(Fate::NotSent);
        tracing::debug!(topic = topic.as_ref().map(TopicName::as_str), %error, "a publish was not taken in");
        match topic {
            Some(topic) => error.while_doing(format_args!("publishing to {topic}")),
            None => error,
        }
    }

    /// Takes a message in: QoS 0 over to the live connection, QoS 1 and 2 into the outbox.
    pub(crate) async fn take_in(
        &self,
        message: Result<Message, Error>,
        timeout: Option<Duration>,
        fail_fast: bool,
    ) -> Result<Receipt, Error> {
        let topic = topic_of(&message);
        let taken = self.route_out(message, timeout, fail_fast).await;
        taken.map_err(|error| self.not_taken_in(error, topic))
    }

    async fn route_out(
        &self,
        message: Result<Message, Error>,
        timeout: Option<Duration>,
        fail_fast: bool,
    ) -> Result<Receipt, Error> {
        let message = message?;
        self.check(&message)?;
        self.check_open()?;
        let deadline = Instant::now() + timeout.unwrap_or(self.config.publish_timeout).min(FOREVER);
        if message.qos == QoS::AtMostOnce {
            let live = self.live.load_full().ok_or_else(not_connected)?;
            let span = spans::publish(&message);
            if fail_fast {
                let receipt = now_or_full(live.connection.try_publish(message))?;
                self.taken_over(&span);
                return Ok(receipt);
            }
            let result = tokio::time::timeout_at(deadline, live.connection.publish(message)).await;
            let receipt = result.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Timeout, "the connection had no room in time").with_fate(Fate::NotSent))
            })?;
            self.taken_over(&span);
            return Ok(receipt);
        }
        if !self.was_connected() || fail_fast && self.live.load().is_none() {
            return Err(not_connected());
        }
        if fail_fast {
            return now_or_full(self.outbox.try_append(message, deadline));
        }
        self.outbox.append(message, deadline).await
    }

    /// What can be said about a message before anything is sent.
    pub(crate) fn check(&self, message: &Message) -> Result<(), Error> {
        let (size, limit) = (message.packet_size(), self.config.max_packet_size);
        if size > limit {
            let what = format!("a packet of {size} bytes is above the limit of {limit} (MQTT_MAX_PACKET_SIZE)");
            return Err(Error::new(ErrorKind::TooLarge, what).with_fate(Fate::NotSent));
        }
        if message.qos == QoS::ExactlyOnce {
            self.check_qos2()?;
        }
        Ok(())
    }

    /// As the port's [`try_publish`](tars_ports::Publisher::try_publish).
    pub(crate) fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        let topic = message.topic.clone();
        self.try_route_out(message).map_err(|error| match error {
            TryPublishError::Failed(error) => TryPublishError::Failed(self.not_taken_in(error, Some(topic))),
            full => full,
        })
    }

    fn try_route_out(&self, message: Message) -> Result<Receipt, TryPublishError> {
        let check = || self.check_open().and_then(|()| self.check(&message));
        check().map_err(TryPublishError::Failed)?;
        if message.qos == QoS::AtMostOnce {
            let live = self.live.load();
            let live = live
                .as_deref()
                .ok_or_else(|| TryPublishError::Failed(not_connected()))?;
            let span = spans::publish(&message);
            let receipt = live.connection.try_publish(message)?;
            self.taken_over(&span);
            return Ok(receipt);
        }
        if !self.was_connected() {
            return Err(TryPublishError::Failed(not_connected()));
        }
        let deadline = Instant::now() + self.config.publish_timeout;
        self.outbox.try_append(message, deadline)
    }

    /// Resolves when there may be room: QoS 0 goes to the live connection, QoS 1 and 2
    /// into the outbox.
    pub(crate) async fn room(&self, qos: QoS) -> Result<(), Error> {
        self.check_open()?;
        if qos == QoS::AtMostOnce {
            let live = self.live.load_full().ok_or_else(not_connected)?;
            return live.connection.ready(qos).await;
        }
        self.outbox.room().await
    }
}

fn topic_of(message: &Result<Message, Error>) -> Option<TopicName> {
    message.as_ref().ok().map(|message| message.topic.clone())
}

fn not_connected() -> Error {
    Error::new(ErrorKind::NotConnected, "the client is not connected").with_fate(Fate::NotSent)
}

fn now_or_full(tried: Result<Receipt, TryPublishError>) -> Result<Receipt, Error> {
    tried.map_err(|error| match error {
        TryPublishError::Failed(error) => error,
        _ => Error::new(ErrorKind::Full, "there is no room for another publish").with_fate(Fate::NotSent),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_id_changes_nothing_but_the_id() {
        let fresh = fresh_id();
        let payload = envelope(&fresh, "a.b", "src", &serde_json::json!({"id": fresh})).unwrap();
        let other = with_id(&payload, &fresh, "req \"1\"");
        let text = String::from_utf8(payload).unwrap();
        let expected = text.replacen(&fresh, r#"req \"1\""#, 1);
        assert_eq!(String::from_utf8(other).unwrap(), expected);
    }
}
