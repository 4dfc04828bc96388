use std::time::Duration;

use serde_json::{Value, json};
use tars_mqtt::{HealthFormat, InboundMessage, QoS, State};
use tars_testkit::memory::MemoryBroker;

use crate::{config, connected_with, secs, settle};

fn data(broker: &MemoryBroker) -> Vec<Value> {
    let health = broker
        .published()
        .into_iter()
        .filter(|m| m.topic.as_str() == "system/health/svc");
    health
        .map(|message| {
            assert_eq!((message.qos, message.retain), (QoS::AtLeastOnce, true));
            let mut envelope: Value = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(envelope["type"], "health.status");
            let mut data = envelope["data"].take();
            assert!(data.as_object_mut().unwrap().remove("timestamp").unwrap().is_f64());
            data
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn health_tells_the_life_of_a_service() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").enable_health(true)).await;
    client.publish_health(true).event("ready").await.unwrap();
    client.publish_health(false).error("camera gone").await.unwrap();
    broker.cut("svc");
    broker.wait_until(|broker| data(broker).len() == 5).await;
    client.shutdown().await;
    assert_eq!(
        data(&broker),
        [
            json!({"ok": true, "event": "connected"}),
            json!({"ok": true, "event": "ready"}),
            json!({"ok": false, "error": "camera gone"}),
            json!({"ok": false, "event": "offline", "error": "connection lost"}),
            json!({"ok": false, "event": "reconnected", "error": "camera gone"}),
            json!({"ok": false, "event": "shutdown"}),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_when_health_is_off() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc")).await;
    client.publish_health(true).event("ready").await.unwrap();
    client.shutdown().await;
    assert!(broker.published().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_status_set_while_reconnecting_is_the_one_published_on_return() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").enable_health(true)).await;
    settle().await;
    broker.stop();
    client.state().until(State::Reconnecting).await;
    let status = tokio::spawn(client.publish_health(false).event("degraded").into_future());
    settle().await;
    assert!(!status.is_finished(), "Ok means that the broker has it");
    broker.start();
    status.await.unwrap().unwrap();
    assert_eq!(
        data(&broker).last().unwrap(),
        &json!({"ok": false, "event": "degraded"})
    );
}

use std::future::IntoFuture;

#[tokio::test(start_paused = true)]
async fn after_an_unclean_end_health_is_published_once_more_when_the_connection_is_stable() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").enable_health(true)).await;
    settle().await;
    broker.cut("svc");
    client.state().until(State::Reconnecting).await;
    client.state().until(State::Connected).await;
    settle().await;
    let before = data(&broker).len();
    tokio::time::sleep(secs(30)).await;
    let after = data(&broker);
    assert_eq!(after.len(), before + 1);
    assert_eq!(after.last().unwrap(), &json!({"ok": true, "event": "reconnected"}));
}

#[tokio::test(start_paused = true)]
async fn the_original_format_is_written_for_consumers_that_know_only_that() {
    let broker = MemoryBroker::new();
    let config = config("svc").enable_health(true).health_format(HealthFormat::Original);
    let client = connected_with(&broker, config).await;
    client.publish_health(false).error("boom").await.unwrap();
    broker.cut("svc");
    broker.wait_until(|broker| data(broker).len() >= 3).await;
    let written = data(&broker);
    for status in &written[1..3] {
        let keys: Vec<_> = status.as_object().unwrap().keys().cloned().collect();
        assert!(
            keys[0] == "message_id" && keys.iter().any(|key| key == "err"),
            "{status}"
        );
        assert!(keys.iter().all(|key| key != "error"), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_beat_goes_out_at_once_and_is_no_envelope() {
    let broker = MemoryBroker::new();
    let config = config("svc").enable_heartbeat(true).heartbeat_interval(secs(30));
    let client = connected_with(&broker, config).await;
    broker.wait_until(|broker| !broker.published().is_empty()).await;
    let beat = &broker.published()[0];
    assert_eq!(beat.topic.as_str(), "system/keepalive/svc");
    assert_eq!((beat.qos, beat.retain), (QoS::AtMostOnce, false));
    let beat: Value = serde_json::from_slice(&beat.payload).unwrap();
    assert_eq!((&beat["ok"], &beat["event"]), (&json!(true), &json!("heartbeat")));
    tokio::time::sleep(secs(91)).await;
    assert_eq!(client.stats().beats, 4);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_takes_bytes_and_never_answers_is_noticed_in_about_three_intervals() {
    let broker = MemoryBroker::new();
    let config = config("svc")
        .enable_heartbeat(true)
        .heartbeat_interval(secs(1))
        .keepalive(secs(60));
    let client = connected_with(&broker, config).await;
    tokio::time::sleep(Duration::from_millis(5200)).await;
    broker.freeze();
    let begin = tokio::time::Instant::now();
    client.state().until(State::Reconnecting).await;
    let noticed = begin.elapsed().as_secs_f64();
    assert!((2.0..=4.0).contains(&noticed), "after {noticed} s");
    broker.thaw();
    client.state().until(State::Connected).await;
}

#[tokio::test(start_paused = true)]
async fn where_the_echo_is_refused_the_connection_stays_up() {
    let broker = MemoryBroker::new();
    broker.refuse_filter("system/keepalive/svc");
    let config = config("svc")
        .enable_heartbeat(true)
        .heartbeat_interval(secs(1))
        .keepalive(secs(3600));
    let client = connected_with(&broker, config).await;
    client.subscribe("a", async |_: InboundMessage| ()).await.unwrap();
    tokio::time::sleep(secs(60)).await;
    assert_eq!(client.stats().connects, 1);
}
