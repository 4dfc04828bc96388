//! One publisher, one subscriber, and the clock: B1, B2, B3, B5, and B11 with many tasks.

use std::collections::BTreeMap;

use anyhow::Result;

use super::process::{Process, Spawner};
use super::results::{Bound, Figure, Goal, Measure};
use super::{Plan, ROUNDS, broker, say};
use crate::peer::{Job, Pace, Peer, Report, Side};

/// Of `data`.
pub(super) const SIZE: usize = 200;
/// Publishes in flight: the default of the client.
pub(super) const WINDOW: u16 = 100;

/// What one run of a traffic showed.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Messages a second, from the first publish to the last arrival.
    throughput: f64,
    /// CPU time per 10,000 messages, in milliseconds.
    publisher: f64,
    subscriber: f64,
}

/// A way to send, and which measures want it.
#[derive(Debug)]
struct Scenario {
    name: &'static str,
    qos: u8,
    pace: Pace,
    wanted_by: &'static [&'static str],
    messages: u64,
}

const PIPELINED_0: &str = "QoS 0";
const AWAITED_0: &str = "QoS 0, each awaited";
const PIPELINED_1: &str = "QoS 1, pipelined";
const AWAITED_1: &str = "QoS 1, each awaited";

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: PIPELINED_0,
        qos: 0,
        pace: Pace::Pipelined,
        wanted_by: &["B1", "B3", "B5"],
        messages: 100_000,
    },
    Scenario {
        name: AWAITED_0,
        qos: 0,
        pace: Pace::Awaited,
        wanted_by: &["B3"],
        messages: 100_000,
    },
    Scenario {
        name: PIPELINED_1,
        qos: 1,
        pace: Pace::Pipelined,
        wanted_by: &["B2", "B3", "B5"],
        messages: 60_000,
    },
    Scenario {
        name: AWAITED_1,
        qos: 1,
        pace: Pace::Awaited,
        wanted_by: &["B3"],
        messages: 20_000,
    },
];

/// Python is given so many times fewer.
const FEWER: u64 = 10;

