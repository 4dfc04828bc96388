//! B10: from the attempt that succeeds to all subscriptions restored and a message handled.

use anyhow::Result;

use super::process::Spawner;
use super::results::{Bound, Figure, Goal, Measure};
use super::{Plan, broker, counted, say, traffic};
use crate::peer::{Job, Side};

pub(super) async fn run(plan: &Plan, spawner: &Spawner) -> Result<Measure> {
    let mut measure = Measure::new(
        "B10",
        "Reconnect: until all is restored and a message handled, without the delay before the attempt",
    );
    let mut series: Vec<(u64, Vec<f64>)> = [1, 100, 1_000].map(|count| (count, Vec::new())).into();
    for round in 0..plan.rounds() {
        for (subscriptions, rounds) in &mut series {
            let mut broker = broker().persistence(true).start().await?;
            let job = Job {
                side: Side::Reconnect,
                messages: *subscriptions,
                topic: format!("bench/reconnect/{round}"),
                ..traffic::job(broker.port())
            };
            let mut process = spawner.start(&job).await?;
            process.go().await?;
            broker.restart().await?;
            process.done().await?;
            let took = process.end().await?.latencies[0] as f64 / 1e6;
            let who = counted(*subscriptions, "subscription");
            say("B10", &format!("{who}, round {}: {took:.2} ms", round + 1));
            rounds.push(took);
            broker.stop().await?;
        }
    }
    for (subscriptions, rounds) in series {
        let who = counted(subscriptions, "subscription");
        measure
            .figures
            .push(Figure::new("restored and handled", &who, "ms", rounds.clone()));
        let bound = if subscriptions > 100 { 50.0 } else { 10.0 };
        measure
            .goals
            .push(Goal::new(format!("{who}, ms"), Bound::AtMost(bound), rounds));
    }
    Ok(measure)
}
