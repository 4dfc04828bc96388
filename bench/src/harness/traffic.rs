//! One publisher, one subscriber, and the clock: B1, B2, B3, B5, and B11 with many tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use tokio::time::timeout;

use super::process::{Process, Spawner};
use super::results::{Bound, Figure, Goal, Measure};
use super::{Plan, broker, counted, say};
use crate::peer::{Job, Pace, Peer, Report, Side};

/// Of `data`.
pub(super) const SIZE: usize = 200;
/// Publishes in flight: the default of the client.
pub(super) const WINDOW: u16 = 100;

/// After the last publish: far above what the slowest peer takes to catch up.
const LAST_ARRIVAL: Duration = Duration::from_secs(60);

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
    /// Python is given fewer, for as long a run.
    python: u64,
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
        messages: 200_000,
        python: 20_000,
    },
    Scenario {
        name: AWAITED_0,
        qos: 0,
        pace: Pace::Awaited,
        wanted_by: &["B3"],
        messages: 0,
        python: 15_000,
    },
    Scenario {
        name: PIPELINED_1,
        qos: 1,
        pace: Pace::Pipelined,
        wanted_by: &["B2", "B3", "B5"],
        messages: 100_000,
        python: 15_000,
    },
    Scenario {
        name: AWAITED_1,
        qos: 1,
        pace: Pace::Awaited,
        wanted_by: &["B3"],
        messages: 20_000,
        python: 6_000,
    },
];

