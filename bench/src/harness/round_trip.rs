//! B4: a request and its response, against two hops by hand.

use anyhow::Result;

use super::process::Spawner;
use super::results::{Bound, Figure, Goal, Measure};
use super::statistics::quantile;
use super::{Plan, broker, say, traffic};
use crate::peer::{Job, Peer, Side};

const RATE: u64 = 200;

/// A round lasts ten seconds, and two requests lie above its 99.9th percentile. In the short form five lie
/// above the 99th.
const REQUESTS: u64 = 2_000;
const REQUESTS_QUICK: u64 = 500;

/// Where a delayed acknowledgement would show.
const STEP: f64 = 35_000.0;

pub(super) async fn run(plan: &Plan, spawner: &Spawner) -> Result<Measure> {
    let mut measure = Measure::new("B4", "Request and response, 200 a second: round trip");
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
    let peers = [Peer::RawRumqttc, Peer::Ours];
    let requests = if plan.quick { REQUESTS_QUICK } else { REQUESTS };
    // Microseconds, by peer and quantile; and all of them, by peer.
    let mut series = vec![vec![Vec::new(); quantiles.len()]; peers.len()];
    let mut all = vec![Vec::new(); peers.len()];
    let mut broker = broker().start().await?;
    for round in 0..plan.rounds() {
        let mut turns: Vec<usize> = (0..peers.len()).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for at in turns {
            let peer = peers[at];
            let job = Job {
                peer,
                side: Side::Request,
                messages: requests,
                rate: RATE,
                topic: format!("bench/request/{peer:?}/{round}"),
                ..traffic::job(broker.port())
            };
            let responder = Job {
                side: Side::Respond,
                ..job.clone()
            };
            let mut responder = spawner.start(&responder).await?;
            let mut requester = spawner.start(&job).await?;
            responder.go().await?;
            requester.go().await?;
            requester.done().await?;
            let report = requester.end().await?;
            responder.done().await?;
            responder.end().await?;
            if report.count != requests {
                let (name, replies) = (peer.name(), report.count);
                measure
                    .notes
                    .push(format!("No figure: {name} got {replies} of {requests} replies."));
                for quantiles in &mut series[at] {
                    quantiles.push(f64::NAN);
                }
                continue;
            }
            let latencies: Vec<f64> = report.latencies.iter().map(|latency| *latency as f64 / 1e3).collect();
            for (quantiles, (_, fraction)) in series[at].iter_mut().zip(quantiles) {
                quantiles.push(quantile(&latencies, fraction));
            }
            let (p50, p99) = (quantile(&latencies, 0.5), quantile(&latencies, 0.99));
            say(
                "B4",
                &format!("{}, round {}: p50 {p50:.0} µs, p99 {p99:.0} µs", peer.name(), round + 1),
            );
            all[at].extend(latencies);
        }
    }
    broker.stop().await?;
    measure.notes.push(format!(
        "{requests} requests a round and {} rounds of each; a percentile is that of one round, its median that of all.",
        plan.rounds()
    ));
    for (at, peer) in peers.into_iter().enumerate() {
        for (rounds, (name, _)) in series[at].iter().zip(quantiles) {
            measure
                .figures
                .push(Figure::new(name, peer.name(), "µs", rounds.clone()));
        }
        // For the plot: the distribution over all rounds.
        let spread = (0..=100).map(|percent| quantile(&all[at], f64::from(percent) / 100.0));
        measure.figures.push(Figure::new(
            "percentiles 0 to 100 of all rounds",
            peer.name(),
            "µs",
            spread.collect(),
        ));
    }
    let [raw, ours] = [&series[0], &series[1]];
    measure
        .goals
        .push(Goal::ratio("p50: ours ÷ raw", Bound::AtMost(1.25), &ours[0], &raw[0]));
    measure
        .goals
        .push(Goal::ratio("p99: ours ÷ raw", Bound::AtMost(1.5), &ours[1], &raw[1]));
    let steps = all[1].iter().filter(|latency| **latency > STEP).count();
    let share = steps as f64 / all[1].len().max(1) as f64;
    measure.goals.push(Goal::new(
        "share of ours above 35 ms",
        Bound::AtMost(0.001),
        vec![share],
    ));
    Ok(measure)
}
