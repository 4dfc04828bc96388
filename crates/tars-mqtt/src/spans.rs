//! The spans that follow a message through the client: `publish`, `receive`, `handle`, `request`.
//!
//! All are at DEBUG, under one target of their own, so that they can be switched on without the
//! rest. Switched off they cost the check of a level: no payload is looked into, nothing is
//! allocated, no clock is read.

use std::time::Duration;

use tars_contracts::{EnvelopeHead, TopicFilter};
use tars_ports::{Delivery, Message};
use tokio::time::Instant;
use tracing::Span;
use tracing::field::Empty;

use crate::context::Context;

/// Documented in docs/observability.md; the macros want it as a literal.
macro_rules! message_span {
    ($($rest:tt)*) => {
        tracing::debug_span!(target: "tars_mqtt::message", $($rest)*, event_type = Empty, envelope_id = Empty, correlation_id = Empty)
    };
}

/// From being taken in until it has settled, reconnects included.
pub(crate) fn publish(message: &Message) -> Span {
    let span = message_span!(
        "publish",
        topic = %message.topic,
        qos = %message.qos,
        retain = message.retain,
        bytes = message.payload.len()
    );
    head_of(span, &message.payload)
}

/// From its arrival until nobody works on it any more.
pub(crate) fn receive(delivery: &Delivery) -> Span {
    let span = message_span!(
        "receive",
        topic = %delivery.topic,
        qos = %delivery.qos,
        retain = delivery.retain,
        dup = delivery.dup,
        bytes = delivery.payload.len()
    );
    head_of(span, &delivery.payload)
}

/// One run of one subscription's handler, inside of `receive`.
pub(crate) fn handle(parent: &Span, filter: &TopicFilter, attempt: u32, context: &Context) -> Span {
    let span = message_span!(parent: parent, "handle", topic = %context.topic(), %filter, attempt);
    head_of(span, context.payload())
}

/// From the request until its reply.
pub(crate) fn request(message: &Message, reply_on: &TopicFilter) -> Span {
    let span = message_span!("request", topic = %message.topic, %reply_on);
    head_of(span, &message.payload)
}

/// What is not an envelope leaves these fields empty.
fn head_of(span: Span, payload: &[u8]) -> Span {
    if !span.is_disabled()
        && let Some(head) = EnvelopeHead::peek(payload)
    {
        let record = |field, value: Option<&str>| {
            if let Some(value) = value {
                span.record(field, value);
            }
        };
        record("event_type", head.event_type.as_deref());
        record("envelope_id", head.id.as_deref());
        record("correlation_id", head.correlation_id());
    }
    span
}

/// A duration as it stands in a field: milliseconds, to the microsecond.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

/// A clock that is read only where somebody wants to know.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Option<Instant>);

impl Clock {
    pub(crate) fn start(span: &Span) -> Self {
        Self((cfg!(feature = "metrics") || !span.is_disabled()).then(Instant::now))
    }

    pub(crate) fn elapsed(self) -> Option<Duration> {
        self.0.map(|began| began.elapsed())
    }

    /// For a field.
    pub(crate) fn ms(self) -> Option<f64> {
        self.elapsed().map(ms)
    }
}
