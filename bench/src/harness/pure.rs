//! What needs no broker: the envelope (B6), deduplication (B7), routing (B8).

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tars_contracts::{Data, Envelope, TopicFilter, TopicName, fresh_id, unix_now, write_envelope};
use tars_mqtt::internals::{Handled, MessageKey, Routes};

use super::micro::{call, nanoseconds_in_turn};
use super::results::{Bound, Figure, Goal, Measure};
use super::{Plan, counted};
use crate::clock;
use crate::event::{EVENT_TYPE, Plain, Transcript};

/// More than elsewhere: they are short.
const TURNS: usize = 15;

/// Rounds in which the longest pause is looked for: one of ours comes in each, one of the
/// machine's does not.
const PAUSES: u32 = 5;

/// Sizes of `data`, in bytes.
const SIZES: [usize; 3] = [200, 2_000, 200_000];

/// B6: reading and writing, against serde_json with the same types.
pub(super) fn envelope(_: &Plan) -> Result<Measure> {
    let mut measure = Measure::new(
        "B6",
        "Envelope: reading and writing against serde_json with the same types",
    );
    for size in SIZES {
        let transcript = Transcript::of_size(size);
        let payload = serde_json::to_vec(&Plain::new("bench", &transcript))?;
        let untyped: Plain<Data> = serde_json::from_slice(&payload)?;
        let read = nanoseconds_in_turn(
            TURNS,
            [
                call(|| Envelope::<Transcript>::from_bytes(black_box(&payload))),
                call(|| serde_json::from_slice::<Plain<Transcript>>(black_box(&payload))),
                call(|| Envelope::<Data>::from_bytes(black_box(&payload))),
                call(|| serde_json::from_slice::<Plain<Data>>(black_box(&payload))),
            ],
        );
        let write = nanoseconds_in_turn(
            TURNS,
            [
                call(|| write_one(black_box(&transcript))),
                call(|| serde_json::to_vec(&Plain::new("bench", black_box(&transcript)))),
                call(|| write_one(black_box(&untyped.data))),
                call(|| serde_json::to_vec(&Plain::new("bench", black_box(&untyped.data)))),
            ],
        );
        for (doing, series, bound) in [("reading", read, 1.0), ("writing", write, 0.95)] {
            for (at, kind) in ["typed", "untyped"].into_iter().enumerate() {
                let (ours, theirs) = (&series[2 * at], &series[2 * at + 1]);
                let what = format!("{doing} {size} B, {kind}");
                measure.figures.push(Figure::new(&what, "ours", "ns", ours.clone()));
                measure
                    .figures
                    .push(Figure::new(&what, "serde_json", "ns", theirs.clone()));
                let what = format!("{what}: speed of ours ÷ serde_json");
                measure
                    .goals
                    .push(Goal::ratio(what, Bound::AtLeast(bound), theirs, ours));
            }
        }
    }
    Ok(measure)
}

/// As the client does it.
fn write_one(data: &impl serde::Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let _ = black_box(write_envelope(
        &mut out,
        &fresh_id(),
        EVENT_TYPE,
        unix_now(),
        "bench",
        data,
    ));
    out
}

/// B7: looking up and marking, and what a message is known by.
pub(super) fn dedupe(plan: &Plan) -> Result<Measure> {
    let mut measure = Measure::new("B7", "Deduplication");
    for size in [200, 2_000] {
        for (name, numbered) in [("hash of the data", false), ("data.seq", true)] {
            let mut data = serde_json::to_value(Transcript::of_size(size))?;
            if numbered {
                data.as_object_mut()
                    .context("an object")?
                    .insert("seq".to_owned(), 7.into());
            }
            let payload = serde_json::to_vec(&Plain::new("bench", &data))?;
            let series = nanoseconds_in_turn(
                TURNS,
                [
                    call(|| MessageKey::of(black_box(&payload))),
                    call(|| Envelope::<Transcript>::from_bytes(black_box(&payload))),
                ],
            );
            let what = format!("key of {size} B, {name}");
            measure.figures.push(Figure::new(&what, "key", "ns", series[0].clone()));
            measure
                .figures
                .push(Figure::new(&what, "one decode", "ns", series[1].clone()));
            measure.goals.push(Goal::ratio(
                format!("{what}: ÷ one decode"),
                Bound::AtMost(1.0),
                &series[0],
                &series[1],
            ));
        }
    }
    for entries in [10_000, if plan.quick { 100_000 } else { 1_000_000 }] {
        table(entries, &mut measure)?;
    }
    let what = "memory: a read that waits for the one before it, 16 MiB";
    measure.figures.push(Figure::new(what, "the machine", "ns", waiting()));
    Ok(measure)
}

