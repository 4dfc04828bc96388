//! What came of it: counts, and the verdict.

mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Plan;
use super::fleet::FLEET;
use super::ledger::Book;
use super::line::Event;
use super::schedule::{Fault, Step};

/// Resident memory in KiB that no service may exceed: four times of what they need.
const MEMORY: u64 = 48 * 1024;

/// Events that are named where some are lost or handled twice.
const NAMED: usize = 10;

/// See [`run`](super::run).
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    begin: Instant,
    steps: Vec<(Duration, Step)>,
    faults: BTreeMap<&'static str, u64>,
    subscriptions: Vec<Row>,
    services: Vec<Health>,
    attempted: u64,
    accepted: u64,
    problems: Vec<String>,
    time: Duration,
    /// Of ends of a service, beyond the verdict.
    costs: Vec<String>,
    pub(super) logs: Option<PathBuf>,
}

/// Of a subscription.
#[derive(Debug)]
struct Row {
    name: String,
    handled: usize,
    /// And when they were accepted.
    lost: Vec<(Event, Duration)>,
    forgotten: usize,
    repeated: Vec<Event>,
    again: u64,
    cut_off: u64,
}

/// Of a service.
#[derive(Debug, Default)]
struct Health {
    /// In KiB, one for each step.
    memory: Vec<u64>,
    lives: u32,
    connects: u64,
    sessions_lost: u64,
    longest_outage: Duration,
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            begin: Instant::now(),
            steps: Vec::new(),
            faults: BTreeMap::new(),
            subscriptions: Vec::new(),
            services: FLEET.iter().map(|_| Health::default()).collect(),
            attempted: 0,
            accepted: 0,
            problems: Vec::new(),
            time: Duration::ZERO,
            costs: Vec::new(),
            logs: None,
        }
    }

    pub(super) fn problem(&mut self, what: String) {
        self.problems.push(what);
    }

    /// What so many of these lost, without any other fault.
    pub(super) fn cost(&mut self, fault: Fault, times: usize, lost: usize) {
        let (kind, each) = (fault.kind(), lost as f64 / times as f64);
        self.costs
            .push(format!("{kind}, {times} times: {lost} messages lost, {each:.1} each"));
    }

    pub(super) fn step(&mut self, step: Step) {
        self.steps.push((self.begin.elapsed(), step));
        *self.faults.entry(step.fault.kind()).or_default() += 1;
    }

    pub(super) fn memory(&mut self, samples: &[Option<u64>]) {
        for (service, sample) in self.services.iter_mut().zip(samples) {
            service.memory.extend(*sample);
        }
    }

    pub(super) fn take(&mut self, book: &Book) {
        self.time = self.begin.elapsed();
        self.attempted = book.attempted();
        self.accepted = book.accepted();
        self.problems.extend(book.problems.iter().cloned());
        for (health, attendance) in self.services.iter_mut().zip(&book.services) {
            health.lives = attendance.life;
            health.connects = attendance.connects;
            health.sessions_lost = attendance.sessions_lost;
            health.longest_outage = attendance.longest_outage;
        }
        let rows = book.subscriptions.iter().map(|one| Row {
            name: format!("{} {}", one.service, one.listening.filter),
            handled: one.handled(),
            lost: one.lost().map(|(event, at)| (*event, *at - self.begin)).collect(),
            forgotten: one.forgotten.len(),
            repeated: one.repeated.iter().copied().collect(),
            again: one.again,
            cut_off: one.cut_off,
        });
        self.subscriptions = rows.collect();
        self.judge();
    }

    fn judge(&mut self) {
        let mut problems = Vec::new();
        for row in &self.subscriptions {
            let lost = row.lost.iter().map(|(event, at)| {
                let at = at.as_secs_f64();
                format!("{event} (accepted at {at:.2} s)")
            });
            let repeated = row.repeated.iter().map(ToString::to_string);
            for (events, what) in [
                (lost.collect::<Vec<_>>(), "never handled"),
                (repeated.collect(), "handled twice in one life"),
            ] {
                if !events.is_empty() {
                    let named = events[..events.len().min(NAMED)].join(", ");
                    problems.push(format!("{}: {} {what}, such as {named}", row.name, events.len()));
                }
            }
        }
        for (service, health) in FLEET.iter().zip(&self.services) {
            let most = health.memory.iter().max().copied().unwrap_or_default();
            if most > MEMORY {
                problems.push(format!("{} had {} MiB of memory", service.name, most / 1024));
            }
        }
        if !self.has_enough(self.accepted) {
            let Plan {
                broker_kills,
                service_kills,
                messages,
                ..
            } = self.plan;
            problems.push(format!(
                "too little happened: broker kills {} of {broker_kills}, service kills {} of {service_kills}, \
                 messages {} of {messages}",
                self.broker_kills(),
                self.service_kills(),
                self.accepted
            ));
        }
        self.problems.append(&mut problems);
    }

    /// Whether nothing was lost, nothing handled twice, and nothing else was wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    fn count(&self, is_so: impl Fn(&Fault) -> bool) -> u64 {
        self.steps.iter().filter(|(_, step)| is_so(&step.fault)).count() as u64
    }

    fn broker_kills(&self) -> u64 {
        self.count(Fault::ends_broker)
    }

    fn service_kills(&self) -> u64 {
        self.count(|fault| matches!(fault, Fault::KillWorker(_)))
    }

    pub(super) fn has_enough(&self, accepted: u64) -> bool {
        let least = if self.plan.acknowledges_after_success() {
            self.plan.service_kills
        } else {
            0
        };
        self.broker_kills() >= self.plan.broker_kills && self.service_kills() >= least && accepted >= self.plan.messages
    }

    pub(super) fn progress(&self, at: Duration, accepted: u64) -> String {
        format!(
            "{:>4} s: {} broker kills, {} service kills, {} faults in all, {accepted} messages",
            at.as_secs(),
            self.broker_kills(),
            self.service_kills(),
            self.steps.len()
        )
    }

    fn sum(&self, of: impl Fn(&Row) -> usize) -> usize {
        self.subscriptions.iter().map(of).sum()
    }
}