type Runs = BTreeMap<(&'static str, Peer), Vec<Run>>;

pub(super) async fn run(plan: &Plan, spawner: &Spawner) -> Result<Vec<Measure>> {
    let wanted: Vec<&str> = ["B1", "B2", "B3", "B5"]
        .into_iter()
        .filter(|name| plan.wants(name))
        .collect();
    let (mut runs, mut notes) = (Runs::new(), Vec::new());
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut broker = broker().start().await?;
    for round in 0..ROUNDS {
        for scenario in &SCENARIOS {
            if !scenario.wanted_by.iter().any(|name| wanted.contains(name)) {
                continue;
            }
            let mut peers = peers(scenario, &wanted);
            if round % 2 == 1 {
                peers.reverse();
            }
            for peer in peers.into_iter().filter(|peer| spawner.has(*peer)) {
                let fewer = if peer == Peer::Python { FEWER } else { 1 };
                let job = Job {
                    peer,
                    qos: scenario.qos,
                    pace: scenario.pace,
                    messages: plan.messages(scenario.messages) / fewer,
                    topic: format!("bench/{}/{peer:?}/{round}", scenario.name.replace([' ', ','], "")),
                    ..job(broker.port())
                };
                let what = format!("{}, {}, round {}", scenario.name, peer.name(), round + 1);
                match one(spawner, &job).await? {
                    Ok(run) => {
                        say(wanted[0], &format!("{what}: {:.0} messages/s", run.throughput));
                        runs.entry((scenario.name, peer)).or_default().push(run);
                    }
                    Err(lost) => {
                        say(wanted[0], &format!("{what}: {lost}"));
                        notes.push(format!("No figure for {what}: {lost}."));
                    }
                }
            }
        }
    }
    broker.stop().await?;
    let measures = wanted.into_iter().map(|name| measure(name, &runs, &notes));
    Ok(measures.collect())
}

fn peers(scenario: &Scenario, wanted: &[&str]) -> Vec<Peer> {
    use Peer::{Limit, Ours, OursDedupe, OursPaho, Python, RawPaho, RawRumqttc};
    let against_python = wanted.contains(&"B3");
    let all = wanted
        .iter()
        .any(|name| *name != "B3" && scenario.wanted_by.contains(name));
    let mut peers = match scenario.name {
        PIPELINED_0 if all => vec![Limit, RawRumqttc, Ours, RawPaho, OursPaho, OursDedupe],
        PIPELINED_1 if all => vec![RawRumqttc, Ours, RawPaho, OursPaho, OursDedupe],
        // What is handed over is all there is to wait for at QoS 0.
        AWAITED_0 => vec![],
        AWAITED_1 => vec![RawRumqttc, Ours],
        _ => vec![Ours],
    };
    if against_python {
        peers.push(Python);
    }
    peers
}

/// The job that others vary.
pub(super) fn job(port: u16) -> Job {
    Job {
        peer: Peer::Ours,
        side: Side::Publish,
        port,
        topic: String::new(),
        qos: 0,
        messages: 0,
        size: SIZE,
        pace: Pace::Pipelined,
        tasks: 1,
        window: WINDOW,
        rate: 0,
    }
}

/// One traffic, or what is missing of it.
async fn one(spawner: &Spawner, job: &Job) -> Result<Result<Run, String>> {
    let (publisher, subscriber) = both(spawner, job).await?;
    if let Some(lost) = lost(job, &publisher, &subscriber) {
        return Ok(Err(lost));
    }
    let (messages, seconds) = (job.messages as f64, (subscriber.last - publisher.first) as f64 / 1e9);
    let cpu = |report: &Report| report.cpu as f64 / 1e6 / messages * 1e4;
    Ok(Ok(Run {
        throughput: messages / seconds,
        publisher: cpu(&publisher),
        subscriber: cpu(&subscriber),
    }))
}

/// What the two have seen.
pub(super) async fn both(spawner: &Spawner, job: &Job) -> Result<(Report, Report)> {
    let subscriber = Job {
        side: Side::Subscribe,
        ..job.clone()
    };
    let mut subscriber = spawner.start(&subscriber).await?;
    let publisher = spawner.start(job).await?;
    subscriber.go().await?;
    finish(publisher, subscriber).await
}

/// Starts the publisher; ends both when all has arrived, or nothing more comes.
pub(super) async fn finish(mut publisher: Process, mut subscriber: Process) -> Result<(Report, Report)> {
    publisher.go().await?;
    publisher.done().await?;
    subscriber.done().await?;
    Ok((publisher.end().await?, subscriber.end().await?))
}

pub(super) fn lost(job: &Job, publisher: &Report, subscriber: &Report) -> Option<String> {
    let all = (0..job.messages).sum::<u64>();
    if publisher.count != job.messages || subscriber.count != job.messages {
        let (out, arrived) = (publisher.count, subscriber.count);
        return Some(format!(
            "of {} messages {out} were published and {arrived} arrived",
            job.messages
        ));
    }
    let sum = subscriber.sum.filter(|sum| *sum != all)?;
    Some(format!(
        "the numbers that arrived make {sum}, not {all}: some came twice"
    ))
}

fn measure(name: &str, runs: &Runs, notes: &[String]) -> Measure {
    let of = |scenario: &'static str, peer: Peer, what: fn(&Run) -> f64| -> Vec<f64> {
        let runs = runs.get(&(scenario, peer)).map_or(&[][..], Vec::as_slice);
        runs.iter().map(what).collect()
    };
    let speed = |scenario, peer| of(scenario, peer, |run| run.throughput);
    let cpu = |scenario, peer| of(scenario, peer, |run| run.publisher + run.subscriber);
    let title = match name {
        "B1" => "Throughput, QoS 0, 200-byte data, one publisher and one subscriber",
        "B2" => "Throughput, QoS 1, pipelined",
        "B3" => "Against Python: throughput and CPU time",
        _ => "CPU time per 10,000 messages",
    };
    let mut measure = Measure::new(name, title);
    measure.notes.extend_from_slice(notes);
    let (ours, raw, python) = (Peer::Ours, Peer::RawRumqttc, Peer::Python);
    let figures = &mut measure.figures;
    let mut throughput = |scenarios: &[&'static str]| {
        for ((scenario, peer), runs) in runs.iter().filter(|((scenario, _), _)| scenarios.contains(scenario)) {
            let rounds = runs.iter().map(|run| run.throughput).collect();
            figures.push(Figure::new(*scenario, peer.name(), "messages/s", rounds));
        }
    };
    let goals = &mut measure.goals;
    let mut ratio = |what: &str, bound, over: &[f64], under: &[f64]| {
        goals.push(Goal::ratio(what, bound, over, under));
    };
    match name {
        "B1" => {
            throughput(&[PIPELINED_0]);
            let ours = speed(PIPELINED_0, ours);
            ratio(
                "ours ÷ raw rumqttc",
                Bound::AtLeast(0.95),
                &ours,
                &speed(PIPELINED_0, raw),
            );
            ratio(
                "ours ÷ limit",
                Bound::AtLeast(0.85),
                &ours,
                &speed(PIPELINED_0, Peer::Limit),
            );
        }
        "B2" => {
            throughput(&[PIPELINED_1]);
            let (ours, raw) = (speed(PIPELINED_1, ours), speed(PIPELINED_1, raw));
            ratio("ours ÷ raw rumqttc", Bound::AtLeast(1.0), &ours, &raw);
            ratio("the same, lower bound (95 %)", Bound::SurelyAtLeast(0.97), &ours, &raw);
        }
        "B3" => {
            throughput(&[PIPELINED_0, AWAITED_0, PIPELINED_1, AWAITED_1]);
            let best = |scenarios: [&'static str; 2], what: fn(&Run) -> f64, better: fn(f64, f64) -> f64| {
                let [one, other] = scenarios.map(|scenario| of(scenario, python, what));
                let pairs = one.into_iter().zip(other).map(|(one, other)| better(one, other));
                pairs.collect::<Vec<f64>>()
            };
            let speeds: fn(&Run) -> f64 = |run| run.throughput;
            let cpus: fn(&Run) -> f64 = |run| run.publisher + run.subscriber;
            let (at_0, at_1) = ([PIPELINED_0, AWAITED_0], [PIPELINED_1, AWAITED_1]);
            let tenfold = Bound::AtLeast(10.0);
            ratio(
                "QoS 0: ours ÷ its best",
                tenfold,
                &speed(PIPELINED_0, ours),
                &best(at_0, speeds, f64::max),
            );
            ratio(
                "QoS 1 pipelined: ours ÷ its best",
                tenfold,
                &speed(PIPELINED_1, ours),
                &best(at_1, speeds, f64::max),
            );
            let tenth = Bound::AtMost(0.1);
            ratio(
                "CPU, QoS 0: ours ÷ its best",
                tenth,
                &cpu(PIPELINED_0, ours),
                &best(at_0, cpus, f64::min),
            );
            ratio(
                "CPU, QoS 1: ours ÷ its best",
                tenth,
                &cpu(PIPELINED_1, ours),
                &best(at_1, cpus, f64::min),
            );
        }
        _ => {
            for ((scenario, peer), runs) in runs {
                for (side, what) in [
                    ("publisher", (|run| run.publisher) as fn(&Run) -> f64),
                    ("subscriber", |run| run.subscriber),
                ] {
                    let rounds = runs.iter().map(what).collect();
                    let what = format!("{scenario}, {side}");
                    figures.push(Figure::new(what, peer.name(), "ms per 10,000", rounds));
                }
            }
            for scenario in [PIPELINED_0, PIPELINED_1] {
                let what = format!("{scenario}: ours ÷ raw rumqttc, both sides");
                ratio(&what, Bound::AtMost(1.15), &cpu(scenario, ours), &cpu(scenario, raw));
            }
        }
    }
    measure
}

