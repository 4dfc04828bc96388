//! The two clients and their broker, played through a schedule, and what must hold.
//!
//! Sessions are persistent and the broker keeps them, so the strongest promise holds:
//! every QoS 1 or 2 publish that returned `Ok` is handled by every subscription, with
//! deduplication on exactly once by a subscriber that lives on.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tars_mqtt::{Client, Config, Envelope, Error, OnFailure, QoS, Receipt, Route};
use tars_testkit::memory::{MemoryBroker, OverlapMode};
use tokio::time::{Instant, sleep};

use super::ledger::Ledger;
use super::schedule::{Schedule, Step};

/// Filters of `sub`: two that overlap, and one aside.
const SUBSCRIPTIONS: [&str; 3] = ["sim/#", "sim/+", "sim/event"];
/// Longer than everything a schedule can delay.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
struct Event {
    n: u64,
}

pub(super) struct World<'a> {
    schedule: &'a Schedule,
    broker: MemoryBroker,
    publisher: Client,
    subscriber: Client,
    ledger: Ledger,
    published: u64,
    receipts: Vec<(u64, QoS, Receipt)>,
    restarts: usize,
    problems: Vec<String>,
}

impl<'a> World<'a> {
    pub(super) async fn play(schedule: &'a Schedule) -> Result<(), String> {
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let mut world = Self::begin(schedule)
            .await
            .map_err(|error| format!("did not begin: {error:?}"))?;
        for step in &schedule.steps {
            world
                .step(*step)
                .await
                .map_err(|error| format!("{step:?} failed: {error:?}"))?;
        }
        world.finish().await;
        let Self { broker, problems, .. } = world;
        drop(broker);
        let mut problems = problems;
        let left = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        if left > tasks {
            problems.push(format!("{} tasks were left", left - tasks));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("; "))
        }
    }

    async fn begin(schedule: &'a Schedule) -> Result<Self, Error> {
        let mode = if schedule.copies {
            OverlapMode::CopyPerFilter
        } else {
            OverlapMode::OneCopy
        };
        let broker = MemoryBroker::new()
            .with_overlap(mode)
            .with_window(schedule.window)
            .with_latency(schedule.latency);
        let ledger = Ledger::default();
        let subscriber = subscriber(schedule, &broker, &ledger)?;
        let publisher = Client::builder(config(schedule, "pub")?)
            .connector(broker.connector())
            .seed(schedule.seed)
            .build()?;
        subscriber.connect().await?;
        broker
            .wait_until(|broker| broker.subscriptions("sub").len() >= SUBSCRIPTIONS.len())
            .await;
        publisher.connect().await?;
        Ok(Self {
            schedule,
            broker,
            publisher,
            subscriber,
            ledger,
            published: 0,
            receipts: Vec::new(),
            restarts: 0,
            problems: Vec::new(),
        })
    }

    async fn step(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::Publish { events, qos } => {
                for _ in 0..events {
                    let n = self.published;
                    let event = self
                        .publisher
                        .publish_event("sim/event", "sim.event", &json!({ "n": n }));
                    let receipt = event.qos(qos).timeout(PATIENCE).accepted().await?;
                    self.receipts.push((n, qos, receipt));
                    self.published += 1;
                }
            }
            Step::Wait(time) => sleep(time).await,
            Step::FailRuns(runs) => self.ledger.book().trouble.fail += runs,
            Step::PanicRuns(runs) => self.ledger.book().trouble.panic += runs,
            Step::Slow(time) => self.ledger.book().trouble.slow = time,
            Step::CutPublisher => drop(self.broker.cut("pub")),
            Step::CutSubscriber => drop(self.broker.cut("sub")),
            Step::Restart => self.broker.restart(true),
            Step::Away(time) => {
                self.broker.stop();
                sleep(time).await;
                self.broker.start();
            }
            Step::Hang(time) => {
                self.broker.freeze();
                sleep(time).await;
                self.broker.thaw();
            }
            Step::Churn => {
                // While the broker is away this waits; the schedule does not.
                let client = self.subscriber.clone();
                let churn = async move {
                    let extra = client.subscribe("sim/extra", async |_: Envelope| ()).await?;
                    extra.unsubscribe().await
                };
                let _ = tokio::time::timeout(Duration::from_secs(2), churn).await;
            }
            Step::RestartSubscriber => {
                self.subscriber.shutdown().await;
                self.restarts += 1;
                self.subscriber = subscriber(self.schedule, &self.broker, &self.ledger)?;
                self.subscriber.connect().await?;
            }
        }
        Ok(())
    }

    /// Lets everything settle, ends both clients, and checks.
    async fn finish(&mut self) {
        self.ledger.book().trouble = super::ledger::Trouble::default();
        self.broker.thaw();
        self.broker.start();
        let mut accepted = BTreeSet::new();
        for (n, _, receipt) in std::mem::take(&mut self.receipts) {
            match receipt.await {
                Ok(_) => drop(accepted.insert(n)),
                Err(error) => self.problems.push(format!("publish {n} failed: {error:?}")),
            }
        }
        self.handled(&accepted).await;
        self.nothing_is_lost_or_repeated(&accepted);
        self.everything_is_in_order();
        let backlog = self.broker.backlog("sub");
        if backlog != (0, 0) {
            self.problems
                .push(format!("{backlog:?} messages were left unacknowledged"));
        }
        for (name, client) in [("pub", &self.publisher), ("sub", &self.subscriber)] {
            let begin = Instant::now();
            let report = client.shutdown().await;
            if !report.is_complete() || begin.elapsed() > client.config().shutdown_timeout * 2 {
                self.problems
                    .push(format!("{name} ended with {report:?} after {:?}", begin.elapsed()));
            }
            if client.stats().unsettled != 0 {
                self.problems
                    .push(format!("{name} has unsettled publishes after its end"));
            }
        }
    }

    /// Waits until everything accepted was handled, or nothing moves any more.
    async fn handled(&mut self, accepted: &BTreeSet<u64>) {
        let begin = Instant::now();
        loop {
            let everywhere = SUBSCRIPTIONS
                .iter()
                .all(|name| self.ledger.counts(name).len() >= accepted.len());
            let settled = everywhere && self.broker.backlog("sub") == (0, 0);
            if settled || begin.elapsed() > PATIENCE {
                // Whatever would come twice has the time to.
                return sleep(Duration::from_secs(5)).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn nothing_is_lost_or_repeated(&mut self, accepted: &BTreeSet<u64>) {
        let sent: BTreeSet<u64> = self
            .broker
            .published()
            .iter()
            .filter_map(|m| number(&m.payload))
            .collect();
        if let Some(n) = accepted.iter().find(|n| !sent.contains(n)) {
            self.problems
                .push(format!("publish {n} returned Ok and never reached the broker"));
        }
        for name in SUBSCRIPTIONS {
            let counts = self.ledger.counts(name);
            if let Some(n) = accepted.iter().find(|n| !counts.contains_key(n)) {
                self.problems
                    .push(format!("{n} was accepted and never handled by {name}"));
            }
            // A new process has a new memory: it may run again what its predecessor had.
            let once = self.schedule.is_quiet() || self.schedule.dedupe && self.restarts == 0;
            if once && let Some((n, times)) = counts.iter().find(|(_, times)| **times > 1) {
                self.problems.push(format!("{n} was handled {times} times by {name}"));
            }
        }
    }

    /// Publishes of one QoS are handled in their order, with one worker.
    fn everything_is_in_order(&mut self) {
        if self.schedule.concurrency > 1 {
            return;
        }
        let published = self.broker.published();
        for name in SUBSCRIPTIONS {
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let of_qos: BTreeSet<u64> = published
                    .iter()
                    .filter(|m| m.qos == qos)
                    .filter_map(|m| number(&m.payload))
                    .collect();
                let order: Vec<u64> = self
                    .ledger
                    .order(name)
                    .into_iter()
                    .filter(|n| of_qos.contains(n))
                    .collect();
                if !order.is_sorted() {
                    self.problems
                        .push(format!("{name} handled QoS {qos} in the order {order:?}"));
                }
            }
        }
    }
}

fn number(payload: &[u8]) -> Option<u64> {
    Envelope::<Event>::from_bytes(payload).ok().map(|event| event.data.n)
}

fn config(schedule: &Schedule, client_id: &str) -> Result<Config, Error> {
    let config = Config::builder()
        .url("mqtt://memory")
        .client_id(client_id)
        .clean_session(false)
        .connect_retry(true)
        .enable_heartbeat(true)
        .heartbeat_interval(Duration::from_secs(1))
        .shutdown_timeout(Duration::from_secs(20))
        .outbox_messages(10_000)
        .publish_timeout(PATIENCE);
    let config = if schedule.dedupe {
        config.dedupe_ttl(PATIENCE * 2).dedupe_max_entries(100_000)
    } else {
        config
    };
    config.build()
}

fn subscriber(schedule: &Schedule, broker: &MemoryBroker, ledger: &Ledger) -> Result<Client, Error> {
    let mut builder = Client::builder(config(schedule, "sub")?)
        .connector(broker.connector())
        .seed(schedule.seed ^ 1);
    for name in SUBSCRIPTIONS {
        let ledger = ledger.clone();
        let handler = move |event: Envelope<Event>| {
            let ledger = ledger.clone();
            async move { ledger.run(name, event.data.n).await }
        };
        let policy = OnFailure::retry(20, Duration::from_millis(50));
        let route = Route::new(name, handler)
            .qos(QoS::ExactlyOnce)
            .concurrency(schedule.concurrency);
        builder = builder.route(route.on_failure(policy));
    }
    builder.build()
}
