//! Answering requests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tars_contracts::{TopicError, TopicName};
use tars_ports::{Error, Message};

use super::answers::Answers;
use super::error_reply::ErrorReply;
use crate::client::Client;
use crate::context::Context;
use crate::handler::{Arguments, Awaited, Function, HandlerError, Invalid};
use crate::stats::count;
use crate::subscribe::{Route, Subscribe};

/// The run of a responder: the data of its reply as JSON.
pub type ResponderFuture = Pin<Box<dyn Future<Output = Result<Box<RawValue>, HandlerError>> + Send>>;

/// What a responder may return.
#[diagnostic::on_unimplemented(
    message = "a responder cannot return `{Self}`",
    note = "return `Result<T, E>`, where `T` is the reply (`serde::Serialize`, a JSON object) and `E` is an error or a text"
)]
pub trait Answer {
    /// As the data of a reply.
    ///
    /// # Errors
    /// When the responder failed, or its reply cannot be written.
    fn into_answer(self) -> Result<Box<RawValue>, HandlerError>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize, E: Into<HandlerError>> Answer for Result<T, E> {
    fn into_answer(self) -> Result<Box<RawValue>, HandlerError> {
        Ok(to_raw_value(&self.map_err(Into::into)?)?)
    }
}

/// An async function that answers requests: one to four arguments, each of them
/// [`FromMessage`](crate::FromMessage), and a `Result` with the reply's data. `Args` is the
/// tuple of its arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a responder",
    label = "not an async function of one to four arguments",
    note = "a responder is an async function or closure with one to four arguments that returns `Result<T, E>`: \
            `async |request: Envelope<T>, context: Context| {{ … }}`"
)]
pub trait Responder<Args>: Send + Sync + 'static {
    /// Starts a run.
    ///
    /// # Errors
    /// [`Invalid`] when the message does not fit the arguments.
    fn call(&self, context: &Context) -> Result<ResponderFuture, Invalid>;
}

impl<F, Args> Responder<Args> for F
where
    F: Function<Args, Returned: Awaited<Output: Answer> + Send + 'static> + Send + Sync + 'static,
    Args: Arguments,
{
    fn call(&self, context: &Context) -> Result<ResponderFuture, Invalid> {
        let run = self.call_with(Args::from_message(context)?);
        Ok(Box::pin(async { run.await.into_answer() }))
    }
}

impl Client {
    /// Answers requests: what `responder` returns is published to `reply_topic` as an
    /// event of type `reply_type`, at QoS 1 and with the request's correlation id. The
    /// options are those of [`subscribe`](Self::subscribe), with QoS 1 as the default.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use tars_mqtt::{Client, Envelope, Error, ErrorReply};
    ///
    /// #[derive(Deserialize)]
    /// struct Query { text: String }
    /// #[derive(Serialize)]
    /// struct Results { found: Vec<String> }
    ///
    /// async fn search(query: Envelope<Query>) -> Result<Results, ErrorReply> {
    ///     match query.data.text.as_str() {
    ///         "" => Err(ErrorReply::new("empty", "what are you looking for?")),
    ///         text => Ok(Results { found: vec![text.to_owned()] }),
    ///     }
    /// }
    ///
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// client.respond("memory/query", "memory/results", "memory.results", search).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// An error, after the retries of the failure policy if there are any, becomes an
    /// error reply: an event of type `{reply_type}.error` with `{"error", "kind"}`, which
    /// [`request`](Self::request) gives the requester as an error. Its `kind` is that of
    /// the [`ErrorReply`] the responder returned; `error` for any other error; `timeout`
    /// when the responder exceeded its limit; `panic`; `invalid` when the request did not
    /// fit the arguments. It counts and is logged as a handler's failure.
    ///
    /// The request is acknowledged when the broker has taken the reply, which is tried
    /// until it does. One without a correlation id is invalid.
    ///
    /// With `MQTT_DEDUPE_TTL`, a request that comes again is answered again with the same
    /// reply and does not run the responder. Replies are kept for that: as many as
    /// `MQTT_DEDUPE_MAX_ENTRIES`, at most 16 MiB of them, the oldest go first; where the
    /// reply is gone the repeated request stays unanswered. What failed is not kept, and
    /// runs again.
    pub fn respond<Args>(
        &self,
        request_filter: impl AsRef<str>,
        reply_topic: impl AsRef<str>,
        reply_type: impl Into<String>,
        responder: impl Responder<Args>,
    ) -> Subscribe {
        Subscribe {
            client: self.clone(),
            route: Route::respond(request_filter, reply_topic, reply_type, responder),
        }
    }
}