/// B11: tasks that share one client.
pub(super) async fn many_publishers(plan: &Plan, spawner: &Spawner) -> Result<Measure> {
    const TASKS: [u64; 3] = [1, 8, 64];
    let mut measure = Measure::new("B11", "Many publishing tasks on one client, QoS 1");
    let mut broker = broker().start().await?;
    for (pace, name) in [(Pace::Awaited, "each awaited"), (Pace::Pipelined, "pipelined")] {
        let mut series = vec![Vec::new(); TASKS.len()];
        for round in 0..ROUNDS {
            for (at, tasks) in TASKS.into_iter().enumerate() {
                let job = Job {
                    qos: 1,
                    pace,
                    tasks,
                    messages: plan.messages(30_000),
                    topic: format!("bench/tasks/{pace:?}/{tasks}/{round}"),
                    ..job(broker.port())
                };
                let what = format!("{tasks} tasks, {name}, round {}", round + 1);
                match one(spawner, &job).await? {
                    Ok(run) => {
                        say("B11", &format!("{what}: {:.0} messages/s", run.throughput));
                        series[at].push(run.throughput);
                    }
                    Err(lost) => measure.notes.push(format!("No figure for {what}: {lost}.")),
                }
            }
        }
        for (at, tasks) in TASKS.into_iter().enumerate() {
            let who = format!("{tasks} tasks");
            measure
                .figures
                .push(Figure::new(name, who, "messages/s", series[at].clone()));
            let fewer = (0..at).max_by(|a, b| {
                let median = |at: &usize| super::statistics::median(&series[*at]);
                median(a).total_cmp(&median(b))
            });
            if let Some(best) = fewer {
                let what = format!("{name}: {tasks} tasks ÷ the best of fewer");
                measure
                    .goals
                    .push(Goal::ratio(what, Bound::AtLeast(0.9), &series[at], &series[best]));
            }
        }
    }
    broker.stop().await?;
    Ok(measure)
}
