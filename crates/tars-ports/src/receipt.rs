//! What a publisher hands back: a future that settles when the message is safe.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::{Error, ErrorKind, Fate};

/// The message is where its QoS promises: QoS 0 taken over by a live connection,
/// QoS 1 PUBACK received, QoS 2 PUBCOMP received. Reasons come with MQTT 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Settled {}

enum State {
    Settled(Option<Result<Settled, Error>>),
    Waiting(oneshot::Receiver<Result<Settled, Error>>),
}

/// A future that settles as far as its publisher lasts: a connection's receipt
/// ends with the connection, the client's survives it. It always settles.
///
/// Dropping it recalls nothing. Polling it after it settled gives
/// [`ErrorKind::Internal`].
#[must_use = "a receipt tells whether the message arrived"]
pub struct Receipt(State);

/// The other end of a [`Receipt`]. Dropping it settles the receipt as "outcome unknown".
#[derive(Debug)]
pub struct Settler(oneshot::Sender<Result<Settled, Error>>);

impl Receipt {
    /// A receipt and what settles it.
    pub fn pair() -> (Settler, Receipt) {
        let (sender, receiver) = oneshot::channel();
        (Settler(sender), Receipt(State::Waiting(receiver)))
    }

    /// One that has settled already; it allocates nothing.
    pub fn settled() -> Receipt {
        Receipt(State::Settled(Some(Ok(Settled::default()))))
    }
}

impl Settler {
    /// Settles the receipt. Whether anybody still waits for it does not matter.
    pub fn settle(self, result: Result<Settled, Error>) {
        // The receipt may be gone: a caller that no longer cares is no failure.
        let _ = self.0.send(result);
    }

    /// Whether the receipt was dropped, so that nobody waits any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

impl Future for Receipt {
    type Output = Result<Settled, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.0 {
            State::Settled(result) => result.take().unwrap_or_else(|| {
                Err(Error::new(
                    ErrorKind::Internal,
                    "a receipt was polled after it had settled",
                ))
            }),
            State::Waiting(receiver) => match Pin::new(receiver).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(result)) => result,
                Poll::Ready(Err(_)) => Err(Error::new(
                    ErrorKind::ConnectionLost,
                    "the connection ended before the broker confirmed the message",
                )
                .with_fate(Fate::Unknown)),
            },
        };
        self.0 = State::Settled(None);
        Poll::Ready(result)
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            State::Settled(_) => "Receipt(settled)",
            State::Waiting(_) => "Receipt(waiting)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settles_with_what_the_settler_says() {
        let (settler, receipt) = Receipt::pair();
        settler.settle(Ok(Settled::default()));
        receipt.await.expect("settled");
        Receipt::settled().await.expect("settled");
    }

    #[tokio::test]
    async fn a_dropped_settler_is_an_unknown_outcome() {
        let (settler, receipt) = Receipt::pair();
        drop(settler);
        let error = receipt.await.expect_err("nobody settled it");
        assert_eq!(error.kind(), ErrorKind::ConnectionLost);
        assert_eq!(error.fate(), Some(Fate::Unknown));
    }

    #[tokio::test]
    async fn polling_again_is_an_error_and_no_hang() {
        let mut receipt = Receipt::settled();
        (&mut receipt).await.expect("settled");
        assert_eq!(receipt.await.expect_err("used up").kind(), ErrorKind::Internal);
    }
}
