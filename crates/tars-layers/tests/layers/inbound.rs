//! The layers on a connector, on the in-memory broker.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use tars_layers::{FilterInbound, Layer, LayerExt, ObserveInbound};
use tars_ports::{AckOutcome, ConnectOptions, Connected, Connector, Delivery, Incoming, QoS, SessionState};
use tars_testkit::memory::{MemoryBroker, MemoryConnector};

use crate::{message, secs};

async fn connect<L>(broker: &MemoryBroker, layer: L) -> Connected
where
    L: Layer<MemoryConnector, Layered: Connector>,
{
    let connector = broker.connector().layer(layer);
    assert_eq!(connector.capabilities(), broker.connector().capabilities());
    let options = ConnectOptions::new("memory", 1883, "c");
    let connected = connector.connect(&options, SessionState::new()).await.unwrap();
    let all = [("#".parse().unwrap(), QoS::AtLeastOnce)];
    connected.connection.subscribe(&all).await.unwrap();
    connected
}

async fn next(connected: &mut Connected) -> Delivery {
    match connected.inbound.next().await {
        Some(Incoming::Delivery(delivery)) => delivery,
        other => panic!("{other:?} instead of a delivery"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_passed_over_is_acknowledged_and_counted() {
    let broker = MemoryBroker::new();
    let filter = FilterInbound::new(|delivery| !delivery.topic.as_str().starts_with("noise/"));
    let passed_over = filter.counter();
    let mut connected = connect(&broker, filter).await;
    // More than the broker's window: without acknowledgements nothing further would come.
    for number in 0..100 {
        broker.publish(message("noise/a", number, QoS::AtLeastOnce));
    }
    broker.publish(message("noise/b", 0, QoS::AtMostOnce));
    broker.publish(message("signal", 7, QoS::AtLeastOnce));
    let delivery = next(&mut connected).await;
    assert_eq!(delivery.topic.as_str(), "signal");
    assert_eq!(passed_over.get(), 101);
    connected.connection.ack(delivery.token.unwrap(), AckOutcome::Done);
    broker.wait_until(|broker| broker.backlog("c") == (0, 0)).await;
    connected.connection.disconnect().await.unwrap();
    assert!(matches!(connected.inbound.next().await, Some(Incoming::Ended(_))));
    assert!(connected.inbound.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_hook_sees_each_delivery_with_the_time_until_it_was_acknowledged() {
    let broker = MemoryBroker::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = seen.clone();
    let mut connected = connect(
        &broker,
        ObserveInbound::new(move |received| {
            list.lock()
                .unwrap()
                .push((received.topic.to_string(), received.bytes, received.acknowledged));
        }),
    )
    .await;
    broker.publish(message("fast", 0, QoS::AtMostOnce));
    broker.publish(message("slow", 0, QoS::AtLeastOnce));
    broker.publish(message("never", 0, QoS::AtLeastOnce));
    next(&mut connected).await;
    let slow = next(&mut connected).await;
    next(&mut connected).await;
    tokio::time::sleep(secs(2)).await;
    connected.connection.ack(slow.token.unwrap(), AckOutcome::Done);
    connected.connection.ack(slow.token.unwrap(), AckOutcome::Done);
    connected.connection.close();
    assert!(matches!(connected.inbound.next().await, Some(Incoming::Ended(_))));
    let entry = |topic: &str, acknowledged: Option<Duration>| (topic.to_owned(), r#"{"n":0}"#.len(), acknowledged);
    let expected = [entry("fast", None), entry("slow", Some(secs(2))), entry("never", None)];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn they_stack_and_leave_the_end_of_a_connection_to_its_handles() {
    let broker = MemoryBroker::new();
    let count = Arc::new(Mutex::new(0));
    let counted = count.clone();
    let connector = broker
        .connector()
        .layer(FilterInbound::new(|delivery| delivery.topic.as_str() != "noise"))
        .layer(ObserveInbound::new(move |_| *counted.lock().unwrap() += 1))
        .layer(FilterInbound::new(|_| true));
    let options = ConnectOptions::new("memory", 1883, "c");
    let mut connected = connector.connect(&options, SessionState::new()).await.unwrap();
    connected
        .connection
        .subscribe(&[("#".parse().unwrap(), QoS::AtMostOnce)])
        .await
        .unwrap();
    broker.publish(message("noise", 0, QoS::AtMostOnce));
    broker.publish(message("signal", 0, QoS::AtMostOnce));
    assert_eq!(next(&mut connected).await.topic.as_str(), "signal");
    assert_eq!(*count.lock().unwrap(), 1);
    // The layers keep no handle of their own: with the last one the link ends.
    drop(connected.connection);
    assert!(matches!(connected.inbound.next().await, Some(Incoming::Ended(_))));
    assert!(broker.connections().is_empty());
}
