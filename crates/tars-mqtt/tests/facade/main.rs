//! The facade against the in-memory broker: in paused time, with seeded randomness.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod bad_input;
mod cancelling;
mod connecting;
mod corners;
mod credentials;
mod dedupe;
mod events;
mod health;
mod lesser_adapters;
mod lifecycle;
mod observability;
mod overlap;
mod panics;
mod pitfalls;
mod publishing;
mod readiness;
mod receiving;
mod reconnecting;
mod replacing;
mod request;
mod respond;
mod scope;
mod shutdown;
mod stream;
mod subscribing;
mod trouble;
mod without_a_broker;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tars_mqtt::{Client, Config, ConfigBuilder};
use tars_testkit::memory::MemoryBroker;
use tokio::sync::Notify;

pub(crate) fn config(client_id: &str) -> ConfigBuilder {
    Config::builder().url("mqtt://memory").client_id(client_id)
}

pub(crate) fn client_with(broker: &MemoryBroker, config: ConfigBuilder) -> Client {
    Client::builder(config.build().unwrap())
        .connector(broker.connector())
        .seed(7)
        .build()
        .unwrap()
}

pub(crate) async fn connected_with(broker: &MemoryBroker, config: ConfigBuilder) -> Client {
    let client = client_with(broker, config);
    client.connect().await.unwrap();
    client
}

pub(crate) async fn connected(broker: &MemoryBroker, client_id: &str) -> Client {
    connected_with(broker, config(client_id)).await
}

/// Seconds of the paused clock.
pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What handlers saw, in order.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<(Mutex<Vec<String>>, Notify)>);

impl Seen {
    pub(crate) fn push(&self, what: impl ToString) {
        self.0.0.lock().unwrap().push(what.to_string());
        self.0.1.notify_waiters();
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.all().len()
    }

    /// Waits until this many were seen; fails after a minute of the clock.
    pub(crate) async fn reach(&self, count: usize) -> Vec<String> {
        let reached = async {
            loop {
                let changed = self.0.1.notified();
                if self.len() >= count {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(secs(60), reached).await.is_err() {
            panic!("only {:?} was seen, {count} expected", self.all());
        }
        self.all()
    }
}

/// Lets everything run that can, and the clock go on a little.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

pub(crate) fn payload_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
