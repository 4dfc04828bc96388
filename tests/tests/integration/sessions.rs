//! Persistent sessions: what the broker keeps for a client that is away, and what happens when it
//! does not.

use serde_json::json;
use tars_mqtt::{Adapter, Client, Data, Envelope, LifecycleEvent, QoS};
use tars_testkit::mosquitto::Mosquitto;
use tokio::process::Command;

use crate::support::child::{Child, fixture};
use crate::support::seen::Seen;
use crate::support::{broker, config, connected, connected_with, started, within};

fn worker(role: &str, broker: &Mosquitto, adapter: Adapter) -> Command {
    let mut command = fixture(role);
    command
        .env("MQTT_ADAPTER", adapter.name())
        .env("MQTT_URL", broker.url())
        .env("MQTT_CLIENT_ID", "worker")
        .env("MQTT_CLEAN_SESSION", "false");
    command
}

#[tokio::test]
async fn a_process_killed_inside_a_handler_gets_the_message_again() {
    let broker = broker().await;
    let mut first = Child::start(worker("hang", &broker, Adapter::Rumqttc));
    first.until_line("ready").await;
    let boss = connected(&broker, "boss").await;
    for job in ["one", "two", "three"] {
        boss.publish("jobs", job).qos(QoS::AtLeastOnce).await.unwrap();
    }
    first.until_line("taken one").await;
    first.kill().await;
    boss.publish("jobs", "four").qos(QoS::AtLeastOnce).await.unwrap();

    let mut second = Child::start(worker("work", &broker, Adapter::Rumqttc));
    let mut handled = Vec::new();
    let mut is_ready = false;
    while handled.len() < 4 || !is_ready {
        let line = second.line().await;
        is_ready |= line == "ready";
        handled.extend(line.strip_prefix("handled ").map(str::to_owned));
    }
    assert_eq!(handled, ["one again", "two again", "three again", "four"]);
    assert!(second.terminate().await.status.success());

    // All are acknowledged: a third one gets nothing but what is new.
    let mut third = Child::start(worker("work", &broker, Adapter::Rumqttc));
    assert_eq!(third.line().await, "ready");
    boss.publish("jobs", "five").qos(QoS::AtLeastOnce).await.unwrap();
    assert_eq!(third.line().await, "handled five");
    assert_eq!(third.terminate().await.output, "");
}

/// Paho acknowledges on receipt: what a killed process had is gone, and documented as such. What
/// came while it was away is kept for it all the same, and finds its handler in place.
#[cfg(feature = "paho")]
#[tokio::test]
async fn with_paho_a_killed_process_gets_what_came_while_it_was_away() {
    let broker = broker().await;
    let mut first = Child::start(worker("hang", &broker, Adapter::Paho));
    first.until_line("ready").await;
    let boss = connected(&broker, "boss").await;
    boss.publish("jobs", "one").qos(QoS::AtLeastOnce).await.unwrap();
    first.until_line("taken one").await;
    first.kill().await;
    for job in ["two", "three"] {
        boss.publish("jobs", job).qos(QoS::AtLeastOnce).await.unwrap();
    }
    let mut second = Child::start(worker("work", &broker, Adapter::Paho));
    let mut handled: Vec<String> = Vec::new();
    while handled.len() < 2 {
        handled.extend(second.line().await.strip_prefix("handled ").map(str::to_owned));
    }
    assert_eq!(handled, ["two", "three"]);
}

/// A persistent client with two subscriptions and the list of what they handle.
async fn listening(broker: &Mosquitto, adapter: Adapter, seen: &Seen<String>) -> Client {
    let client = connected_with(config(broker, "svc").adapter(adapter).clean_session(false)).await;
    for filter in ["a/+", "b"] {
        let seen = seen.clone();
        let handler = move |event: Envelope<Data>| {
            seen.push(format!("{filter} {}", event.event_type));
            async {}
        };
        client.subscribe(filter, handler).qos(QoS::AtLeastOnce).await.unwrap();
    }
    client
}

async fn publish(client: &Client, topic: &str, event_type: &str) {
    let publish = client
        .publish_event(topic, event_type, &json!({}))
        .qos(QoS::AtLeastOnce);
    within("a publish", publish.into_future()).await.unwrap();
}

/// Whether the broker had the session when the client came back.
async fn reconnected(events: &mut tars_mqtt::Lifecycle) -> bool {
    within("reconnecting", async {
        loop {
            if let LifecycleEvent::Connected { session_present } = events.next().await.expect("the client is alive") {
                return session_present;
            }
        }
    })
    .await
}

fn subscribe_packets(broker: &Mosquitto) -> usize {
    broker.log().matches("Received SUBSCRIBE from svc").count()
}

async fn a_lost_session_is_subscribed_again(adapter: Adapter) {
    // Without persistence it forgets.
    let mut broker = broker().await;
    let seen = Seen::default();
    let client = listening(&broker, adapter, &seen).await;
    let mut events = client.lifecycle();
    broker.kill().await.unwrap();
    broker.start_again().await.unwrap();
    assert!(!reconnected(&mut events).await);
    for (topic, event_type) in [("a/x", "one"), ("b", "two")] {
        publish(&client, topic, event_type).await;
    }
    assert_eq!(seen.reach(2).await, ["a/+ one", "b two"]);
}

async fn a_kept_session_is_not_subscribed_again(adapter: Adapter) {
    let mut broker = started(Mosquitto::builder().persistence(true)).await;
    let seen = Seen::default();
    let client = listening(&broker, adapter, &seen).await;
    let before = subscribe_packets(&broker);
    let mut events = client.lifecycle();
    broker.restart().await.unwrap();
    assert!(reconnected(&mut events).await);
    for (topic, event_type) in [("a/x", "one"), ("b", "two")] {
        publish(&client, topic, event_type).await;
    }
    assert_eq!(seen.reach(2).await, ["a/+ one", "b two"]);
    assert_eq!(
        subscribe_packets(&broker),
        before,
        "a new SUBSCRIBE would replay all retained messages"
    );
}

#[tokio::test]
async fn a_session_that_the_broker_lost_is_subscribed_again() {
    a_lost_session_is_subscribed_again(Adapter::Rumqttc).await;
}

#[tokio::test]
async fn a_session_that_the_broker_kept_is_not_subscribed_again() {
    a_kept_session_is_not_subscribed_again(Adapter::Rumqttc).await;
}

#[cfg(feature = "paho")]
#[tokio::test]
async fn with_paho_a_session_that_the_broker_lost_is_subscribed_again() {
    a_lost_session_is_subscribed_again(Adapter::Paho).await;
}

#[cfg(feature = "paho")]
#[tokio::test]
async fn with_paho_a_session_that_the_broker_kept_is_not_subscribed_again() {
    a_kept_session_is_not_subscribed_again(Adapter::Paho).await;
}
