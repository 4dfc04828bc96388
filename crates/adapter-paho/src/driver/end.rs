//! How a connection ends: the clean way out, and the account of what was left.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tars_ports::{EndReason, Ended, Error, ErrorKind, Fate, Settler};
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout, timeout_at};

use super::Driver;
use super::flow::Outcome;
use crate::client::Call;
use crate::error;
use crate::outbox::Command;

/// The client's destructor takes up to a second, and waits for the other clients.
const DESTRUCTION: Duration = Duration::from_secs(5);

/// What paho has written, DISCONNECT perhaps, and the broker does not read is given up
/// after this.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// The clean end under way.
#[derive(Debug)]
pub(super) struct Farewell {
    /// Until then acknowledgements are waited for.
    patience: Instant,
    deadline: Instant,
    given_up: bool,
}

impl Driver {
    pub(super) fn begin_farewell(&mut self) {
        let now = Instant::now();
        let timeout = self.timeout;
        self.farewell.get_or_insert_with(|| Farewell {
            patience: now + timeout / 2,
            deadline: now + timeout,
            given_up: false,
        });
    }

    /// When to look at the farewell again.
    pub(super) fn farewell_due(&mut self, now: Instant) -> Result<Option<Instant>, Error> {
        let Some(farewell) = &mut self.farewell else {
            return Ok(None);
        };
        if now >= farewell.deadline {
            return Err(error::disconnect_timeout(&self.shared.address, self.timeout));
        }
        if farewell.given_up {
            return Ok(Some(farewell.deadline));
        }
        if now < farewell.patience {
            return Ok(Some(farewell.patience));
        }
        farewell.given_up = true;
        let deadline = farewell.deadline;
        self.give_up();
        // QoS 0 that stood behind them.
        self.send();
        Ok(Some(deadline))
    }

    /// The window does not open: publishes behind it are not sent, so that
    /// DISCONNECT still is.
    fn give_up(&mut self) {
        let error = Error::new(
            ErrorKind::ConnectionLost,
            format!(
                "disconnected from {} while the in-flight window was full",
                self.shared.address
            ),
        );
        for queued in self.shared.outbox.take_acknowledged() {
            if let Some(settler) = queued.settler {
                not_sent(settler, &error);
            }
        }
    }

    /// Everything was taken by paho and is written, as far as that can be known.
    pub(super) fn may_leave(&self) -> bool {
        self.farewell.as_ref().is_some_and(|farewell| {
            self.shared.outbox.is_drained()
                && self.window.unwritten() == 0
                && (farewell.given_up || self.window.inflight() == 0)
        })
    }

    pub(super) async fn leave(&mut self) -> Result<EndReason, Error> {
        let deadline = self
            .farewell
            .as_ref()
            .map_or_else(Instant::now, |farewell| farewell.deadline);
        let address = self.shared.address.clone();
        let late = || error::disconnect_timeout(&address, self.timeout);
        let (done, outcome) = oneshot::channel();
        let patience = deadline.saturating_duration_since(Instant::now());
        if let Some(calls) = &self.calls {
            // A thread that is gone drops `done`.
            let _ = calls.send(Call::Disconnect { patience, done });
        }
        match timeout_at(deadline, outcome).await {
            // Paho has written it as far as the relay.
            Ok(Ok(Ok(()))) => {
                let flushed = match &mut self.line {
                    Some(line) => timeout_at(deadline, line.flushed()).await.unwrap_or(false),
                    None => false,
                };
                if flushed {
                    Ok(EndReason::Disconnected)
                } else {
                    Err(late())
                }
            }
            Err(_) | Ok(Ok(Err(paho_mqtt::Error::Timeout))) => Err(late()),
            Ok(_) => Err(match self.shared.verdict() {
                Some(verdict) => error::verdict(&self.shared.address, verdict),
                None => error::unanswered(&self.shared.address),
            }),
        }
    }

    /// Accounts for everything that was taken over, and sees the thread end.
    pub(super) async fn end(mut self, reason: EndReason) -> Ended {
        let waiting = self.close(&reason);
        if matches!(reason, EndReason::Closed) {
            // At once: what the broker still says while paho lets go counts no more.
            self.settle_what_came();
            self.flows.clear();
        }
        let slow = timeout(DESTRUCTION, &mut self.thread).await.is_err();
        if slow {
            tracing::warn!(
                address = self.shared.address,
                "paho takes long to let go of its client; it goes on by itself"
            );
        }
        if let Some(line) = self.line.take() {
            line.close(LAST_BYTES).await;
        }
        self.settle_what_came();
        // The rest is unknown.
        self.flows.clear();
        let unsent = self.unsent + self.window.unwritten() as u64 + waiting;
        tracing::debug!(address = self.shared.address, ?reason, unsent, "connection ended");
        self.shared.end.send_replace(Some(match &reason {
            EndReason::Disconnected => Ok(()),
            EndReason::Lost(error) => Err(error.clone()),
            _ => Err(error::not_connected(&self.shared.address)),
        }));
        let mut ended = Ended::new(reason);
        ended.unsent = unsent;
        ended
    }

    /// Confirmations that came before the end still count: all of them, however much this task
    /// has done in one go.
    fn settle_what_came(&mut self) {
        while let Some(Some(outcome)) = unconstrained(self.flows.next()).now_or_never() {
            match outcome {
                Outcome::Broken(_) => {}
                // Only a broken answer is an error.
                outcome => drop(self.settle(outcome)),
            }
        }
    }

    /// From here on nothing is taken over, and the thread ends. Returns how many
    /// QoS 0 messages had not left.
    fn close(&mut self, reason: &EndReason) -> u64 {
        self.ended = true;
        let error = error::ended(&self.shared.address, reason);
        let (publishes, commands) = self.shared.outbox.end();
        self.calls = None;
        let mut waiting = 0;
        for queued in publishes {
            match queued.settler {
                None => waiting += 1,
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
        waiting
    }
}

impl Drop for Driver {
    /// A driver that is cut off (its runtime ends, a panic) settles everything all the same.
    fn drop(&mut self) {
        if !self.ended {
            self.close(&EndReason::Closed);
            let error = error::not_connected(&self.shared.address);
            self.shared.end.send_replace(Some(Err(error)));
        }
    }
}

fn not_sent(settler: Settler, error: &Error) {
    settler.settle(Err(error.clone().with_fate(Fate::NotSent)));
}
