//! Batching: what is on the wire, when a batch leaves, and that nothing is lost.

use proptest::prelude::*;
use serde_json::{Value, json};
use tars_contracts::Envelope;
use tars_layers::{Batching, Events, LayerExt, Retry};
use tars_ports::{ErrorKind, Fate, Message, Publisher, PublisherExt, QoS, TryPublishError};
use tokio::time::Instant;

use crate::flaky::Flaky;
use crate::flaky::Outcome::*;
use crate::{message, secs};

fn envelope(message: &Message) -> Envelope {
    Envelope::from_bytes(&message.payload).unwrap()
}

fn items(message: &Message) -> Vec<Value> {
    let envelope = envelope(message);
    let items = envelope.data["items"].as_array().unwrap().clone();
    assert_eq!(envelope.data["count"], items.len());
    items
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_leaves_at_once_and_looks_like_the_originals() {
    let flaky = Flaky::new([]);
    let batches = flaky.clone().layer(Batching::new("sensor-service").items(2));
    let start = Instant::now();
    let first = batches.add("sensors/temperature", &json!({"c": 20.5})).await.unwrap();
    let second = batches.add("sensors/temperature", &json!({"c": 21})).await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(start.elapsed(), secs(0));
    let [batch] = &flaky.arrived()[..] else {
        panic!("one batch")
    };
    assert_eq!(batch.topic.as_str(), "sensors/temperature/batch");
    let text = String::from_utf8(batch.payload.to_vec()).unwrap();
    let end = r#""source":"sensor-service","data":{"items":[{"c":20.5},{"c":21}],"count":2}}"#;
    assert!(text.ends_with(end), "{text}");
    assert_eq!(envelope(batch).event_type, "sensors.temperature.batch");
    let stats = batches.stats();
    assert_eq!((stats.pending, stats.batches, stats.items, stats.failed), (0, 1, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_interval_counts_from_the_oldest_item_and_topics_are_apart() {
    let flaky = Flaky::new([]);
    let batches = flaky.clone().layer(Batching::new("s").interval(secs(2)));
    let start = Instant::now();
    let a = batches.add("a", &1).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    let b = batches.add("b", &2).await.unwrap();
    let again = batches.add("a", &3).await.unwrap();
    a.await.unwrap();
    again.await.unwrap();
    assert_eq!(start.elapsed(), secs(2));
    b.await.unwrap();
    assert_eq!(start.elapsed(), secs(3));
    let arrived = flaky.arrived();
    let topics: Vec<_> = arrived.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!(topics, ["a/batch", "b/batch"]);
    assert_eq!(items(&arrived[0]), [json!(1), json!(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_sends_what_is_there_and_waits_for_it() {
    let flaky = Flaky::new([]);
    let batches = flaky
        .clone()
        .layer(Batching::new("s").items(2).qos(QoS::AtLeastOnce).interval(secs(3600)));
    let mut receipts = Vec::new();
    for number in 0..5 {
        receipts.push(batches.add("a", &number).await.unwrap());
    }
    let other = batches.add("b", &9).await.unwrap();
    batches.flush().await;
    assert_eq!(batches.stats().pending, 0);
    let sizes: Vec<_> = flaky
        .arrived()
        .iter()
        .map(|batch| (batch.topic.to_string(), items(batch).len()))
        .collect();
    assert_eq!(
        sizes
            .iter()
            .filter(|(topic, _)| topic == "a/batch")
            .map(|(_, n)| *n)
            .collect::<Vec<_>>(),
        [2, 2, 1]
    );
    other.await.unwrap();
    for receipt in receipts {
        receipt.await.unwrap();
    }
    batches.flush().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_is_kept_in_order_and_sent_until_it_arrives() {
    let flaky = Flaky::new([NotConnected; 40]);
    let batches = flaky.clone().layer(Batching::new("s").items(2).pending(4, 1 << 20));
    let mut receipts = Vec::new();
    for number in 0..4 {
        receipts.push(batches.add("a", &number).await.unwrap());
    }
    // Kept batches count: there is no room, and nothing is dropped.
    let Err(TryPublishError::Full(back)) = batches.try_publish(message("a", 4, QoS::AtMostOnce)) else {
        panic!("there is no room");
    };
    assert_eq!(back, message("a", 4, QoS::AtMostOnce));
    receipts.push(batches.publish(back).await.unwrap());
    batches.flush().await;
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let all: Vec<Value> = flaky.arrived().iter().flat_map(items).collect();
    assert_eq!(all, [json!(0), json!(1), json!(2), json!(3), json!({"n": 4})]);
    assert_eq!(batches.stats().failed, 0);
}

#[tokio::test(start_paused = true)]
async fn with_limited_attempts_every_item_learns_the_reason() {
    let flaky = Flaky::new([NotConnected; 3]);
    let batches = flaky
        .clone()
        .layer(Batching::new("s").items(2).retry(Retry::new().attempts(3)));
    let receipts = [batches.add("a", &1).await.unwrap(), batches.add("a", &2).await.unwrap()];
    for receipt in receipts {
        let error = receipt.await.unwrap_err();
        assert_eq!(
            (error.kind(), error.fate()),
            (ErrorKind::NotConnected, Some(Fate::NotSent))
        );
    }
    assert_eq!(batches.stats().failed, 2);
    let receipt = batches.add("a", &3).await.unwrap();
    batches.shutdown().await;
    receipt.await.unwrap();
    assert_eq!(flaky.arrived().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_sends_the_rest_and_joins_its_tasks() {
    let flaky = Flaky::new([NotConnected]);
    let batches = flaky.clone().layer(Batching::new("s").interval(secs(3600)));
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let receipts = [batches.add("a", &1).await.unwrap(), batches.add("b", &2).await.unwrap()];
    assert_eq!(alive(), before + 2);
    batches.shutdown().await;
    assert_eq!(alive(), before);
    for receipt in receipts {
        receipt.await.unwrap();
    }
    assert_eq!(batches.add("a", &3).await.unwrap_err().kind(), ErrorKind::Closed);
    batches.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_though_no_batch_arrives() {
    let flaky = Flaky::new([NotConnected; 1000]);
    let batches = flaky
        .clone()
        .layer(Batching::new("s").items(1).shutdown_timeout(secs(3)));
    let mut receipts = Vec::new();
    for number in 0..5 {
        receipts.push(batches.add("a", &number).await.unwrap());
    }
    let start = Instant::now();
    batches.shutdown().await;
    assert_eq!(start.elapsed(), secs(3));
    for receipt in receipts {
        assert_eq!(receipt.await.unwrap_err().fate(), Some(Fate::NotSent));
    }
    assert_eq!(batches.stats().failed, 5);
}

#[tokio::test(start_paused = true)]
async fn dropped_it_sends_the_rest_by_itself() {
    let flaky = Flaky::new([]);
    let batches = flaky.clone().layer(Batching::new("s").interval(secs(3600)));
    let receipt = batches.add("a", &1).await.unwrap();
    drop(batches);
    receipt.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn events_are_gathered_by_their_data_and_other_topics_handed_on() {
    let flaky = Flaky::new([]);
    let only = "sensors/#".parse().unwrap();
    let batches = flaky.clone().layer(Batching::new("s").only(only));
    let events = batches.clone().layer(Events::new("s"));
    let event = events.publish_event("sensors/light", "sensors.light", &json!({"lux": 3}));
    let receipt = event.accepted().await.unwrap();
    events
        .publish_event("wake/ready", "wake.ready", &json!({"ok": true}))
        .await
        .unwrap();
    batches.shutdown().await;
    receipt.await.unwrap();
    let arrived = flaky.arrived();
    assert_eq!(envelope(&arrived[0]).event_type, "wake.ready");
    assert_eq!(items(&arrived[1]), [json!({"lux": 3})]);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_batch_is_refused_and_harms_nothing() {
    let flaky = Flaky::new([]);
    let batches = flaky.clone().layer(Batching::new("s").max_bytes(400));
    let good = batches.add("a", &1).await.unwrap();
    let raw = Message::new("a".parse().unwrap(), vec![0xff, 0xd8]);
    let error = batches.publish(raw).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.fate()),
        (ErrorKind::InvalidPayload, Some(Fate::NotSent))
    );
    assert_eq!(
        batches.add("a", &"x".repeat(400)).await.unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    let long = "a".repeat(65_530);
    assert_eq!(batches.add(long, &1).await.unwrap_err().kind(), ErrorKind::InvalidTopic);
    assert_eq!(
        batches.add("a/+", &1).await.unwrap_err().kind(),
        ErrorKind::InvalidTopic
    );
    batches.flush().await;
    good.await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_packet_is_above_the_limit_and_no_item_is_lost(
        sizes in prop::collection::vec(0usize..300, 1..60), max_bytes in 600usize..2000, per_batch in 1usize..12,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let flaky = Flaky::new([]);
            let layer = Batching::new("a \"source\"").items(per_batch).max_bytes(max_bytes).qos(QoS::AtLeastOnce);
            let batches = flaky.clone().layer(layer);
            let sent: Vec<Value> = sizes.iter().map(|size| json!({"text": "ä".repeat(*size / 2)})).collect();
            for item in &sent {
                drop(batches.add("some/topic", item).await.unwrap());
            }
            batches.shutdown().await;
            let arrived = flaky.arrived();
            prop_assert!(arrived.iter().all(|batch| batch.packet_size() <= max_bytes));
            prop_assert!(arrived.iter().all(|batch| items(batch).len() <= per_batch));
            prop_assert_eq!(arrived.iter().flat_map(items).collect::<Vec<_>>(), sent);
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn an_interval_or_a_patience_without_an_end_is_none() {
    let flaky = Flaky::new([]);
    let layer = Batching::new("s").items(2).interval(std::time::Duration::MAX);
    let batches = flaky.clone().layer(layer.shutdown_timeout(std::time::Duration::MAX));
    let first = batches.add("a", &1).await.unwrap();
    tokio::time::sleep(secs(3600)).await;
    assert_eq!(flaky.arrived().len(), 0, "it waits for the second");
    let second = batches.add("a", &2).await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    let third = batches.add("a", &3).await.unwrap();
    batches.shutdown().await;
    third.await.unwrap();
    assert_eq!(flaky.arrived().len(), 2);
}
