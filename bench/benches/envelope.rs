//! The envelope: reading and writing, typed and untyped, beside serde_json with the same types.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "benchmarks: what cannot be so ends them"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tars_bench::event::{EVENT_TYPE, Plain, Transcript};
use tars_contracts::{Data, Envelope, fresh_id, unix_now, write_envelope};

fn envelope(criterion: &mut Criterion) {
    for size in [200, 2_000, 200_000] {
        let transcript = Transcript::of_size(size);
        let payload = serde_json::to_vec(&Plain::new("bench", &transcript)).unwrap();
        let mut group = criterion.benchmark_group(format!("envelope/{size}"));
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function("read typed", |bencher| {
            bencher.iter(|| Envelope::<Transcript>::from_bytes(black_box(&payload)).unwrap());
        });
        group.bench_function("read typed, serde_json", |bencher| {
            bencher.iter(|| serde_json::from_slice::<Plain<Transcript>>(black_box(&payload)).unwrap());
        });
        group.bench_function("read untyped", |bencher| {
            bencher.iter(|| Envelope::<Data>::from_bytes(black_box(&payload)).unwrap());
        });
        group.bench_function("read untyped, serde_json", |bencher| {
            bencher.iter(|| serde_json::from_slice::<Plain<Data>>(black_box(&payload)).unwrap());
        });
        group.bench_function("write", |bencher| {
            bencher.iter(|| {
                let mut out = Vec::with_capacity(256);
                let data = black_box(&transcript);
                write_envelope(&mut out, &fresh_id(), EVENT_TYPE, unix_now(), "bench", data).unwrap();
                out
            });
        });
        group.bench_function("write, serde_json", |bencher| {
            bencher.iter(|| serde_json::to_vec(&Plain::new("bench", black_box(&transcript))).unwrap());
        });
    }
}

criterion_group!(benches, envelope);
criterion_main!(benches);
