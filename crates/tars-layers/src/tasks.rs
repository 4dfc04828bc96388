//! The tasks of a layer: counted, joined at its shutdown, and told when it is time to end.
//!
//! Invariant: after [`Tasks::shutdown`] resolved no task is left and none begins.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tars_ports::{Error, ErrorKind, Fate};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// About 31 years, which no clock overflows: as good as without a limit.
pub(crate) const FOREVER: Duration = Duration::from_secs(1_000_000_000);

#[derive(Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    runtime: Handle,
    closing: CancellationToken,
    patience: Duration,
    /// Set by the first task that sees the layer close; all are waiting for that.
    deadline: Arc<OnceLock<Instant>>,
}

/// Held by the handles of a layer, not by its tasks: with the last handle the layer closes.
pub(crate) type Guard = Arc<DropGuard>;

impl Tasks {
    /// In the current runtime; `patience` is what is left to them once the layer closes.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(patience: Duration) -> (Self, Guard) {
        let closing = CancellationToken::new();
        let guard = Arc::new(closing.clone().drop_guard());
        let tasks = Self {
            tracker: TaskTracker::new(),
            runtime: Handle::current(),
            closing,
            patience,
            deadline: Arc::default(),
        };
        (tasks, guard)
    }

    /// Lets something in: as long as the token lives, a shutdown waits.
    pub(crate) fn enter(&self) -> Result<TaskTrackerToken, Error> {
        // Counted before the look, so that a shutdown in between waits for it.
        let token = self.tracker.token();
        if self.is_closing() {
            return Err(Error::new(ErrorKind::Closed, "the layer was shut down").with_fate(Fate::NotSent));
        }
        Ok(token)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(task, &self.runtime);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Resolves when the layer begins to close.
    pub(crate) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Resolves when a closing layer waits no longer.
    pub(crate) async fn overdue(&self) {
        self.closing.cancelled().await;
        sleep_until(
            *self
                .deadline
                .get_or_init(|| Instant::now() + self.patience.min(FOREVER)),
        )
        .await;
    }

    pub(crate) async fn shutdown(&self) {
        self.closing.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
