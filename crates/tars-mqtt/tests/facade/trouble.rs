//! Trouble is visible: in the statistics, and in the log once per burst.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tars_mqtt::{Acknowledge, Client, Data, Envelope, InboundMessage, Message, QoS, TopicFilter};
use tars_testkit::memory::MemoryBroker;
use tokio::sync::Semaphore;
use tracing::subscriber::DefaultGuard;

use crate::{config, connected, connected_with, secs, settle};

/// The warnings of this thread, and with it of this test, from its making on.
struct Warnings(Arc<Mutex<Vec<u8>>>, #[allow(dead_code, reason = "held")] DefaultGuard);

struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Warnings {
    fn begin() -> Self {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let lines = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || Lines(lines.clone()))
            .finish();
        crate::observability::recorded::ask_every_thread();
        Self(text, tracing::subscriber::set_default(subscriber))
    }

    /// Those that contain this.
    fn with(&self, what: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .filter(|line| line.contains(what))
            .map(str::to_owned)
            .collect()
    }
}

/// Subscribes a handler that takes one message for each permit.
async fn gated(client: &Client, filter: &str, qos: QoS) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    let handler_gate = gate.clone();
    let handler = move |_: InboundMessage| {
        let gate = handler_gate.clone();
        async move { gate.acquire().await.unwrap().forget() }
    };
    client.subscribe(filter, handler).qos(qos).queue(5).await.unwrap();
    gate
}

async fn publish(client: &Client, topic: &str, qos: QoS, count: usize) {
    for _ in 0..count {
        client.publish_event(topic, "t", &json!({})).qos(qos).await.unwrap();
    }
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn statistics_name_the_oldest_unfinished_message_and_who_has_it() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client
        .subscribe("job/#", async |_: InboundMessage| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let gate = gated(&client, "job/+", QoS::AtLeastOnce).await;
    assert_eq!((client.stats().unfinished, client.stats().oldest_unfinished), (0, None));
    publish(&client, "job/1", QoS::AtLeastOnce, 1).await;
    tokio::time::sleep(secs(3)).await;
    publish(&client, "job/2", QoS::AtLeastOnce, 2).await;
    let stats = client.stats();
    assert_eq!((stats.unfinished, stats.handled), (3, 3));
    let oldest = stats.oldest_unfinished.unwrap();
    assert_eq!(oldest.topic.as_str(), "job/1");
    assert_eq!(
        oldest.filter,
        Some(TopicFilter::new("job/+").unwrap()),
        "the other has finished"
    );
    assert!((secs(3)..secs(4)).contains(&oldest.age), "{oldest:?}");
    gate.add_permits(1);
    settle().await;
    let oldest = client.stats().oldest_unfinished.unwrap();
    assert!(oldest.topic.as_str() == "job/2" && oldest.age < secs(1), "{oldest:?}");
    gate.add_permits(2);
    settle().await;
    assert_eq!((client.stats().unfinished, client.stats().oldest_unfinished), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_finished_for_long_is_said_once() {
    let warnings = Warnings::begin();
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let gate = gated(&client, "job/+", QoS::AtLeastOnce).await;
    for burst in 1..=2 {
        publish(&client, "job/1", QoS::AtLeastOnce, 5).await;
        tokio::time::sleep(secs(25)).await;
        assert_eq!(warnings.with("not been finished for long").len(), burst - 1);
        tokio::time::sleep(secs(300)).await;
        let said = warnings.with("not been finished for long");
        assert_eq!(said.len(), burst, "{said:?}");
        assert!(
            said[0].contains("oldest=job/1") && said[0].contains("filter=job/+"),
            "{said:?}"
        );
        gate.add_permits(5);
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reached_budget_is_said_once_until_half_of_it_is_free() {
    let warnings = Warnings::begin();
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").inbound_messages(10)).await;
    let handler = async |_: InboundMessage| tokio::time::sleep(secs(1)).await;
    client
        .subscribe("slow", handler)
        .qos(QoS::AtLeastOnce)
        .acknowledge(Acknowledge::OnReceipt)
        .await
        .unwrap();
    let publisher = connected(&broker, "publisher").await;
    for burst in 1..=2 {
        publish(&publisher, "slow", QoS::AtLeastOnce, 50).await;
        tokio::time::sleep(secs(60)).await;
        let said = warnings.with("inbound budget is reached");
        assert_eq!(said.len(), burst, "{said:?}");
        assert!(
            said[0].contains("oldest=slow") && said[0].contains("filter=slow"),
            "{said:?}"
        );
    }
    assert_eq!(client.stats().handled, 100);
}

#[tokio::test(start_paused = true)]
async fn dropped_messages_are_counted_each_and_said_once() {
    let warnings = Warnings::begin();
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let gate = gated(&client, "stream", QoS::AtMostOnce).await;
    for burst in 1..=2 {
        publish(&client, "stream", QoS::AtMostOnce, 100).await;
        assert_eq!(warnings.with("QoS 0 messages are dropped").len(), burst);
        gate.add_permits(6);
        settle().await;
    }
    assert!(client.stats().dropped >= 180, "{:?}", client.stats());
}

#[tokio::test(start_paused = true)]
async fn messages_without_a_subscription_are_counted_each_and_said_once() {
    let broker = MemoryBroker::new();
    let persistent = || config("svc").clean_session(false);
    let first = connected_with(&broker, persistent()).await;
    first
        .subscribe("gone", async |_: InboundMessage| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    first.shutdown().await;
    for _ in 0..100 {
        broker.publish(Message::new("gone".parse().unwrap(), "x").with_qos(QoS::AtLeastOnce));
    }
    let warnings = Warnings::begin();
    let second = connected_with(&broker, persistent()).await;
    settle().await;
    assert_eq!(second.stats().unrouted, 100);
    assert_eq!(warnings.with("without a subscription").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn invalid_messages_are_counted_each_and_said_once_for_each_subscription() {
    let warnings = Warnings::begin();
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    for filter in ["a", "b"] {
        client.subscribe(filter, async |_: Envelope<Data>| ()).await.unwrap();
        for _ in 0..100 {
            client.publish(filter, "no envelope").await.unwrap();
        }
        settle().await;
    }
    assert_eq!(client.stats().invalid, 200);
    let said = warnings.with("invalid message skipped");
    assert!(
        said.len() == 2 && said[0].contains("topic=a") && said[1].contains("topic=b"),
        "{said:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_and_a_flapping_link_do_not_fill_the_log() {
    let warnings = Warnings::begin();
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.stop();
    tokio::time::sleep(secs(600)).await;
    assert!(broker.connect_attempts("svc") > 100);
    assert_eq!(warnings.with("the connection was lost").len(), 1);
    let said = warnings.with("could not connect").len();
    assert!((9..=11).contains(&said), "{said} in ten minutes");
    broker.start();
    broker.accept_then_drop(true);
    tokio::time::sleep(secs(600)).await;
    assert!(client.stats().connects > 100);
    assert_eq!(warnings.with("another client using the same client id").len(), 1);
    assert!(warnings.with("the connection was lost").len() <= 4);
}
