//! A publish that is dropped, or must not wait: before it was taken in it leaves nothing behind,
//! afterwards it goes out.

use std::future::IntoFuture;

use tars_mqtt::{ErrorKind, Fate, QoS, State};
use tars_testkit::memory::MemoryBroker;

use crate::{config, connected, connected_with, payload_text, secs, settle};

const RELIABLE: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];

fn payloads(broker: &MemoryBroker) -> Vec<String> {
    broker
        .published()
        .iter()
        .map(|message| payload_text(&message.payload))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn dropped_while_it_waits_for_room_it_leaves_nothing_behind() {
    for qos in RELIABLE {
        let broker = MemoryBroker::new();
        let client = connected_with(&broker, config("svc").outbox_messages(1)).await;
        broker.stop();
        client.state().until(State::Reconnecting).await;
        let first = client.publish("a", "first").qos(qos).accepted().await.unwrap();
        let second = client.publish("a", "second").qos(qos);
        assert!(tokio::time::timeout(secs(1), second.into_future()).await.is_err());
        let third = client.publish("a", "third").qos(qos).accepted();
        assert!(tokio::time::timeout(secs(1), third).await.is_err());
        assert_eq!(client.stats().unsettled, 1);
        broker.start();
        first.await.unwrap();
        client.publish("a", "last").qos(qos).await.unwrap();
        assert_eq!(payloads(&broker), ["first", "last"]);
        assert_eq!(client.stats().unsettled, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_after_it_was_taken_in_it_still_goes_out() {
    for qos in RELIABLE {
        let broker = MemoryBroker::new();
        let client = connected(&broker, "svc").await;
        broker.stop();
        client.state().until(State::Reconnecting).await;
        let awaited = client.publish("a", "awaited").qos(qos);
        assert!(tokio::time::timeout(secs(1), awaited.into_future()).await.is_err());
        drop(client.publish("a", "accepted").qos(qos).accepted().await.unwrap());
        broker.start();
        client.publish("a", "last").qos(qos).await.unwrap();
        assert_eq!(payloads(&broker), ["awaited", "accepted", "last"]);
        assert_eq!(client.stats().published, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn never_polled_nothing_happens() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        drop(client.publish("a", "x").qos(qos).into_future());
        drop(client.publish("a", "x").qos(qos).accepted());
    }
    settle().await;
    assert!(broker.published().is_empty());
    assert_eq!((client.stats().published, client.stats().publish_failed), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn fail_fast_takes_what_there_is_room_for_and_fails_at_the_bound() {
    const ROOM: usize = 1000;
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").outbox_messages(ROOM)).await;
    broker.freeze();
    let mut receipts = Vec::new();
    // In one go: that a task has done a lot without a pause is no lack of room.
    for _ in 0..ROOM {
        let publish = client.publish("a", "x").qos(QoS::AtLeastOnce).fail_fast();
        receipts.push(publish.accepted().await.unwrap());
    }
    let began = tokio::time::Instant::now();
    let error = client
        .publish("a", "x")
        .qos(QoS::AtLeastOnce)
        .fail_fast()
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.fate()), (ErrorKind::Full, Some(Fate::NotSent)));
    assert_eq!(began.elapsed(), secs(0));
    broker.thaw();
    for receipt in receipts {
        receipt.await.unwrap();
    }
    broker.stop();
    client.state().until(State::Reconnecting).await;
    let error = client
        .publish("a", "x")
        .qos(QoS::AtLeastOnce)
        .fail_fast()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.fate()),
        (ErrorKind::NotConnected, Some(Fate::NotSent))
    );
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_tries_finds_the_room_there_is() {
    use tars_mqtt::Message;
    use tars_mqtt::ports::{Publisher, TryPublishError};

    const ROOM: usize = 1000;
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").outbox_messages(ROOM)).await;
    broker.freeze();
    let message = || Message::new("a".parse().unwrap(), "x").with_qos(QoS::AtLeastOnce);
    let receipts: Vec<_> = (0..ROOM).map(|_| client.try_publish(message()).unwrap()).collect();
    assert!(matches!(client.try_publish(message()), Err(TryPublishError::Full(_))));
    broker.thaw();
    for receipt in receipts {
        receipt.await.unwrap();
    }
}
