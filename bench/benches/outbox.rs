//! The outbox: a message taken in, handed to a connection, confirmed, among others that wait.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "benchmarks: what cannot be so ends them"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use tars_mqtt::internals::Unsettled;
use tars_mqtt::{Message, QoS};
use tokio::time::Instant;

fn outbox(criterion: &mut Criterion) {
    for unsettled in [0, 100, 900] {
        let outbox = Unsettled::new(1_000);
        let now = Instant::now();
        let message = Message::new("a/b".parse().unwrap(), "payload").with_qos(QoS::AtLeastOnce);
        let waiting: Vec<_> = (0..unsettled).map(|_| outbox.append(message.clone(), now)).collect();
        criterion.bench_function(&format!("outbox/one publish beside {unsettled}"), |bencher| {
            bencher.iter(|| {
                let receipt = outbox.append(message.clone(), now);
                let key = outbox.send().unwrap();
                outbox.settle(key);
                receipt
            });
        });
        drop(waiting);
    }
}

criterion_group!(benches, outbox);
criterion_main!(benches);
