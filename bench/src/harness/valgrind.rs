//! B12: instructions per message, counted by valgrind's callgrind. They hardly depend on what else
//! the machine does; between two runs of different length the start-up falls out.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::process::Spawner;
use super::results::{Figure, Measure};
use super::{Plan, broker, say, traffic};
use crate::peer::{Job, Peer, Side};

/// Few enough, for callgrind is some fifty times slower.
const LENGTHS: [u64; 2] = [2_000, 10_000];

pub(super) async fn run(_: &Plan, spawner: &Spawner) -> Result<Measure> {
    let mut measure = Measure::new("B12", "Instructions per message in user code, whole process");
    if std::process::Command::new("valgrind")
        .arg("--version")
        .output()
        .is_err()
    {
        measure
            .notes
            .push("valgrind is missing: `cargo xtask test --only tools` installs it.".to_owned());
        return Ok(measure);
    }
    let mut broker = broker().start().await?;
    for (side, doing) in [(Side::Publish, "publish"), (Side::Subscribe, "receive")] {
        for qos in [0, 1] {
            for peer in [Peer::RawRumqttc, Peer::Ours, Peer::OursDedupe] {
                if side == Side::Publish && peer == Peer::OursDedupe {
                    continue;
                }
                let what = format!("{doing}, QoS {qos}");
                let mut counts = Vec::new();
                for messages in LENGTHS {
                    let job = Job {
                        peer,
                        qos,
                        messages,
                        topic: format!("bench/valgrind/{side:?}/{qos}/{peer:?}/{messages}"),
                        ..traffic::job(broker.port())
                    };
                    match instructions(spawner, &job, side).await? {
                        Ok(count) => counts.push(count),
                        Err(lost) => measure
                            .notes
                            .push(format!("No figure for {what}, {}: {lost}.", peer.name())),
                    }
                }
                let [short, long] = counts[..] else { continue };
                let each = long.saturating_sub(short) as f64 / (LENGTHS[1] - LENGTHS[0]) as f64;
                say("B12", &format!("{what}, {}: {each:.0} instructions", peer.name()));
                measure
                    .figures
                    .push(Figure::new(what, peer.name(), "instructions", vec![each]));
            }
        }
    }
    broker.stop().await?;
    Ok(measure)
}

/// Of the side in question, from its start to its end; or what was lost.
async fn instructions(spawner: &Spawner, job: &Job, counted: Side) -> Result<Result<u64, String>> {
    let out = std::env::temp_dir().join(format!("tars-callgrind-{}.out", std::process::id()));
    let arguments = [
        "--quiet".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", out.display()),
    ];
    let subscriber = Job {
        side: Side::Subscribe,
        ..job.clone()
    };
    let (subscriber, publisher) = if counted == Side::Subscribe {
        let subscriber = spawner.start_under("valgrind", &arguments, &subscriber).await?;
        (subscriber, spawner.start(job).await?)
    } else {
        let subscriber = spawner.start(&subscriber).await?;
        (subscriber, spawner.start_under("valgrind", &arguments, job).await?)
    };
    if let Err(lost) = traffic::finish(job, publisher, subscriber).await? {
        return Ok(Err(lost));
    }
    let count = summary(&out)?;
    std::fs::remove_file(&out)?;
    Ok(Ok(count))
}

/// The line `summary: N` (or `totals: N`) of callgrind's file.
fn summary(path: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = text.lines().rev().find_map(|line| {
        let (name, number) = line.split_once(": ")?;
        ["summary", "totals"].contains(&name).then_some(number)
    });
    Ok(line.context("callgrind counted nothing")?.trim().parse()?)
}
