//! The two clients and their broker, played through a schedule.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;
use tars_mqtt::{Client, Envelope, Error, ErrorKind, Fate, Lifecycle, LifecycleEvent, QoS, Receipt, ShutdownReport};
use tars_testkit::memory::{MemoryBroker, OverlapMode};
use tokio::time::{Instant, sleep, timeout};

use super::clients::{PATIENCE, SUBSCRIPTIONS, TOPIC, number, publisher, subscriber};
use super::ledger::{Ledger, Trouble};
use super::schedule::{Schedule, Step};

/// What became of a schedule.
pub(super) struct Played {
    /// The promises that were broken, in words.
    pub(super) problems: Vec<String>,
    /// All that happened: packets, runs of handlers, and events, each in order and with
    /// their times. Empty unless asked for: it costs more than the play.
    pub(super) trace: Vec<String>,
}

/// What became of the publishes of QoS 1 and 2.
#[derive(Default)]
pub(super) struct Outcome {
    /// They returned `Ok`.
    pub(super) accepted: BTreeSet<u64>,
    /// They failed and said that they were not sent.
    pub(super) not_sent: BTreeSet<u64>,
}

pub(super) struct World<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) broker: MemoryBroker,
    pub(super) ledger: Ledger,
    /// `pub` and `sub`, and what happened to them.
    clients: [Client; 2],
    lifecycles: [Lifecycle; 2],
    pub(super) events: Vec<(Instant, LifecycleEvent)>,
    published: u64,
    receipts: Vec<(u64, QoS, Receipt)>,
    /// How many clients were begun anew.
    renewed: u64,
    /// Packets that had arrived when the present process of `sub` began, or came back.
    pub(super) since: usize,
    /// Messages that the broker had taken in when `sub` was subscribed again after the
    /// broker had forgotten everything.
    pub(super) forgotten: usize,
    pub(super) problems: Vec<String>,
}

/// Longer than a watchdog takes with a silent link, at the clients' heartbeat of a second.
const WATCHED: Duration = Duration::from_secs(4);

const PUB: usize = 0;
const SUB: usize = 1;

impl<'a> World<'a> {
    pub(super) async fn play(schedule: &'a Schedule, traced: bool) -> Played {
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let begin = Instant::now();
        let mut world = match Self::begin(schedule).await {
            Ok(world) => world,
            Err(error) => return Played::failed(format!("did not begin: {error:?}")),
        };
        for step in &schedule.steps {
            if let Err(error) = world.step(step).await {
                return Played::failed(format!("{step:?} failed: {error:?}"));
            }
            world.note_events();
            world.check_bounds();
        }
        world.finish().await;
        let trace = if traced { world.trace(begin) } else { Vec::new() };
        let mut problems = world.problems;
        // The clients go with the world; what they left behind does not.
        drop((world.clients, world.broker));
        let left = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        if left > tasks {
            problems.push(format!("{} tasks were left", left - tasks));
        }
        Played { problems, trace }
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
            .with_latency(schedule.latency)
            .with_packet_record();
        let ledger = Ledger::default();
        let clients = [
            publisher(schedule, &broker, 0)?,
            subscriber(schedule, &broker, &ledger, 0)?,
        ];
        let lifecycles = [clients[PUB].lifecycle(), clients[SUB].lifecycle()];
        clients[SUB].connect().await?;
        broker.wait_until(is_subscribed).await;
        clients[PUB].connect().await?;
        Ok(Self {
            schedule,
            broker,
            ledger,
            clients,
            lifecycles,
            events: Vec::new(),
            published: 0,
            receipts: Vec::new(),
            renewed: 0,
            since: 0,
            forgotten: 0,
            problems: Vec::new(),
        })
    }

