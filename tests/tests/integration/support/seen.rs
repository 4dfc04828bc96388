//! What handlers saw, to be awaited.

use std::panic::Location;
use std::sync::Arc;

use tokio::sync::watch;

use super::PATIENCE;

/// A growing list that many handlers write and a test awaits. A handle: clones are the same list.
#[derive(Clone)]
pub(crate) struct Seen<T>(Arc<watch::Sender<Vec<T>>>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl<T: Clone + std::fmt::Debug> Seen<T> {
    pub(crate) fn push(&self, what: T) {
        self.0.send_modify(|seen| seen.push(what));
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.borrow().clone()
    }

    /// Waits until the list is as `reached` wants it.
    #[track_caller]
    pub(crate) fn until(&self, mut reached: impl FnMut(&[T]) -> bool) -> impl Future<Output = Vec<T>> {
        let caller = Location::caller();
        let mut receiver = self.0.subscribe();
        async move {
            let waiting = receiver.wait_for(|seen| reached(seen));
            if let Ok(result) = tokio::time::timeout(PATIENCE, waiting).await {
                return result.expect("the sender is alive as long as self").clone();
            }
            panic!(
                "{caller}: within {PATIENCE:?} only this was seen: {:?}",
                receiver.borrow()
            );
        }
    }

    /// Waits until so many were seen.
    #[track_caller]
    pub(crate) fn reach(&self, count: usize) -> impl Future<Output = Vec<T>> {
        self.until(move |seen| seen.len() >= count)
    }
}
