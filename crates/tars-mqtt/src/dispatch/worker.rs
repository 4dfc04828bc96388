//! One subscription's worker: skip what was handled already, run the handler, judge the
//! outcome, then acknowledge.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::Serialize;
use tars_contracts::EnvelopeHead;
use tars_ports::{Error, QoS};
use tokio::task::coop::consume_budget;
use tokio::time::Instant;
use tracing::Instrument;

use super::Entry;
use super::dedupe::{Admission, Key};
use super::work::Job;
use crate::client::WeakClient;
use crate::context::Context;
use crate::handler::{Declined, HandlerError, Invalid};
use crate::patterns::ErrorReply;
use crate::publish::Publish;
use crate::shared::Shared;
use crate::spans::{self, Clock, ms};
use crate::stats::{count, count_for};
use crate::subscribe::{OnFailure, Target};

/// The longest pause between two runs of a failing handler.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// How a run of the handler ended.
enum Run {
    Succeeded,
    /// It is an event of this type, which is not the handler's.
    PassedOver(String),
    Invalid(Invalid),
    Failed(ErrorReply),
}

pub(super) async fn work(entry: Arc<Entry>, shared: Arc<Shared>, client: WeakClient) {
    let worker = Worker { entry, shared, client };
    while let Some(job) = worker.entry.queue.pop().await {
        worker.take(job).await;
        // A handler that never waits would go through its whole backlog in one turn.
        consume_budget().await;
    }
}

struct Worker {
    entry: Arc<Entry>,
    shared: Arc<Shared>,
    client: WeakClient,
}

impl Worker {
    /// Check → run → mark as seen → acknowledge.
    async fn take(&self, mut job: Job) {
        let entry = &*self.entry;
        let identify = |dedupe| Some((dedupe, Key::of(&job.delivery.payload)?));
        let Some((dedupe, key)) = entry.dedupe.as_ref().and_then(identify) else {
            self.handle(&job).await;
            return finish(entry, &job);
        };
        let kept = job.is_reliable() && entry.acknowledges_after_success();
        let mut run = match dedupe.admit(key, job, kept, Instant::now()) {
            Admission::Joined => return,
            Admission::Duplicate(job) => {
                if let Target::Responder(responder) = &entry.target {
                    responder.answer_again(&self.context(&job)).await;
                }
                return self.skip(&job);
            }
            Admission::Run(first, run) => {
                job = first;
                run
            }
        };
        while !self.handle(&job).await {
            finish(entry, &job);
            match run.failed() {
                None => return,
                Some(next) => (job, run) = next,
            }
        }
        let joined = run.succeeded(Instant::now());
        finish(entry, &job);
        joined.iter().for_each(|job| self.skip(job));
    }

    async fn handle(&self, job: &Job) -> bool {
        process(&self.entry, &self.shared, &self.context(job)).await
    }

    fn context(&self, job: &Job) -> Context {
        Context::new(job.received().clone(), self.shared.clone(), self.client.clone())
    }

    fn skip(&self, job: &Job) {
        count_for(&self.entry.metrics.duplicates, &self.shared.stats.duplicates);
        tracing::debug!(parent: &job.span, filter = %self.entry.filter, "a duplicate was skipped");
        finish(&self.entry, job);
    }
}

/// The subscription is done with the message. Not reached when the run was cut off:
/// then the broker still has it.
fn finish(entry: &Entry, job: &Job) {
    if entry.acknowledges_after_success() {
        job.finish();
    }
}

/// Whether the handler succeeded in the end.
async fn process(entry: &Entry, shared: &Arc<Shared>, context: &Context) -> bool {
    let (policy, metrics) = (&entry.options.on_failure, &entry.metrics);
    let mut attempt = 1;
    loop {
        let span = spans::handle(context.span(), &entry.filter, attempt, context);
        let clock = Clock::start(&span);
        let ended = run(entry, context).instrument(span.clone()).await;
        let time = clock.elapsed();
        match ended {
            Run::Succeeded => {
                count_for(&metrics.handled, &shared.stats.handled);
                metrics.handler.record(true, time);
                span.in_scope(|| tracing::debug!(elapsed_ms = time.map(ms), "handled"));
                return true;
            }
            Run::PassedOver(event_type) => {
                count_for(&metrics.passed_over, &shared.stats.passed_over);
                span.in_scope(|| tracing::debug!(event_type, "another handler's event"));
                return true;
            }
            Run::Invalid(invalid) => {
                count_for(&metrics.invalid, &shared.stats.invalid);
                let failure = ErrorReply::new("invalid", invalid.reason());
                span.in_scope(|| shared.report_invalid(context, invalid, &entry.invalid));
                refuse(entry, context, &failure).await;
                return false;
            }
            Run::Failed(failure) => {
                count_for(&metrics.failed, &shared.stats.failed);
                metrics.handler.record(false, time);
                span.in_scope(|| log_failure(entry, context, attempt, &failure.error));
                if attempt <= policy.retries {
                    let factor = 1 << (attempt - 1).min(16);
                    tokio::time::sleep(policy.backoff.saturating_mul(factor).min(MAX_BACKOFF)).await;
                    attempt += 1;
                    continue;
                }
                give_up(policy, shared, context, attempt, &failure.error).await;
                refuse(entry, context, &failure).await;
                return false;
            }
        }
    }
}

