//! What may be a handler, and what it may take.
//!
//! A handler is an async function whose arguments are read from the message:
//!
//! | argument | what it gets |
//! |---|---|
//! | [`Envelope<T>`] | the message as an envelope, its data as a `T` |
//! | [`InboundMessage`] | the raw message: topic, bytes, QoS, retain, dup |
//! | [`Bytes`] | the payload alone |
//! | [`TopicName`] | the topic it was published to |
//! | [`Context`] | reply, publish, correlation id, the client |
//!
//! A handler of [`Client::on`](crate::Client::on) takes first an [`Event`](crate::Event) or
//! the envelope around it, and then what is in the table.
//!
//! It returns `()` or a `Result<(), E>`; an error is logged, counted, and treated by
//! the subscription's failure policy. A message that does not fit an argument is
//! invalid input: counted, logged, acknowledged, and never seen by the handler.
//!
//! Every run is a future of its own, so what a handler captures is cloned for each run:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use tars_mqtt::{Client, Error, InboundMessage};
//! # struct Store;
//! # impl Store { async fn keep(&self, _: InboundMessage) {} }
//! # async fn example(client: Client, store: Arc<Store>) -> Result<(), Error> {
//! client
//!     .subscribe("stt/#", move |message: InboundMessage| {
//!         let store = store.clone();
//!         async move { store.keep(message).await }
//!     })
//!     .await?;
//! # Ok(()) }
//! ```

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tars_contracts::{Envelope, TopicName};
use tars_ports::{Delivery, QoS};

use crate::context::Context;

/// Why a message is no valid input for a handler.
#[derive(Debug)]
pub struct Invalid(pub(crate) String);

impl Invalid {
    /// With a reason for the log; keep the payload out of it.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string())
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0
    }
}

/// Why a handler failed.
pub type HandlerError = Box<dyn StdError + Send + Sync>;

/// The run of a handler.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

/// The raw message, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboundMessage {
    /// The topic it was published to.
    pub topic: TopicName,
    /// The bytes.
    pub payload: Bytes,
    /// The QoS it was delivered with.
    pub qos: QoS,
    /// It is a retained message, sent because of a new subscription.
    pub retain: bool,
    /// The broker may have sent it before.
    pub dup: bool,
}

impl InboundMessage {
    pub(crate) fn of(delivery: &Delivery) -> Self {
        Self {
            topic: delivery.topic.clone(),
            payload: delivery.payload.clone(),
            qos: delivery.qos,
            retain: delivery.retain,
            dup: delivery.dup,
        }
    }
}

/// Something a handler can take as an argument.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a message handler",
    label = "not readable from a message",
    note = "a handler takes `Envelope<T>` (with `T: serde::Deserialize`), `InboundMessage`, `Bytes`, `TopicName` or `Context`",
    note = "an event is taken by the handler of `client.on(handler)`, as its first argument"
)]
pub trait FromMessage: Sized + Send {
    /// Reads it from the message at hand.
    ///
    /// # Errors
    /// [`Invalid`] when the message does not fit; the handler does not run then.
    fn from_message(context: &Context) -> Result<Self, Invalid>;
}

impl<T: DeserializeOwned + Send> FromMessage for Envelope<T> {
    fn from_message(context: &Context) -> Result<Self, Invalid> {
        Envelope::from_bytes(context.payload()).map_err(Invalid::new)
    }
}

impl FromMessage for InboundMessage {
    fn from_message(context: &Context) -> Result<Self, Invalid> {
        Ok(context.message())
    }
}

impl FromMessage for Bytes {
    fn from_message(context: &Context) -> Result<Self, Invalid> {
        Ok(context.payload().clone())
    }
}

impl FromMessage for TopicName {
    fn from_message(context: &Context) -> Result<Self, Invalid> {
        Ok(context.topic().clone())
    }
}

impl FromMessage for Context {
    fn from_message(context: &Context) -> Result<Self, Invalid> {
        Ok(context.clone())
    }
}

