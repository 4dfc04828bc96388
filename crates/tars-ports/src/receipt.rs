//! What a publisher hands back: a future that settles when the message is safe.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::{Error, ErrorKind, Fate};

/// The message is where its QoS promises: QoS 0 taken over by a live connection,
/// QoS 1 PUBACK received, QoS 2 PUBCOMP received. Reasons come with MQTT 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Settled {}

type Outcome = Result<Settled, Error>;

/// A future that settles as far as its publisher lasts: a connection's receipt
/// ends with the connection, the client's survives it. It always settles.
///
/// Dropping it recalls nothing. Polling it after it settled gives
/// [`ErrorKind::Internal`].
#[must_use = "a receipt tells whether the message arrived"]
pub struct Receipt(Source);

enum Source {
    Settled(Option<Outcome>),
    Waiting(Arc<Slot>),
}

/// The other end of a [`Receipt`]. Dropping it settles the receipt as "outcome unknown".
///
/// It may run what [`Receipt::then`] was given: settle while no lock is held.
pub struct Settler(Option<Arc<Slot>>);

/// Where the outcome passes from the settler to the receipt.
struct Slot(Mutex<State>);

enum State {
    /// Nobody asks at present.
    Open,
    Awaited(Waker),
    Then(Box<dyn FnOnce(Outcome) + Send>),
    Settled(Outcome),
    /// The receipt is gone, or has the outcome.
    Over,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, state: State) -> State {
        std::mem::replace(&mut *self.lock(), state)
    }

    /// The outcome, if it is there, and who asks, back; else that one takes the place of who asked before.
    fn ask(&self, asked: State) -> Option<(Outcome, State)> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Over) {
            State::Settled(outcome) => Some((outcome, asked)),
            before => {
                *state = asked;
                drop(state);
                drop(before);
                None
            }
        }
    }

    fn settle(&self, outcome: Outcome) {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Over) {
            State::Open => *state = State::Settled(outcome),
            State::Awaited(waker) => {
                *state = State::Settled(outcome);
                drop(state);
                waker.wake();
            }
            State::Then(then) => {
                drop(state);
                then(outcome);
            }
            State::Settled(_) | State::Over => {}
        }
    }
}

impl Receipt {
    /// A receipt and what settles it.
    pub fn pair() -> (Settler, Receipt) {
        let slot = Arc::new(Slot(Mutex::new(State::Open)));
        (Settler(Some(slot.clone())), Receipt(Source::Waiting(slot)))
    }

    /// One that has settled already; it allocates nothing.
    pub fn settled() -> Receipt {
        Receipt(Source::Settled(Some(Ok(Settled::default()))))
    }

    /// Instead of waiting: `then` runs with the outcome, at once if it is there, else inside
    /// of what settles the receipt. So it should be short, and wait for nothing.
    pub fn then(mut self, then: impl FnOnce(Result<Settled, Error>) + Send + 'static) {
        match std::mem::replace(&mut self.0, Source::Settled(None)) {
            Source::Settled(outcome) => then(outcome.unwrap_or_else(used_up)),
            Source::Waiting(slot) => {
                if let Some((outcome, State::Then(then))) = slot.ask(State::Then(Box::new(then))) {
                    then(outcome);
                }
            }
        }
    }
}

impl Settler {
    /// Settles the receipt. Whether anybody still waits for it does not matter.
    pub fn settle(mut self, result: Result<Settled, Error>) {
        if let Some(slot) = self.0.take() {
            slot.settle(result);
        }
    }

    /// Whether the receipt was dropped, so that nobody waits any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.0.as_ref().is_none_or(|slot| matches!(*slot.lock(), State::Over))
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            let what = "the connection ended before the broker confirmed the message";
            slot.settle(Err(Error::new(ErrorKind::ConnectionLost, what).with_fate(Fate::Unknown)));
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Source::Waiting(slot) = &self.0 {
            // Not under the lock: what goes here is code of others.
            drop(slot.replace(State::Over));
        }
    }
}

impl Future for Receipt {
    type Output = Result<Settled, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match &mut self.0 {
            Source::Settled(outcome) => outcome.take().unwrap_or_else(used_up),
            Source::Waiting(slot) => match slot.ask(State::Awaited(cx.waker().clone())) {
                Some((outcome, _)) => outcome,
                None => return Poll::Pending,
            },
        };
        self.0 = Source::Settled(None);
        Poll::Ready(outcome)
    }
}

fn used_up() -> Outcome {
    let what = "a receipt was polled after it had settled";
    Err(Error::new(ErrorKind::Internal, what))
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Source::Settled(_) => "Receipt(settled)",
            Source::Waiting(_) => "Receipt(waiting)",
        })
    }
}

impl std::fmt::Debug for Settler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Settler")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

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

    #[tokio::test]
    async fn it_wakes_who_waits_and_tells_whether_anybody_does() {
        let (settler, mut receipt) = Receipt::pair();
        assert!((&mut receipt).now_or_never().is_none());
        assert!(!settler.is_abandoned());
        let waiting = tokio::spawn(receipt);
        tokio::task::yield_now().await;
        settler.settle(Ok(Settled::default()));
        waiting.await.unwrap().expect("settled");
        let (settler, receipt) = Receipt::pair();
        drop(receipt);
        assert!(settler.is_abandoned());
    }

    #[test]
    fn what_is_to_happen_then_happens_once_however_it_settles() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = || {
            let told = told.clone();
            move |outcome: Outcome| told.lock().unwrap().push(outcome.err().map(|error| error.kind()))
        };
        let (settler, receipt) = Receipt::pair();
        receipt.then(tell());
        assert!(!settler.is_abandoned());
        settler.settle(Ok(Settled::default()));
        let (settler, receipt) = Receipt::pair();
        settler.settle(Ok(Settled::default()));
        receipt.then(tell());
        let (settler, receipt) = Receipt::pair();
        receipt.then(tell());
        drop(settler);
        Receipt::settled().then(tell());
        assert_eq!(
            *told.lock().unwrap(),
            [None, None, Some(ErrorKind::ConnectionLost), None]
        );
    }
}
