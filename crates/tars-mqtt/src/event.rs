//! Handlers of typed events: [`Client::on`](crate::Client::on) and [`Route::on`](crate::Route::on).
//!
//! Several event types may share a topic, so a handler looks at the type first: an event
//! of another one is not its own, and neither invalid nor handled.

use std::sync::Arc;

use serde::de::DeserializeOwned;
pub use tars_contracts::event::{Event, FromEnvelope};
use tars_contracts::{Envelope, EnvelopeHead};

use crate::context::Context;
use crate::handler::{AnyHandler, Awaited, Declined, FromMessage, Function, HandlerFuture, Invalid, Outcome, run};

/// The arguments of an event's handler: first the event `E` or its [`Envelope`], then up
/// to three that are read from the message.
pub trait EventArguments<E>: Sized {
    /// Takes them from the event and its message.
    ///
    /// # Errors
    /// [`Invalid`] when the message does not fit one of them.
    fn from_event(event: Envelope<E>, context: &Context) -> Result<Self, Invalid>;
}

/// An async function that handles events: as a [`Handler`](crate::Handler), but first it
/// takes the event `E` or its [`Envelope`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of events",
    label = "not an async function of one to four arguments, the first of them an event",
    note = "a handler of events is an async function or closure that takes an event, or an `Envelope` of one, \
            and up to three more arguments: `async |event: E, context: Context| {{ … }}`"
)]
pub trait EventHandler<E, Args>: Send + Sync + 'static {
    /// Starts a run.
    ///
    /// # Errors
    /// [`Invalid`] when the message does not fit the other arguments.
    fn call(&self, event: Envelope<E>, context: &Context) -> Result<HandlerFuture, Invalid>;
}

impl<F, E, Args> EventHandler<E, Args> for F
where
    F: Function<Args, Returned: Awaited<Output: Outcome> + Send + 'static> + Send + Sync + 'static,
    Args: EventArguments<E>,
{
    fn call(&self, event: Envelope<E>, context: &Context) -> Result<HandlerFuture, Invalid> {
        Ok(run(self.call_with(Args::from_event(event, context)?)))
    }
}

macro_rules! arguments {
    ($($argument:ident),*) => {
        impl<Subject, $($argument),*> EventArguments<Subject::Event> for (Subject, $($argument,)*)
        where
            Subject: FromEnvelope,
            $($argument: FromMessage,)*
        {
            fn from_event(event: Envelope<Subject::Event>, _context: &Context) -> Result<Self, Invalid> {
                Ok((Subject::from_envelope(event), $($argument::from_message(_context)?,)*))
            }
        }
    };
}
arguments!();
arguments!(A);
arguments!(A, B);
arguments!(A, B, C);

pub(crate) fn erase<E, Args>(handler: impl EventHandler<E, Args>) -> AnyHandler
where
    E: Event + DeserializeOwned,
{
    Arc::new(move |context| Ok(handler.call(read(context)?, context)?))
}

fn read<E: Event + DeserializeOwned>(context: &Context) -> Result<Envelope<E>, Declined> {
    let payload = context.payload();
    let mut event = match Envelope::<E>::from_bytes(payload) {
        Ok(event) if event.event_type == E::TYPE => event,
        Ok(event) => return Err(Declined::OtherType(event.event_type)),
        // Data of another type need not fit this one.
        Err(error) => return Err(other_type::<E>(payload).unwrap_or_else(|| Invalid::new(error).into())),
    };
    event.data.read_topic(context.topic()).map_err(Invalid::new)?;
    Ok(event)
}

fn other_type<E: Event>(payload: &[u8]) -> Option<Declined> {
    let event_type = EnvelopeHead::peek(payload)?.event_type?;
    (!event_type.is_empty() && event_type != E::TYPE).then_some(Declined::OtherType(event_type))
}