/// Nanoseconds of a read from anywhere in as much memory as the index of a large table takes:
/// what neither a look-up nor an insert can do without.
fn waiting() -> Vec<f64> {
    const LINES: usize = (16 << 20) / 64;
    // Each line names the next: with these numbers all of them, in no order that shows.
    let line = |at: usize| [(at * 1_664_525 + 1_013_904_223) % LINES; 8];
    let lines: Vec<[usize; 8]> = (0..LINES).map(line).collect();
    let mut at = 0;
    let [rounds] = nanoseconds_in_turn(TURNS, [call(|| at = lines[at][0])]);
    rounds
}

/// A full table of so many messages: each call finds one, or takes one in for the oldest.
fn table(entries: usize, measure: &mut Measure) -> Result<()> {
    let keys: Vec<MessageKey> = (0..2 * entries).map(key).collect::<Option<_>>().context("keys")?;
    let ttl = Duration::from_secs(3600);
    let before = clock::resident();
    let mut handled = Handled::new(ttl, entries);
    let now = tokio::time::Instant::now();
    let mut filling = vec![longest(&handled, &keys[..entries], now)];
    let bytes = clock::resident().saturating_sub(before) as f64 / entries as f64;
    // Keys are hashes: in the order of their numbers they come in no order of the table.
    let (mut found, mut taken) = (0, entries);
    let looked_up = nanoseconds_in_turn(
        TURNS,
        [call(|| {
            found += 1;
            handled.handle(keys[found % entries], now)
        })],
    );
    let inserted = nanoseconds_in_turn(
        TURNS,
        [call(|| {
            taken += 1;
            handled.handle(keys[taken % keys.len()], now)
        })],
    );
    // All of it has expired: does anything take longer than usual?
    let again = |round| longest(&handled, &keys[..entries], now + 2 * round * ttl);
    let expiring = (1..=PAUSES).map(again).collect();
    while filling.len() < PAUSES as usize {
        handled = Handled::new(ttl, entries);
        filling.push(longest(&handled, &keys[..entries], now));
    }
    for (what, series) in [("look-up", looked_up), ("check and insert", inserted)] {
        let what = format!("{what}, {entries} entries");
        measure
            .figures
            .push(Figure::new(&what, "ours", "ns", series[0].clone()));
        measure.goals.push(Goal::new(
            format!("{what}, ns"),
            Bound::AtMost(150.0),
            series[0].clone(),
        ));
    }
    for (doing, rounds) in [("filling", filling), ("expiring", expiring)] {
        let what = format!("longest pause while {doing}, {entries} entries, ms");
        measure.goals.push(Goal::new(what, Bound::AtMost(1.0), rounds));
    }
    if entries >= 100_000 {
        let what = format!("bytes an entry, {entries} entries");
        measure.goals.push(Goal::new(what, Bound::AtMost(64.0), vec![bytes]));
    }
    Ok(())
}

/// Milliseconds that the longest of the calls takes.
fn longest(handled: &Handled, keys: &[MessageKey], now: tokio::time::Instant) -> f64 {
    let calls = keys.iter().map(|key| {
        let begin = clock::thread_cpu();
        handled.handle(*key, now);
        clock::thread_cpu() - begin
    });
    calls.max().unwrap_or_default() as f64 / 1e6
}

fn key(n: usize) -> Option<MessageKey> {
    MessageKey::of(format!(r#"{{"id":"{n}","type":"t","data":{{"seq":{n}}}}}"#).as_bytes())
}

/// B8: one topic that one subscription matches, among ever more.
pub(super) fn routing(_: &Plan) -> Result<Measure> {
    let mut measure = Measure::new("B8", "Routing: one match each, among 1, 100 and 10,000 subscriptions");
    let topic = TopicName::new("site/7/room/42/sensor/temperature")?;
    let counts = [1, 100, 10_000];
    let [one, some, many] = counts.map(|count| routes(count, &topic));
    let (one, some, many) = (one?, some?, many?);
    let series = nanoseconds_in_turn(
        TURNS,
        [&one, &some, &many].map(|routes| call(|| routes.reached(black_box(&topic)))),
    );
    for (count, rounds) in counts.iter().zip(&series) {
        let who = counted(*count as u64, "subscription");
        measure
            .figures
            .push(Figure::new("one match", who, "ns", rounds.clone()));
    }
    let what = "10,000 subscriptions ÷ 1";
    measure
        .goals
        .push(Goal::ratio(what, Bound::AtMost(4.0), &series[2], &series[0]));
    Ok(measure)
}

/// So many subscriptions with wildcards, of which the topic reaches one.
fn routes(count: usize, topic: &TopicName) -> Result<Routes> {
    let mut routes = Routes::default();
    routes.insert(&TopicFilter::new("site/7/room/42/sensor/+")?);
    for number in 1..count {
        let filter = match number % 3 {
            0 => format!("site/{}/room/42/sensor/temperature", number + 100),
            1 => format!("site/7/room/{}/sensor/#", number + 100),
            _ => format!("site/+/room/{}/sensor/+", number + 100),
        };
        routes.insert(&TopicFilter::new(filter)?);
    }
    anyhow::ensure!(routes.reached(topic) == 1, "one match each");
    Ok(routes)
}
