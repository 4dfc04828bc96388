//! How a connection ends: the clean way out, and the account of what was left.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tars_ports::{EndReason, Ended, Error, ErrorKind, Fate, Settler};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::Driver;
use crate::error;
use crate::outbox::Command;

/// After DISCONNECT the broker gets so long to close.
const LINGER: Duration = Duration::from_millis(500);

/// The clean end under way.
#[derive(Debug)]
pub(super) struct Farewell {
    /// Until then publishes wait for the in-flight window; after that they are given up.
    pub(super) patience: Instant,
    pub(super) deadline: Instant,
    pub(super) given_up: bool,
    /// DISCONNECT is in the output; nothing may follow it (MQTT 3.1.1 section 3.14.4).
    pub(super) sent: bool,
}

impl Driver {
    /// DISCONNECT is on its way: nothing may follow it.
    pub(super) fn has_said_farewell(&self) -> bool {
        self.farewell.as_ref().is_some_and(|farewell| farewell.sent)
    }

    pub(super) fn begin_farewell(&mut self) {
        let now = Instant::now();
        let timeout = self.timeout;
        self.farewell.get_or_insert_with(|| Farewell {
            patience: now + timeout / 2,
            deadline: now + timeout,
            given_up: false,
            sent: false,
        });
    }

    /// The window does not open: publishes behind it are not sent, so that
    /// DISCONNECT still is.
    pub(super) fn give_up(&mut self) {
        let error = Error::new(
            ErrorKind::ConnectionLost,
            format!(
                "disconnected from {} while the in-flight window was full",
                self.shared.address
            ),
        );
        for settler in self
            .shared
            .outbox
            .take_acknowledged()
            .into_iter()
            .filter_map(|queued| queued.settler)
        {
            not_sent(settler, &error);
        }
    }

    /// Closes after DISCONNECT. Bytes that come now are read away: closing a socket
    /// with unread bytes resets it, and the reset may overtake our last packets.
    pub(super) async fn leave(&mut self) {
        let mut deadline = Instant::now() + LINGER;
        if let Some(farewell) = &self.farewell {
            deadline = deadline.min(farewell.deadline);
        }
        let stream = &mut self.stream;
        let goodbye = async {
            stream.shutdown().await?;
            let mut sink = [0; 1024];
            while stream.read(&mut sink).await? > 0 {}
            std::io::Result::Ok(())
        };
        // DISCONNECT is written; how the socket then ends changes nothing.
        let _ = timeout_at(deadline, goodbye).await;
    }
}

impl Driver {
    /// Accounts for everything that was taken over.
    pub(super) fn end(&mut self, reason: EndReason) -> Ended {
        self.ended = true;
        let address = &self.shared.address;
        let error = error::ended(address, &reason);
        let (publishes, commands) = self.shared.outbox.end();
        let mut unsent = self.output.unwritten_qos0();
        let outbound = self.flows.end(&error, |end| self.output.is_written(end));
        for queued in publishes {
            match queued.settler {
                None => unsent += 1,
                Some(settler) => not_sent(settler, &error),
            }
        }
        for command in commands {
            // A caller that no longer waits is no failure.
            match command {
                Command::Subscribe { reply, .. } => drop(reply.send(Err(error.clone()))),
                Command::Unsubscribe { reply, .. } => drop(reply.send(Err(error.clone()))),
            }
        }
        self.shared.reading_paused.store(false, Ordering::Relaxed);
        tracing::debug!(address, ?reason, unsent, "connection ended");
        let outcome = match &reason {
            EndReason::Disconnected => Ok(()),
            EndReason::Lost(error) => Err(error.clone()),
            _ => Err(error::not_connected(address)),
        };
        self.shared.end.send_replace(Some(outcome));
        let mut ended = Ended::new(reason);
        ended.session.outbound = outbound;
        ended.unsent = unsent;
        ended
    }
}

impl Drop for Driver {
    /// A driver that is cut off (its runtime ends, a panic) settles everything all the same.
    fn drop(&mut self) {
        if !self.ended {
            self.end(EndReason::Closed);
        }
    }
}

pub(super) fn not_sent(settler: Settler, error: &Error) {
    settler.settle(Err(error.clone().with_fate(Fate::NotSent)));
}