/// What a handler may return.
#[diagnostic::on_unimplemented(
    message = "a message handler cannot return `{Self}`",
    note = "return `()` or `Result<(), E>`, where `E` is a `std::error::Error + Send + Sync` or a text"
)]
pub trait Outcome {
    /// As a result.
    ///
    /// # Errors
    /// When the handler failed.
    fn into_result(self) -> Result<(), HandlerError>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[diagnostic::do_not_recommend]
impl<E: Into<HandlerError>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}

/// A function that can be called with the arguments `Args`, up to four; they are a tuple.
///
/// It stands apart from [`Handler`] so that what is wrong with a handler is told one by
/// one: its arguments, its future, its outcome.
pub trait Function<Args> {
    /// What it returns.
    type Returned;

    /// Calls it.
    fn call_with(&self, arguments: Args) -> Self::Returned;
}

/// The arguments of a handler: a tuple of one to four that are read from the message.
pub trait Arguments: Sized {
    /// Reads them from the message at hand.
    ///
    /// # Errors
    /// [`Invalid`] when the message does not fit one of them.
    fn from_message(context: &Context) -> Result<Self, Invalid>;
}

/// Something that is awaited: what a handler's call returns.
#[diagnostic::on_unimplemented(
    message = "a message handler is async, but this one returns `{Self}`, which is not a future",
    label = "not async",
    note = "write `async |…| {{ … }}`, `|…| async move {{ … }}` or `async fn`"
)]
pub trait Awaited: Future {}

#[diagnostic::do_not_recommend]
impl<F: Future> Awaited for F {}

/// An async function that handles messages: `Fn(A, …) -> Future` with one to four
/// arguments, each of them [`FromMessage`], which returns an [`Outcome`]. `Args` is the
/// tuple of the arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message handler",
    label = "not an async function of one to four arguments",
    note = "a handler is an async function or closure with one to four arguments: \
            `async |message: Envelope<T>, context: Context| {{ … }}`"
)]
pub trait Handler<Args>: Send + Sync + 'static {
    /// Starts a run.
    ///
    /// # Errors
    /// [`Invalid`] when the message does not fit the arguments.
    fn call(&self, context: &Context) -> Result<HandlerFuture, Invalid>;
}

impl<F, Args> Handler<Args> for F
where
    F: Function<Args, Returned: Awaited<Output: Outcome> + Send + 'static> + Send + Sync + 'static,
    Args: Arguments,
{
    fn call(&self, context: &Context) -> Result<HandlerFuture, Invalid> {
        Ok(run(self.call_with(Args::from_message(context)?)))
    }
}

pub(crate) fn run(returned: impl Awaited<Output: Outcome> + Send + 'static) -> HandlerFuture {
    Box::pin(async { returned.await.into_result() })
}

macro_rules! function {
    ($($argument:ident),*) => {
        impl<F, Returned, $($argument),*> Function<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Returned,
        {
            type Returned = Returned;

            #[allow(non_snake_case, reason = "the types' names serve for the values")]
            fn call_with(&self, ($($argument,)*): ($($argument,)*)) -> Returned {
                self($($argument),*)
            }
        }

        impl<$($argument: FromMessage),*> Arguments for ($($argument,)*) {
            fn from_message(context: &Context) -> Result<Self, Invalid> {
                Ok(($($argument::from_message(context)?,)*))
            }
        }
    };
}
function!(A);
function!(A, B);
function!(A, B, C);
function!(A, B, C, D);

/// Why a handler does not run for a message.
pub(crate) enum Declined {
    Invalid(Invalid),
    /// It is an event of this other type: there may be another handler for it.
    OtherType(String),
}

impl From<Invalid> for Declined {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// A handler whose argument types are forgotten.
pub(crate) type AnyHandler = Arc<dyn Fn(&Context) -> Result<HandlerFuture, Declined> + Send + Sync>;

pub(crate) fn erase<Args>(handler: impl Handler<Args>) -> AnyHandler {
    Arc::new(move |context| Ok(handler.call(context)?))
}
