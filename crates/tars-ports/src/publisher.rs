//! The port for sending.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Error, Message, QoS, Receipt};

/// Why a message was not taken over.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryPublishError {
    /// No room at present. The message comes back; wait with [`Publisher::ready`].
    Full(Message),
    /// It cannot be sent: not connected, too large, not supported.
    Failed(Error),
}

/// Something that sends messages: a connection, the client, or a layer around either.
///
/// # Contract
/// - [`try_publish`](Self::try_publish) never blocks. `Ok` means the message was
///   taken over; the [`Receipt`] says what became of it, and always settles, while no lock
///   is held: who waits may have given [`Receipt::then`] something to do.
/// - Messages of one QoS leave in the order in which they were taken over.
/// - The number of messages taken over and not yet settled is bounded: at the
///   bound the message comes back as [`TryPublishError::Full`].
/// - A message that can never be sent (too large for the packet limit, a QoS the
///   adapter lacks) is [`TryPublishError::Failed`] before a byte is written, and
///   harms nothing else.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Takes the message over, or gives it back.
    ///
    /// # Errors
    /// [`TryPublishError::Full`] at the bound; [`TryPublishError::Failed`] with
    /// [`NotConnected`](crate::ErrorKind::NotConnected),
    /// [`TooLarge`](crate::ErrorKind::TooLarge) or
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError>;

    /// Resolves when there may be room again for a message of this QoS; another task may
    /// be faster, so try in a loop. QoS matters because bounds may differ: best effort
    /// does not wait for what waits for acknowledgements.
    ///
    /// Cancel-safe: it holds nothing.
    ///
    /// # Errors
    /// When no message will be taken over any more.
    async fn ready(&self, qos: QoS) -> Result<(), Error>;
}

/// Sugar for every [`Publisher`].
pub trait PublisherExt: Publisher {
    /// Takes the message over, waiting for room if there is none.
    ///
    /// Cancel-safe: dropped before it resolves, nothing was sent.
    ///
    /// # Errors
    /// As [`Publisher::try_publish`], without `Full`.
    fn publish(&self, message: Message) -> impl Future<Output = Result<Receipt, Error>> + Send {
        async move {
            let mut message = message;
            loop {
                match self.try_publish(message) {
                    Ok(receipt) => return Ok(receipt),
                    Err(TryPublishError::Failed(error)) => return Err(error),
                    Err(TryPublishError::Full(back)) => message = back,
                }
                self.ready(message.qos).await?;
            }
        }
    }
}

impl<T: Publisher + ?Sized> PublisherExt for T {}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        impl<T: Publisher + ?Sized> Publisher for $pointer<T> {
            fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
                (**self).try_publish(message)
            }
            async fn ready(&self, qos: QoS) -> Result<(), Error> {
                (**self).ready(qos).await
            }
        }
    )*};
}
forward!(Arc, Box);
