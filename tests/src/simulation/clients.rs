//! The two clients under test, as a schedule wants them.

use std::time::Duration;

use serde::Deserialize;
use tars_mqtt::{Client, Config, ConfigBuilder, Envelope, Error, Message, OnFailure, QoS, Route};
use tars_testkit::memory::MemoryBroker;

use super::ledger::Ledger;
use super::schedule::Schedule;

/// Filters of `sub`: two that overlap, and one aside.
pub(super) const SUBSCRIPTIONS: [&str; 3] = ["sim/#", "sim/+", "sim/event"];
/// Of the events.
pub(super) const TOPIC: &str = "sim/event";
/// Longer than everything a schedule can delay.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
struct Event {
    n: u64,
}

/// The number of an event; `None` for what is none.
pub(super) fn number(message: &Message) -> Option<u64> {
    let event = (message.topic.as_str() == TOPIC).then(|| Envelope::<Event>::from_bytes(&message.payload));
    event?.ok().map(|event| event.data.n)
}

fn config(schedule: &Schedule, client_id: &str) -> ConfigBuilder {
    let config = Config::builder()
        .url("mqtt://memory")
        .client_id(client_id)
        .clean_session(schedule.clean)
        .connect_retry(true)
        .enable_health(true)
        .enable_heartbeat(true)
        .heartbeat_interval(Duration::from_secs(1))
        .shutdown_timeout(schedule.patience)
        .outbox_messages(schedule.outbox)
        .publish_timeout(PATIENCE);
    if schedule.dedupe {
        config.dedupe_ttl(PATIENCE * 2).dedupe_max_entries(100_000)
    } else {
        config
    }
}

/// The `nth` process of the publisher.
pub(super) fn publisher(schedule: &Schedule, broker: &MemoryBroker, nth: u64) -> Result<Client, Error> {
    // A client that comes back to its session and has forgotten its QoS 2 flows breaks
    // MQTT (section 4.1): the broker takes a new message for an old one of that id.
    let clean = schedule.clean || schedule.renews_publisher();
    Client::builder(config(schedule, "pub").clean_session(clean).build()?)
        .connector(broker.connector())
        .seed(schedule.seed.wrapping_add(nth << 32))
        .build()
}

/// The `nth` process of the subscriber.
pub(super) fn subscriber(
    schedule: &Schedule,
    broker: &MemoryBroker,
    ledger: &Ledger,
    nth: u64,
) -> Result<Client, Error> {
    let mut builder = Client::builder(config(schedule, "sub").build()?)
        .connector(broker.connector())
        .seed(!schedule.seed.wrapping_add(nth << 32));
    for name in SUBSCRIPTIONS {
        let ledger = ledger.clone();
        let handler = move |event: Envelope<Event>| {
            let ledger = ledger.clone();
            async move { ledger.run(name, event.data.n).await }
        };
        let policy = OnFailure::retry(20, Duration::from_millis(50));
        let route = Route::new(name, handler)
            .qos(QoS::ExactlyOnce)
            .concurrency(schedule.concurrency);
        builder = builder.route(route.on_failure(policy));
    }
    builder.build()
}