/// Round by round; `None` is a round without a figure.
type Runs = BTreeMap<(&'static str, Peer), Vec<Option<Run>>>;

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
    for round in 0..plan.rounds() {
        for scenario in &SCENARIOS {
            if !scenario.wanted_by.iter().any(|name| wanted.contains(name)) {
                continue;
            }
            let mut peers = peers(scenario, &wanted);
            if round % 2 == 1 {
                peers.reverse();
            }
            for peer in peers.into_iter().filter(|peer| spawner.has(*peer)) {
                let messages = if peer == Peer::Python {
                    scenario.python
                } else {
                    scenario.messages
                };
                let job = Job {
                    peer,
                    qos: scenario.qos,
                    pace: scenario.pace,
                    messages: plan.messages(messages),
                    topic: format!("bench/{}/{peer:?}/{round}", scenario.name.replace([' ', ','], "")),
                    ..job(broker.port())
                };
                let what = format!("{}, {}, round {}", scenario.name, peer.name(), round + 1);
                let run = one(spawner, &job).await?;
                match &run {
                    Ok(run) => say(wanted[0], &format!("{what}: {:.0} messages/s", run.throughput)),
                    Err(lost) => {
                        say(wanted[0], &format!("{what}: {lost}"));
                        notes.push(format!("No figure for {what}: {lost}."));
                    }
                }
                runs.entry((scenario.name, peer)).or_default().push(run.ok());
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
        PIPELINED_1 if all => vec![Limit, RawRumqttc, Ours, RawPaho, OursPaho, OursDedupe],
        // What is handed over is all there is to wait for at QoS 0.
        AWAITED_0 => vec![],
        AWAITED_1 => vec![RawRumqttc, Ours],
        _ => vec![Limit, Ours],
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
    Ok(both(spawner, job).await?.map(|(publisher, subscriber)| {
        let (messages, seconds) = (job.messages as f64, (subscriber.last - publisher.first) as f64 / 1e9);
        let cpu = |report: &Report| report.cpu as f64 / 1e6 / messages * 1e4;
        Run {
            throughput: messages / seconds,
            publisher: cpu(&publisher),
            subscriber: cpu(&subscriber),
        }
    }))
}

/// What the two have seen, or what is missing of it.
pub(super) async fn both(spawner: &Spawner, job: &Job) -> Result<Result<(Report, Report), String>> {
    let subscriber = Job {
        side: Side::Subscribe,
        ..job.clone()
    };
    let subscriber = spawner.start(&subscriber).await?;
    let publisher = spawner.start(job).await?;
    finish(job, publisher, subscriber).await
}

/// Starts the traffic; ends both when all has arrived, or nothing more comes.
pub(super) async fn finish(
    job: &Job,
    mut publisher: Process,
    mut subscriber: Process,
) -> Result<Result<(Report, Report), String>> {
    subscriber.go().await?;
    publisher.go().await?;
    publisher.done().await?;
    let Ok(done) = timeout(LAST_ARRIVAL, subscriber.done()).await else {
        return Ok(Err(format!(
            "{} messages were published, and {LAST_ARRIVAL:?} later not all had arrived",
            job.messages
        )));
    };
    done?;
    let (publisher, subscriber) = (publisher.end().await?, subscriber.end().await?);
    Ok(match lost(job, &publisher, &subscriber) {
        None => Ok((publisher, subscriber)),
        Some(lost) => Err(lost),
    })
}

fn lost(job: &Job, publisher: &Report, subscriber: &Report) -> Option<String> {
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

/// Of each round; what was lost is no number.
fn rounds(runs: &[Option<Run>], what: fn(&Run) -> f64) -> Vec<f64> {
    runs.iter().map(|run| run.as_ref().map_or(f64::NAN, what)).collect()
}

fn measure(name: &str, runs: &Runs, notes: &[String]) -> Measure {
    let of = |scenario: &'static str, peer: Peer, what: fn(&Run) -> f64| -> Vec<f64> {
        let runs = runs.get(&(scenario, peer)).map_or(&[][..], Vec::as_slice);
        rounds(runs, what)
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
            let rounds = rounds(runs, |run| run.throughput);
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
            let limit = speed(PIPELINED_1, Peer::Limit);
            figures.push(Figure::ratio(
                format!("{PIPELINED_1}, ratio"),
                "ours ÷ limit",
                &ours,
                &limit,
            ));
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
            for (scenario, tried) in [(PIPELINED_0, at_0), (PIPELINED_1, at_1)] {
                let (limit, its_best) = (speed(scenario, Peer::Limit), best(tried, speeds, f64::max));
                let possible = Figure::ratio(format!("{scenario}, ratio"), "limit ÷ python's best", &limit, &its_best);
                if possible.median() < 10.0 {
                    measure.notes.push(format!(
                        "{scenario}: the broker is the bound. Even the limit, which neither writes nor reads an \
                         envelope, is {:.1} times as fast as Python's best, so here nobody reaches 10 times.",
                        possible.median()
                    ));
                }
                let of_it = Figure::ratio(
                    format!("{scenario}, ratio"),
                    "ours ÷ limit",
                    &speed(scenario, ours),
                    &limit,
                );
                figures.extend([possible, of_it]);
            }
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
                    let rounds = rounds(runs, what);
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
    /// Three seconds of the fastest.
    const MESSAGES: u64 = 120_000;
    let mut measure = Measure::new("B11", "Many publishing tasks on one client, QoS 1");
    let mut broker = broker().start().await?;
    for (pace, name) in [(Pace::Awaited, "each awaited"), (Pace::Pipelined, "pipelined")] {
        let mut series = vec![Vec::new(); TASKS.len()];
        for round in 0..plan.rounds() {
            let mut turns: Vec<usize> = (0..TASKS.len()).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for at in turns {
                let tasks = TASKS[at];
                let job = Job {
                    qos: 1,
                    pace,
                    tasks,
                    // One task that awaits each publish is several times slower.
                    messages: plan.messages(if (pace, tasks) == (Pace::Awaited, 1) {
                        MESSAGES / 3
                    } else {
                        MESSAGES
                    }),
                    topic: format!("bench/tasks/{pace:?}/{tasks}/{round}"),
                    ..job(broker.port())
                };
                let what = format!("{}, {name}, round {}", counted(tasks, "task"), round + 1);
                let run = one(spawner, &job).await?;
                match &run {
                    Ok(run) => say("B11", &format!("{what}: {:.0} messages/s", run.throughput)),
                    Err(lost) => measure.notes.push(format!("No figure for {what}: {lost}.")),
                }
                series[at].push(run.map_or(f64::NAN, |run| run.throughput));
            }
        }
        for (at, tasks) in TASKS.into_iter().enumerate() {
            let who = counted(tasks, "task");
            measure
                .figures
                .push(Figure::new(name, &who, "messages/s", series[at].clone()));
            let fewer = (0..at).max_by(|a, b| {
                let median = |at: usize| Figure::new("", "", "", series[at].clone()).median();
                median(*a).total_cmp(&median(*b))
            });
            if let Some(best) = fewer {
                let what = format!("{name}: {who} ÷ the best of fewer");
                measure
                    .goals
                    .push(Goal::ratio(what, Bound::AtLeast(0.9), &series[at], &series[best]));
            }
        }
    }
    broker.stop().await?;
    Ok(measure)
}