/// A request that is not served is answered with the reason.
async fn refuse(entry: &Entry, context: &Context, failure: &ErrorReply) {
    if let Target::Responder(responder) = &entry.target {
        responder.refuse(context, failure).await;
    }
}

async fn run(entry: &Entry, context: &Context) -> Run {
    // One guard around all that is others' code: the reading of the arguments, the run,
    // its end at the limit, and the text of its error.
    let run = AssertUnwindSafe(async {
        match &entry.target {
            Target::Handler(handler) => match handler(context) {
                Ok(running) => within(entry, running)
                    .await
                    .map_or_else(Run::Failed, |()| Run::Succeeded),
                Err(Declined::Invalid(invalid)) => Run::Invalid(invalid),
                Err(Declined::OtherType(event_type)) => Run::PassedOver(event_type),
            },
            Target::Responder(responder) => match responder.call(context) {
                Ok(running) => match within(entry, running).await {
                    // Outside of the limit: what was done in time is answered.
                    Ok(data) => match responder.answer(context, &data).await {
                        Ok(()) => Run::Succeeded,
                        Err(error) => Run::Failed(failure_of(&error.into())),
                    },
                    Err(failure) => Run::Failed(failure),
                },
                Err(invalid) => Run::Invalid(invalid),
            },
            Target::Replies => Run::Succeeded,
        }
    });
    run.catch_unwind().await.unwrap_or_else(|panic| {
        let reason = format!("the handler panicked: {}", panic_text(panic.as_ref()));
        Run::Failed(ErrorReply::new("panic", reason))
    })
}

/// A run within the subscription's limit.
async fn within<T>(entry: &Entry, running: impl Future<Output = Result<T, HandlerError>>) -> Result<T, ErrorReply> {
    let result = match entry.options.timeout {
        None => running.await,
        Some(limit) => tokio::time::timeout(limit, running).await.map_err(|_| {
            let reason = format!("the handler took longer than {limit:?}");
            ErrorReply::new("timeout", reason)
        })?,
    };
    result.map_err(|error| failure_of(&error))
}

fn failure_of(error: &HandlerError) -> ErrorReply {
    let chosen = error.downcast_ref::<ErrorReply>().cloned();
    chosen.unwrap_or_else(|| ErrorReply::new("error", error.to_string()))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

fn log_failure(entry: &Entry, context: &Context, attempt: u32, reason: &str) {
    let Some(unsaid) = entry.failed.say() else {
        return tracing::debug!(attempt, reason, "a handler failed");
    };
    let head = EnvelopeHead::peek(context.payload());
    tracing::warn!(
        topic = %context.topic(),
        filter = %entry.filter,
        event_type = head.as_ref().and_then(|head| head.event_type.as_deref()),
        correlation_id = head.as_ref().and_then(|head| head.correlation_id()),
        attempt,
        reason,
        unsaid,
        "a handler failed",
    );
}

#[derive(Serialize)]
struct DeadLetter<'a> {
    topic: &'a str,
    reason: &'a str,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope_id: Option<String>,
}

/// The last step of the failure policy. It ends when the dead letter is at the
/// broker: only then may the message be acknowledged.
async fn give_up(policy: &OnFailure, shared: &Arc<Shared>, context: &Context, attempts: u32, reason: &str) {
    let Some(Ok(topic)) = &policy.dead_letter else {
        return;
    };
    let info = DeadLetter {
        topic: context.topic().as_str(),
        reason,
        attempts,
        envelope_id: EnvelopeHead::peek(context.payload()).and_then(|head| head.id),
    };
    loop {
        let sent: Result<(), Error> = async {
            let payload = context.payload().clone();
            Publish::raw(shared.clone(), topic.clone(), payload)
                .qos(QoS::AtLeastOnce)
                .await?;
            let info_topic = format!("{topic}/info");
            Publish::event(shared.clone(), info_topic, "dead.letter", &info)
                .qos(QoS::AtLeastOnce)
                .await?;
            Ok(())
        }
        .await;
        match sent {
            Ok(()) => return count(&shared.stats.dead_lettered),
            Err(error) if error.is_transient() => {
                tracing::warn!(%topic, %error, "a dead letter could not be sent yet");
                tokio::time::sleep(shared.config.reconnect_max_delay).await;
            }
            Err(error) => {
                tracing::error!(%topic, %error, "a dead letter cannot be sent; the message is given up");
                return;
            }
        }
    }
}