/// A responder whose argument types are forgotten.
type AnyResponder = Box<dyn Fn(&Context) -> Result<ResponderFuture, Invalid> + Send + Sync>;

/// A responder, and where its replies go.
pub(crate) struct Responding {
    call: AnyResponder,
    topic: Result<TopicName, TopicError>,
    event_type: String,
    answers: Answers,
}

impl Responding {
    pub(crate) fn new<Args>(topic: &str, event_type: String, responder: impl Responder<Args>) -> Self {
        Self {
            call: Box::new(move |context| responder.call(context)),
            topic: TopicName::new(topic),
            event_type,
            answers: Answers::default(),
        }
    }

    pub(crate) fn topic(&self) -> Result<&TopicName, Error> {
        let wrong = |error: &TopicError| Error::from(error.clone()).while_doing("reply topic");
        self.topic.as_ref().map_err(wrong)
    }

    pub(crate) fn call(&self, context: &Context) -> Result<ResponderFuture, Invalid> {
        if context.correlation_id().is_none_or(|id| id.is_empty()) {
            return Err(Invalid::new("a request without a correlation id cannot be answered"));
        }
        (self.call)(context)
    }

    /// Answers, and keeps the answer if requests are recognised when they come again.
    pub(crate) async fn answer(&self, context: &Context, data: &RawValue) -> Result<(), Error> {
        let reply = context
            .reply(self.topic()?.clone(), &self.event_type, data)
            .into_message()?;
        send(context, &reply).await?;
        let config = &context.shared().config;
        if !config.dedupe_ttl.is_zero() {
            self.answers.keep(context.payload(), reply, config.dedupe_max_entries);
        }
        Ok(())
    }

    /// Answers a request that was answered before.
    pub(crate) async fn answer_again(&self, context: &Context) {
        let Some(reply) = self.answers.find(context.payload()) else {
            tracing::debug!(topic = %context.topic(), "a repeated request is not answered: its reply is no longer kept");
            return;
        };
        match send(context, &reply).await {
            Ok(()) => count(&context.shared().stats.answered_again),
            Err(error) => tracing::warn!(topic = %reply.topic, %error, "a repeated request was not answered"),
        }
    }

    /// Answers that it cannot be answered.
    pub(crate) async fn refuse(&self, context: &Context, failure: &ErrorReply) {
        let (Ok(topic), Some(_)) = (self.topic(), context.correlation_id()) else {
            return;
        };
        let event_type = format!("{}.error", self.event_type);
        let reply = context.reply(topic.clone(), &event_type, failure).into_message();
        let sent = async { send(context, &reply?).await };
        if let Err(error) = sent.await {
            tracing::warn!(%topic, %error, "an error reply could not be sent");
        }
    }
}

/// Publishes a reply, however long the broker is away: only then may the request be
/// acknowledged.
async fn send(context: &Context, reply: &Message) -> Result<(), Error> {
    let shared = context.shared();
    loop {
        let sent = async { shared.take_in(Ok(reply.clone()), None, false).await?.await };
        match sent.await {
            Err(error) if error.is_transient() => {
                tracing::warn!(topic = %reply.topic, %error, "a reply could not be sent yet");
                tokio::time::sleep(shared.config.reconnect_max_delay).await;
            }
            result => return result.map(drop),
        }
    }
}

impl Route {
    /// As [`Client::respond`], in place before the first packet.
    pub fn respond<Args>(
        request_filter: impl AsRef<str>,
        reply_topic: impl AsRef<str>,
        reply_type: impl Into<String>,
        responder: impl Responder<Args>,
    ) -> Self {
        let responding = Responding::new(reply_topic.as_ref(), reply_type.into(), responder);
        Self::to_responder(request_filter.as_ref(), Arc::new(responding))
    }
}
