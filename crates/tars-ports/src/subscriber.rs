//! The port for asking the broker to send.

use std::sync::Arc;

use async_trait::async_trait;
use tars_contracts::TopicFilter;

use crate::{Error, QoS};

/// The broker refused a filter (SUBACK 0x80). Reasons come with MQTT 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Refused {}

/// Something that can subscribe. There are filters only here: handlers live above.
#[async_trait]
pub trait Subscriber: Send + Sync {
    /// Asks for the filters, each with its highest QoS, in as few packets as fit,
    /// and resolves with the broker's answer to each, in the same order.
    ///
    /// Dropped before it resolves, the request may or may not have been sent.
    ///
    /// # Errors
    /// When there was no answer: [`NotConnected`](crate::ErrorKind::NotConnected),
    /// [`ConnectionLost`](crate::ErrorKind::ConnectionLost),
    /// [`Timeout`](crate::ErrorKind::Timeout). A refusal is an answer.
    async fn subscribe(&self, filters: &[(TopicFilter, QoS)]) -> Result<Vec<Result<QoS, Refused>>, Error>;

    /// Gives the filters back and resolves when the broker confirmed. Messages
    /// that were on their way still arrive.
    ///
    /// Dropped before it resolves, the request may or may not have been sent.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    async fn unsubscribe(&self, filters: &[TopicFilter]) -> Result<(), Error>;
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        impl<T: Subscriber + ?Sized> Subscriber for $pointer<T> {
            async fn subscribe(&self, filters: &[(TopicFilter, QoS)]) -> Result<Vec<Result<QoS, Refused>>, Error> {
                (**self).subscribe(filters).await
            }
            async fn unsubscribe(&self, filters: &[TopicFilter]) -> Result<(), Error> {
                (**self).unsubscribe(filters).await
            }
        }
    )*};
}
forward!(Arc, Box);
