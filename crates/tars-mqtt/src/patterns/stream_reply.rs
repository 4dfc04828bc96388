//! Answering a request piece by piece.

use std::sync::Arc;

use serde::Serialize;
use tars_contracts::{Data, TopicName};
use tars_ports::{Error, ErrorKind, Message, QoS};

use super::error_reply::ErrorReply;
use crate::context::Context;
use crate::publish::Publish;
use crate::shared::Shared;

impl Context {
    /// Answers this message with a stream of events on `topic`: items of type
    /// `{base_type}.delta`, and at the end one of type `{base_type}.done`.
    ///
    /// ```
    /// use serde_json::json;
    /// use tars_mqtt::{Context, Data, Envelope, Error};
    ///
    /// async fn complete(prompt: Envelope<Data>, context: Context) -> Result<(), Error> {
    ///     let mut deltas = context.stream_reply("llm/stream", "llm.stream")?;
    ///     for word in ["Hello", ", ", "world"] {
    ///         deltas.send(&json!({"delta": word})).await?;
    ///     }
    ///     deltas.finish().await
    /// }
    /// ```
    ///
    /// # Errors
    /// [`InvalidTopic`](ErrorKind::InvalidTopic);
    /// [`InvalidPayload`](ErrorKind::InvalidPayload) when the message has no correlation id.
    pub fn stream_reply<T>(&self, topic: T, base_type: &str) -> Result<StreamReply, Error>
    where
        T: TryInto<TopicName, Error: Into<Error>>,
    {
        let topic = topic.try_into().map_err(Into::into)?;
        let id = self.correlation_id().filter(|id| !id.is_empty()).ok_or_else(|| {
            let what = "a message without a correlation id cannot be answered";
            Error::new(ErrorKind::InvalidPayload, what)
        })?;
        Ok(StreamReply {
            shared: self.shared().clone(),
            topic,
            base_type: base_type.to_owned(),
            id,
            next: 0,
            qos: QoS::AtMostOnce,
            over: false,
        })
    }
}

/// An answer that is given piece by piece; see [`Context::stream_reply`].
///
/// To the data of each item are added `id`, the request's, `seq`, from 0 on, and `done`;
/// the envelope carries the request's id as well. Published at QoS 0, unless
/// [`qos`](Self::qos) says otherwise.
///
/// One that is dropped before it was finished, by an error or a panic for example, tells
/// the requester: an event of type `{base_type}.error` of the kind `incomplete`, if the
/// connection takes it at once.
#[must_use = "a stream that is not finished ends with an error"]
pub struct StreamReply {
    shared: Arc<Shared>,
    topic: TopicName,
    base_type: String,
    id: String,
    next: u64,
    qos: QoS,
    over: bool,
}

impl StreamReply {
    /// The QoS of the items; default [`QoS::AtMostOnce`].
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Publishes the next item. Resolves as a publish of its QoS.
    ///
    /// # Errors
    /// As for [`Client::publish_event`](crate::Client::publish_event). What was not taken in
    /// has used no `seq`: it may be sent again.
    pub async fn send(&mut self, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        let message = self.item("delta", data, false)?;
        let receipt = self.shared.take_in(Ok(message), None, false).await?;
        self.next += 1;
        receipt.await.map(drop)
    }

    /// Publishes the end.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn finish(self) -> Result<(), Error> {
        self.finish_with(&Data::new()).await
    }

    /// Publishes the end, with data of its own: a summary, or the whole.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn finish_with(mut self, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        let message = self.item("done", data, true)?;
        self.shared.take_in(Ok(message), None, false).await?.await?;
        self.over = true;
        Ok(())
    }

    /// Publishes that there will be no more, and why. The requester's stream ends with it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn fail(mut self, reason: ErrorReply) -> Result<(), Error> {
        let message = self.item("error", &reason, true)?;
        self.shared.take_in(Ok(message), None, false).await?.await?;
        self.over = true;
        Ok(())
    }

    fn item(&self, suffix: &str, data: &(impl Serialize + ?Sized), done: bool) -> Result<Message, Error> {
        let invalid = |what: String| Error::new(ErrorKind::InvalidPayload, what);
        let value = serde_json::to_value(data).map_err(|error| invalid(error.to_string()).with_source(error))?;
        let serde_json::Value::Object(mut fields) = value else {
            return Err(invalid("an item must be a JSON object".to_owned()));
        };
        fields.insert("id".to_owned(), self.id.as_str().into());
        fields.insert("seq".to_owned(), self.next.into());
        fields.insert("done".to_owned(), done.into());
        let event_type = format!("{}.{suffix}", self.base_type);
        Publish::event(self.shared.clone(), self.topic.clone(), &event_type, &fields)
            .correlation_id(&self.id)
            .qos(self.qos)
            .into_message()
    }
}

impl Drop for StreamReply {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let reason = ErrorReply::new("incomplete", "the answer ended before it was complete");
        let told = self
            .item("error", &reason, true)
            .map(|message| self.shared.try_publish(message));
        if !matches!(told, Ok(Ok(_))) {
            tracing::debug!(topic = %self.topic, "a requester could not be told that its answer is incomplete");
        }
    }
}
