//! Deduplication: the key of a message, and a full table.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "benchmarks: what cannot be so ends them"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tars_bench::event::{Plain, Transcript};
use tars_mqtt::internals::{Handled, MessageKey};
use tokio::time::Instant;

fn keys(criterion: &mut Criterion) {
    for size in [200, 2_000, 200_000] {
        let payload = serde_json::to_vec(&Plain::new("bench", Transcript::of_size(size))).unwrap();
        criterion.bench_function(&format!("dedupe/key of {size} B"), |bencher| {
            bencher.iter(|| MessageKey::of(black_box(&payload)).unwrap());
        });
    }
}

fn table(criterion: &mut Criterion) {
    for entries in [10_000, 1_000_000] {
        let key = |n: usize| MessageKey::of(format!(r#"{{"id":"{n}","type":"t","data":{{}}}}"#).as_bytes()).unwrap();
        let keys: Vec<MessageKey> = (0..2 * entries).map(key).collect();
        let (handled, now) = (Handled::new(Duration::from_secs(3600), entries), Instant::now());
        for key in &keys[..entries] {
            handled.handle(*key, now);
        }
        let mut next = 0;
        criterion.bench_function(&format!("dedupe/look-up in {entries}"), |bencher| {
            bencher.iter(|| {
                next += 1;
                handled.handle(keys[next % entries], now)
            });
        });
        let mut next = entries;
        criterion.bench_function(&format!("dedupe/insert into {entries}"), |bencher| {
            bencher.iter(|| {
                next += 1;
                handled.handle(keys[next % keys.len()], now)
            });
        });
    }
}

criterion_group!(benches, keys, table);
criterion_main!(benches);
