//! Defects that other clients had and that are not told elsewhere; the whole list with
//! its tests is in `docs/reliability.md`.

use std::time::Duration;

use tars_mqtt::{InboundMessage, LifecycleEvent, QoS, State};
use tars_testkit::memory::MemoryBroker;

use crate::{Seen, config, connected, connected_with, payload_text, secs, settle};

#[tokio::test(start_paused = true)]
async fn every_client_of_a_fleet_comes_back_at_a_time_of_its_own() {
    let broker = MemoryBroker::new();
    let mut events = Vec::new();
    let mut clients = Vec::new();
    for n in 0..20 {
        let config = config(&format!("svc-{n}")).build().unwrap();
        let client = tars_mqtt::Client::builder(config)
            .connector(broker.connector())
            .build()
            .unwrap();
        client.connect().await.unwrap();
        events.push(client.lifecycle());
        clients.push(client);
    }
    broker.restart(false);
    let mut delays = Vec::new();
    for events in &mut events {
        loop {
            if let Some(LifecycleEvent::ReconnectScheduled { attempt: 1, delay }) = events.next().await {
                delays.push(delay);
                break;
            }
        }
    }
    delays.sort();
    delays.dedup();
    assert!(delays.len() > 15, "first delays that differ: {delays:?}");
}

#[tokio::test(start_paused = true)]
async fn two_instances_with_one_client_id_are_recognised_and_slowed_down() {
    let broker = MemoryBroker::new();
    let (one, two) = (connected(&broker, "twin").await, connected(&broker, "twin").await);
    let mut events = one.lifecycle();
    tokio::time::sleep(secs(120)).await;
    let connects = broker.connect_count("twin");
    assert!(connects < 100, "{connects} connects in two minutes");
    let recognised = async {
        loop {
            if let Some(LifecycleEvent::ClientIdContested { client_id }) = events.next().await {
                return client_id;
            }
        }
    };
    assert_eq!(tokio::time::timeout(secs(60), recognised).await.unwrap(), "twin");
    two.shutdown().await;
    one.state().until(State::Connected).await;
}

#[tokio::test(start_paused = true)]
async fn a_rotated_password_is_used_at_the_next_reconnect() {
    let folder = std::env::temp_dir().join(format!("tars-rotated-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("password");
    std::fs::write(&file, "old\n").unwrap();
    let broker = MemoryBroker::new().with_credentials("svc", "old");
    let client = connected_with(&broker, config("svc").username("svc").password_file(&file)).await;
    std::fs::write(&file, "new\n").unwrap();
    let _ = broker.clone().with_credentials("svc", "new");
    broker.cut("svc");
    client.state().until(State::Reconnecting).await;
    client.state().until(State::Connected).await;
    assert_eq!(client.stats().connects, 2);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_timed_out_publish_does_not_stall_the_queue() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.freeze();
    let lost = client.publish("a", "late").qos(QoS::AtLeastOnce).timeout(secs(1)).await;
    assert!(lost.is_err());
    let next = client
        .publish("a", "next")
        .qos(QoS::AtLeastOnce)
        .accepted()
        .await
        .unwrap();
    broker.thaw();
    next.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_packet_above_the_limit_that_the_broker_sends_again_is_no_hot_loop() {
    let broker = MemoryBroker::new();
    let config = config("svc").clean_session(false).max_packet_size(1000);
    let client = connected_with(&broker, config).await;
    client
        .subscribe("big", async |_: InboundMessage| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let mut events = client.lifecycle();
    broker.publish(tars_mqtt::Message::new("big".parse().unwrap(), vec![0; 2000]).with_qos(QoS::AtLeastOnce));
    let reason = loop {
        if let Some(LifecycleEvent::ConnectionLost { reason }) = events.next().await {
            break reason;
        }
    };
    assert_eq!(reason.kind(), tars_mqtt::ErrorKind::TooLarge, "{reason:?}");
    let before = broker.connect_count("svc");
    tokio::time::sleep(secs(60)).await;
    let connects = broker.connect_count("svc") - before;
    assert!(connects <= 30, "{connects} connects in a minute");
}

#[tokio::test(start_paused = true)]
async fn one_message_is_handled_once_after_many_reconnects() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let handled = seen.clone();
    client
        .subscribe("a", move |message: InboundMessage| {
            handled.push(payload_text(&message.payload));
            async {}
        })
        .await
        .unwrap();
    for _ in 0..20 {
        broker.restart(false);
        client.state().until(State::Reconnecting).await;
        client.state().until(State::Connected).await;
    }
    settle().await;
    assert_eq!(broker.subscriptions("svc").len(), 1);
    client.publish("a", "once").qos(QoS::AtLeastOnce).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(seen.all(), ["once"]);
}
