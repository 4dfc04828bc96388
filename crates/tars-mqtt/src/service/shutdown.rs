//! The end of a session: what is waited for, and the report of it.

use tars_ports::ErrorKind;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::session::Ending;

/// What an orderly end finished and what it had to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Handlers that were running or queued and finished in time.
    pub handlers_finished: usize,
    /// Handlers that were cut off at the deadline. Their QoS 1 and 2 messages are
    /// not acknowledged.
    pub handlers_cut_off: usize,
    /// Messages that had arrived and were not started: QoS 0 ones are gone, QoS 1
    /// and 2 ones come again on a persistent session.
    pub unstarted: usize,
    /// Publishes that settled while ending.
    pub publishes_settled: usize,
    /// Publishes whose outcome is unknown.
    pub publishes_unsettled: usize,
    /// DISCONNECT was sent, so the last will does not speak.
    pub disconnected: bool,
}

impl ShutdownReport {
    /// Whether nothing was cut off or left open.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.handlers_cut_off == 0 && self.unstarted == 0 && self.publishes_unsettled == 0
    }
}

/// An end in progress.
pub(crate) struct Drain {
    pub(crate) ending: Ending,
    pub(crate) deadline: Instant,
    pub(crate) replies: Vec<oneshot::Sender<ShutdownReport>>,
    pub(crate) jobs: usize,
    pub(crate) unsettled: usize,
    pub(crate) unstarted: usize,
    pub(crate) span: tracing::Span,
}

impl Drain {
    /// The report, given what is left now.
    pub(crate) fn report(&self, cut_off: usize, unsettled: usize, disconnected: bool) -> ShutdownReport {
        ShutdownReport {
            handlers_finished: self.jobs.saturating_sub(cut_off),
            handlers_cut_off: cut_off,
            unstarted: self.unstarted,
            publishes_settled: self.unsettled.saturating_sub(unsettled),
            publishes_unsettled: unsettled,
            disconnected,
        }
    }

    /// What operations that are still waiting are told.
    pub(crate) fn error_kind(&self) -> ErrorKind {
        match self.ending {
            Ending::Disconnect => ErrorKind::NotConnected,
            Ending::Shutdown => ErrorKind::Closed,
        }
    }
}
