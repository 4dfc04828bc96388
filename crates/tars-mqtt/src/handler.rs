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
//! It returns `()` or a `Result<(), E>`; an error is logged, counted, and treated by
//! the subscription's failure policy. A message that does not fit an argument is
//! invalid input: counted, logged, acknowledged, and never seen by the handler.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tars_contracts::{Envelope, TopicName};
use tars_ports::QoS;

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

/// Something a handler can take as an argument.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a message handler",
    label = "not readable from a message",
    note = "a handler takes `Envelope<T>` (with `T: serde::Deserialize`), `InboundMessage`, `Bytes`, `TopicName` or `Context`"
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
    note = "return `()` or `Result<(), E>`, where `E` is an error or a text"
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

impl<E: Into<HandlerError>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}

/// An async function that handles messages. Implemented for `Fn(A, …) -> Future`
/// with up to four [`FromMessage`] arguments; `Args` is their tuple.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message handler",
    label = "not a message handler",
    note = "a handler is an async function or `|…| async move {{ … }}` of up to four arguments, each of them \
            `Envelope<T>`, `InboundMessage`, `Bytes`, `TopicName` or `Context`, that returns `()` or `Result<(), E>`"
)]
pub trait Handler<Args>: Send + Sync + 'static {
    /// Starts a run.
    ///
    /// # Errors
    /// [`Invalid`] when the message does not fit the arguments.
    fn call(&self, context: &Context) -> Result<HandlerFuture, Invalid>;
}

macro_rules! handler {
    ($($argument:ident),*) => {
        impl<F, Run, $($argument),*> Handler<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Run + Send + Sync + 'static,
            Run: Future<Output: Outcome> + Send + 'static,
            $($argument: FromMessage,)*
        {
            fn call(&self, context: &Context) -> Result<HandlerFuture, Invalid> {
                let run = self($($argument::from_message(context)?),*);
                Ok(Box::pin(async move { run.await.into_result() }))
            }
        }
    };
}
handler!(A);
handler!(A, B);
handler!(A, B, C);
handler!(A, B, C, D);

/// A handler whose argument types are forgotten.
pub(crate) type AnyHandler = Arc<dyn Fn(&Context) -> Result<HandlerFuture, Invalid> + Send + Sync>;

pub(crate) fn erase<Args>(handler: impl Handler<Args>) -> AnyHandler {
    Arc::new(move |context| handler.call(context))
}
