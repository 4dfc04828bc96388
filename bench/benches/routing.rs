//! Routing: one topic that one subscription matches, among ever more.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "benchmarks: what cannot be so ends them"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tars_contracts::{TopicFilter, TopicName};
use tars_mqtt::internals::Routes;

fn routing(criterion: &mut Criterion) {
    let topic: TopicName = "site/7/room/42/sensor/temperature".parse().unwrap();
    for subscriptions in [1, 100, 10_000] {
        let mut routes = Routes::default();
        routes.insert(&TopicFilter::new("site/7/room/42/sensor/+").unwrap());
        for number in 1..subscriptions {
            let filter = match number % 3 {
                0 => format!("site/{}/room/42/sensor/temperature", number + 100),
                1 => format!("site/7/room/{}/sensor/#", number + 100),
                _ => format!("site/+/room/{}/sensor/+", number + 100),
            };
            routes.insert(&TopicFilter::new(filter).unwrap());
        }
        criterion.bench_function(&format!("routing/{subscriptions} subscriptions"), |bencher| {
            bencher.iter(|| routes.reached(black_box(&topic)));
        });
    }
}

criterion_group!(benches, routing);
criterion_main!(benches);