    async fn step(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Publish { events, qos } => {
                for _ in 0..*events {
                    self.publish(*qos).await?;
                }
            }
            Step::Wait(time) => sleep(*time).await,
            Step::FailRuns(runs) => self.ledger.book().trouble.fail += runs,
            Step::PanicRuns(runs) => self.ledger.book().trouble.panic += runs,
            Step::Slow(time) => self.ledger.book().trouble.slow = *time,
            Step::CutPublisher => drop(self.broker.cut("pub")),
            Step::CutSubscriber => drop(self.broker.cut("sub")),
            Step::Fault(fault) => self.broker.inject(fault.clone()),
            Step::Restart => self.broker.restart(true),
            Step::Away(time) => {
                self.broker.stop();
                sleep(*time).await;
                self.broker.start();
            }
            Step::Forget => {
                self.broker.restart(false);
                self.broker.wait_until(is_subscribed).await;
                self.forgotten = self.broker.published().len();
            }
            Step::Hang(time) => {
                self.broker.freeze();
                sleep(*time).await;
                self.broker.thaw();
            }
            Step::Churn { refused } => self.churn(*refused).await,
            Step::PauseSubscriber => {
                let began = Instant::now();
                let report = self.clients[SUB].disconnect().await?;
                self.check_end(report, began);
                self.clients[SUB].connect().await?;
                self.since = self.broker.packets().len();
            }
            Step::RestartSubscriber => {
                self.shut_down(SUB).await;
                self.renew(SUB).await?;
            }
            Step::KillSubscriber => self.renew(SUB).await?,
            Step::RestartPublisher => {
                self.shut_down(PUB).await;
                self.renew(PUB).await?;
            }
            Step::KillPublisher => self.renew(PUB).await?,
        }
        Ok(())
    }

    async fn publish(&mut self, qos: QoS) -> Result<(), Error> {
        let n = self.published;
        self.published += 1;
        let event = self.clients[PUB].publish_event(TOPIC, "sim.event", &json!({ "n": n }));
        match event.qos(qos).timeout(PATIENCE).accepted().await {
            Ok(receipt) => self.receipts.push((n, qos, receipt)),
            Err(error) if qos == QoS::AtMostOnce && error.kind() == ErrorKind::NotConnected => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// While the broker is away this waits; the schedule does not.
    async fn churn(&mut self, refused: bool) {
        if refused {
            self.broker.refuse_filter("sim/extra");
        }
        let client = self.clients[SUB].clone();
        let churn = async move {
            let extra = client.subscribe("sim/extra", async |_: Envelope| ()).await;
            match extra {
                Ok(extra) => extra.unsubscribe().await.map(|()| true),
                Err(error) => Err(error),
            }
        };
        let granted = timeout(Duration::from_secs(2), churn).await;
        if refused && matches!(granted, Ok(Ok(true))) {
            self.problems.push("a refused filter counted as granted".to_owned());
        }
        self.broker.allow_filter("sim/extra");
    }

    async fn shut_down(&mut self, which: usize) {
        let began = Instant::now();
        let report = self.clients[which].shutdown().await;
        self.check_end(report, began);
    }

    /// Before its deadline an orderly end cuts nothing off.
    fn check_end(&mut self, report: ShutdownReport, began: Instant) {
        let cut_off = report.handlers_cut_off > 0 || report.publishes_unsettled > 0;
        if cut_off && began.elapsed() < self.schedule.patience {
            self.problems
                .push(format!("after {:?} it was cut off: {report:?}", began.elapsed()));
        }
    }

    /// A new process takes the place of this client. Its last handle goes without a word.
    async fn renew(&mut self, which: usize) -> Result<(), Error> {
        self.note_events();
        self.renewed += 1;
        self.clients[which] = match which {
            PUB => publisher(self.schedule, &self.broker, self.renewed)?,
            _ => subscriber(self.schedule, &self.broker, &self.ledger, self.renewed)?,
        };
        self.lifecycles[which] = self.clients[which].lifecycle();
        self.clients[which].connect().await?;
        if which == SUB {
            self.since = self.broker.packets().len();
        }
        Ok(())
    }

    /// Lets everything settle, ends both clients, and checks.
    async fn finish(&mut self) {
        self.ledger.book().trouble = Trouble::default();
        self.broker.clear_faults();
        self.broker.thaw();
        self.broker.start();
        // A watchdog may be about to give up a link that the broker still counts.
        sleep(WATCHED).await;
        // One more, after all of it: whatever happened, this one arrives.
        self.broker.wait_until(is_subscribed).await;
        let last = self.published;
        if let Err(error) = self.publish(QoS::AtLeastOnce).await {
            self.problems.push(format!("the last publish failed: {error:?}"));
        }
        let outcome = self.settled().await;
        let mut due = self.due(&outcome);
        due.insert(last);
        self.handled(&due).await;
        due.extend(self.due(&outcome));
        self.check(&outcome, &due);
        for which in [PUB, SUB] {
            self.end(which).await;
        }
        self.note_events();
        self.check_delays();
    }

    /// Every publish settles; it fails only if its process ended before.
    async fn settled(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        for (n, qos, receipt) in std::mem::take(&mut self.receipts) {
            match timeout(PATIENCE * 2, receipt).await {
                Ok(Ok(_)) if qos == QoS::AtMostOnce => {}
                Ok(Ok(_)) => drop(outcome.accepted.insert(n)),
                Ok(Err(error)) if self.schedule.renews_publisher() && error.kind() == ErrorKind::Closed => {
                    if error.fate() == Some(Fate::NotSent) {
                        outcome.not_sent.insert(n);
                    }
                }
                Ok(Err(error)) => self.problems.push(format!("publish {n} failed: {error:?}")),
                Err(_) => self.problems.push(format!("publish {n} never settled")),
            }
        }
        outcome
    }

    /// Waits until everything due was handled, or nothing moves any more.
    async fn handled(&mut self, due: &BTreeSet<u64>) {
        let begin = Instant::now();
        loop {
            let everywhere = SUBSCRIPTIONS.iter().all(|name| {
                let counts = self.ledger.counts(name);
                due.iter().all(|n| counts.contains_key(n))
            });
            let settled = everywhere && self.broker.backlog("sub") == (0, 0);
            if settled || begin.elapsed() > PATIENCE {
                // Whatever would come twice has the time to.
                return sleep(Duration::from_secs(5)).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn end(&mut self, which: usize) {
        let (client, name) = (&self.clients[which], ["pub", "sub"][which]);
        let begin = Instant::now();
        let report = client.shutdown().await;
        if !report.is_complete() || !report.disconnected || begin.elapsed() > Duration::from_secs(10) {
            let text = format!("{name} ended with {report:?} after {:?}", begin.elapsed());
            self.problems.push(text);
        }
        if client.stats().unsettled != 0 {
            self.problems
                .push(format!("{name} has unsettled publishes after its end"));
        }
        let health = self.broker.retained(&format!("system/health/{name}"));
        let health = health.map(|health| String::from_utf8_lossy(&health.payload).into_owned());
        if !health.as_ref().is_some_and(|health| health.contains("shutdown")) {
            self.problems.push(format!("after its end {name} is {health:?}"));
        }
    }

    /// Queues are within their bounds, at every step.
    fn check_bounds(&mut self) {
        let unsettled = self.clients[PUB].stats().unsettled;
        if unsettled > self.schedule.outbox as u64 {
            self.problems.push(format!("{unsettled} publishes were unsettled"));
        }
        let (unacknowledged, _) = self.broker.backlog("sub");
        if unacknowledged > usize::from(self.schedule.window) {
            self.problems.push(format!("{unacknowledged} were unacknowledged"));
        }
    }

    fn note_events(&mut self) {
        let now = Instant::now();
        for lifecycle in &mut self.lifecycles {
            while let Some(Some(event)) = lifecycle.next().now_or_never() {
                self.events.push((now, event));
            }
        }
    }

    fn trace(&self, begin: Instant) -> Vec<String> {
        let packets = self.broker.packets();
        let packets = packets.iter().map(|packet| {
            let message = packet.message.as_ref();
            let n = message.and_then(number);
            let topic = message.map(|message| (message.topic.as_str(), message.qos, message.retain));
            let (id, what) = (&packet.client_id, (packet.way, packet.kind, packet.packet_id));
            line(begin, packet.at, &(id, what, topic, n))
        });
        let book = self.ledger.book();
        let runs = book.trace.iter().map(|(at, run)| line(begin, *at, run));
        let events = self.events.iter().map(|(at, event)| line(begin, *at, event));
        packets.chain(runs).chain(events).collect()
    }
}

fn line(begin: Instant, at: Instant, what: &impl Debug) -> String {
    format!("{:?} {what:?}", at - begin)
}

/// `sub` has its three filters.
fn is_subscribed(broker: &MemoryBroker) -> bool {
    let filters = broker.subscriptions("sub");
    SUBSCRIPTIONS
        .iter()
        .all(|name| filters.iter().any(|(filter, _)| filter.as_str() == *name))
}

impl Played {
    pub(super) fn failed(problem: String) -> Self {
        Self {
            problems: vec![problem],
            trace: Vec::new(),
        }
    }
}
