//! The one task of a connection: it lets publishes into the window, settles their
//! receipts, and accounts for everything at the end. It never calls paho itself: a
//! call may wait for the lock of the whole process.
//!
//! Whatever waits for paho is a future in `flows`; the thread behind `calls` is the only
//! other part, and the task outlives it.

mod end;
mod flow;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tars_ports::{ConnectOptions, EndReason, Ended, Error};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::Call;
use crate::error;
use crate::outbox::Stage;
use crate::relay::Line;
use crate::shared::Shared;
use crate::window::Window;

use end::Farewell;
use flow::{Flow, Outcome};

pub(crate) struct Driver {
    shared: Arc<Shared>,
    /// To the thread that owns paho's client; `None` once it may end.
    calls: Option<mpsc::Sender<Call>>,
    thread: JoinHandle<()>,
    /// `None` once it is closed.
    line: Option<Line>,
    window: Window,
    flows: FuturesUnordered<Flow>,
    timeout: Duration,
    farewell: Option<Farewell>,
    /// QoS 0 messages that paho did not take.
    unsent: u64,
    ended: bool,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        calls: mpsc::Sender<Call>,
        thread: JoinHandle<()>,
        line: Line,
        options: &ConnectOptions,
    ) -> Self {
        Self {
            shared,
            calls: Some(calls),
            thread,
            line: Some(line),
            window: Window::new(options.max_inflight, options.max_inflight_qos2),
            flows: FuturesUnordered::new(),
            timeout: options.timeout,
            farewell: None,
            unsent: 0,
            ended: false,
        }
    }

    /// Serves the connection to its end.
    pub(crate) async fn run(mut self) -> Ended {
        let reason = self.serve().await.unwrap_or_else(EndReason::Lost);
        self.end(reason).await
    }

    async fn serve(&mut self) -> Result<EndReason, Error> {
        loop {
            match self.shared.outbox.stage() {
                Stage::Open => {}
                Stage::Disconnecting => self.begin_farewell(),
                Stage::Closing | Stage::Ended => return Ok(EndReason::Closed),
            }
            if let Some(verdict) = self.shared.verdict() {
                return Err(error::verdict(&self.shared.address, verdict));
            }
            self.send();
            let due = self.farewell_due(Instant::now())?;
            if self.may_leave() {
                return self.leave().await;
            }
            tokio::select! {
                Some(outcome) = self.flows.next() => self.settle(outcome)?,
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = &mut self.thread => {
                    return Err(error::internal("the thread that owns paho's client is gone"));
                }
            }
        }
    }

    /// Hands on what the window lets through, in order, and every question.
    fn send(&mut self) {
        let Some(calls) = &self.calls else { return };
        while let Some(command) = self.shared.outbox.take_command() {
            self.flows.push(flow::ask(calls, command, &self.shared.address));
        }
        while let Some(queued) = self.shared.outbox.take_publish(|message| self.window.admit(message)) {
            self.flows.push(flow::publish(calls, queued, &self.shared.address));
        }
    }

    fn settle(&mut self, outcome: Outcome) -> Result<(), Error> {
        match outcome {
            Outcome::Published {
                qos,
                size,
                settler,
                result,
            } => {
                self.window.release(qos, size);
                match (settler, result) {
                    (Some(settler), result) => {
                        if result.is_ok() {
                            self.shared.packets_read.fetch_add(1, Ordering::Relaxed);
                        }
                        settler.settle(result.map(|()| tars_ports::Settled::default()));
                    }
                    (None, Ok(())) => {}
                    (None, Err(_)) => self.unsent += 1,
                }
                Ok(())
            }
            Outcome::Answered => {
                self.shared.packets_read.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Outcome::Unanswered => Ok(()),
            Outcome::Broken(error) => Err(error),
        }
    }
}
