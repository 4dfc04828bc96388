//! The outbox: a message taken in, handed to the connection, confirmed, beside others that wait.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "benchmarks: what cannot be so ends them"
)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use criterion::{Criterion, criterion_group, criterion_main};
use tars_contracts::TopicFilter;
use tars_mqtt::internals::Unsettled;
use tars_mqtt::{Error, Message, QoS, Receipt};
use tars_ports::{
    AckOutcome, AckToken, Activity, Connection, Publisher, Refused, Settled, Settler, Subscriber, TryPublishError,
};
use tokio::time::Instant;

/// Takes over whatever comes.
#[derive(Default)]
struct Wire(Mutex<Vec<Settler>>);

impl Wire {
    fn confirm_last(&self) {
        let settler = self.0.lock().unwrap().pop();
        settler.unwrap().settle(Ok(Settled::default()));
    }
}

#[async_trait]
impl Publisher for Wire {
    fn try_publish(&self, _: Message) -> Result<Receipt, TryPublishError> {
        let (settler, receipt) = Receipt::pair();
        self.0.lock().unwrap().push(settler);
        Ok(receipt)
    }

    async fn ready(&self, _: QoS) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait]
impl Subscriber for Wire {
    async fn subscribe(&self, _: &[(TopicFilter, QoS)]) -> Result<Vec<Result<QoS, Refused>>, Error> {
        Ok(Vec::new())
    }

    async fn unsubscribe(&self, _: &[TopicFilter]) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait]
impl Connection for Wire {
    fn ack(&self, _: AckToken, _: AckOutcome) {}

    fn activity(&self) -> Activity {
        Activity::default()
    }

    async fn disconnect(&self) -> Result<(), Error> {
        Ok(())
    }

    fn close(&self) {}
}

fn outbox(criterion: &mut Criterion) {
    for unsettled in [0, 100, 900] {
        let wire = Arc::new(Wire::default());
        let outbox = Unsettled::new(1_000, 1_000, wire.clone());
        let now = Instant::now();
        let message = Message::new("a/b".parse().unwrap(), "payload").with_qos(QoS::AtLeastOnce);
        let waiting: Vec<_> = (0..unsettled).map(|_| outbox.append(message.clone(), now)).collect();
        criterion.bench_function(&format!("outbox/one publish beside {unsettled}"), |bencher| {
            bencher.iter(|| {
                let receipt = outbox.append(message.clone(), now);
                wire.confirm_last();
                receipt
            });
        });
        drop(waiting);
    }
}

criterion_group!(benches, outbox);
criterion_main!(benches);
