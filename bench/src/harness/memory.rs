//! B9: memory of an idle client, offline at the bound, and over a long run.

use anyhow::Result;

use super::process::Spawner;
use super::results::{Bound, Figure, Goal, Measure};
use super::statistics::median;
use super::{Plan, broker, say, traffic};
use crate::peer::{Job, Peer, Side};

const MIB: f64 = (1 << 20) as f64;

pub(super) async fn run(plan: &Plan, spawner: &Spawner) -> Result<Measure> {
    let mut measure = Measure::new("B9", "Memory, resident");
    let mut broker = broker().start().await?;
    let (mut bare, mut idle) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds() {
        for (peer, series) in [(Peer::Limit, &mut bare), (Peer::Ours, &mut idle)] {
            let job = Job {
                peer,
                side: Side::Idle,
                topic: format!("bench/idle/{round}"),
                ..traffic::job(broker.port())
            };
            let mut process = spawner.start(&job).await?;
            process.go().await?;
            process.done().await?;
            series.push(process.end().await?.resident as f64 / MIB);
        }
    }
    say(
        "B9",
        &format!(
            "idle: {:.2} MiB, a bare tokio program {:.2} MiB",
            median(&idle),
            median(&bare)
        ),
    );
    let above = idle.iter().zip(&bare).map(|(idle, bare)| idle - bare).collect();
    measure
        .figures
        .push(Figure::new("idle", "bare tokio program", "MiB", bare));
    measure.figures.push(Figure::new("idle", "ours (rumqttc)", "MiB", idle));
    measure.goals.push(Goal::new(
        "idle, MiB above a bare tokio program",
        Bound::AtMost(2.0),
        above,
    ));

    let job = Job {
        qos: 1,
        messages: plan.messages(1_000_000),
        topic: "bench/long".to_owned(),
        ..traffic::job(broker.port())
    };
    match traffic::both(spawner, &job).await? {
        Err(lost) => measure.notes.push(format!("No figure for the long run: {lost}.")),
        Ok((publisher, subscriber)) => {
            for (who, report) in [("publisher", publisher), ("subscriber", subscriber)] {
                let tenths: Vec<f64> = report
                    .resident_on_the_way
                    .iter()
                    .map(|bytes| *bytes as f64 / MIB)
                    .collect();
                // After the first three tenths everything has been allocated once.
                let (early, late) = (median(&tenths[2..5]), median(&tenths[7..]));
                say(
                    "B9",
                    &format!(
                        "{who} over {} messages: {early:.2} MiB, then {late:.2} MiB",
                        job.messages
                    ),
                );
                measure.figures.push(Figure::new(
                    format!("{} messages, after each tenth", job.messages),
                    who,
                    "MiB",
                    tenths,
                ));
                let what = format!("{who}: last tenths ÷ third to fifth");
                measure
                    .goals
                    .push(Goal::new(what, Bound::AtMost(1.05), vec![late / early]));
            }
        }
    }

    let job = Job {
        side: Side::Offline,
        messages: plan.messages(100_000),
        topic: "bench/offline".to_owned(),
        ..traffic::job(broker.port())
    };
    let mut process = spawner.start(&job).await?;
    process.go().await?;
    broker.stop().await?;
    process.done().await?;
    let report = process.end().await?;
    let [before, after] = [0, 1].map(|at| report.resident_on_the_way[at] as f64 / MIB);
    say(
        "B9",
        &format!(
            "{} offline publishes: {before:.2} MiB, then {after:.2} MiB",
            job.messages
        ),
    );
    measure.figures.push(Figure::new(
        "offline, before and after",
        "ours (rumqttc)",
        "MiB",
        vec![before, after],
    ));
    let what = "MiB more after publishes with fail_fast while offline, the outbox full";
    measure
        .goals
        .push(Goal::new(what, Bound::AtMost(1.0), vec![after - before]));
    let taken = format!(
        "Of {} publishes with fail_fast while offline and at the bound, {} were taken in, the others refused at once.",
        job.messages, report.count
    );
    measure.notes.push(taken);
    Ok(measure)
}
