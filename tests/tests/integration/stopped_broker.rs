//! A broker that stands still (SIGSTOP): the kernel takes bytes for it, and it answers nothing.

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tars_mqtt::{Client, Data, Envelope, Lifecycle, LifecycleEvent, QoS, State};
use tars_testkit::mosquitto::Mosquitto;

use crate::support::seen::Seen;
use crate::support::{broker, config, connected, connected_with, within};

/// "About three intervals" of one second.
const ABOUT_THREE: Range<Duration> = Duration::from_secs(2)..Duration::from_millis(4500);

const FILTERS: [&str; 2] = ["after/one", "after/two"];

/// A client that beats every second, with two subscriptions.
async fn beating(broker: &Mosquitto, client_id: &str, seen: &Seen<&'static str>) -> Client {
    let config = config(broker, client_id).enable_heartbeat(true);
    let client = connected_with(config.heartbeat_interval(Duration::from_secs(1))).await;
    for filter in FILTERS {
        let seen = seen.clone();
        let handler = move |_: Envelope<Data>| {
            seen.push(filter);
            async {}
        };
        client.subscribe(filter, handler).await.unwrap();
    }
    client
}

async fn publish(client: &Client, topic: &str) {
    let publish = client.publish_event(topic, "t", &json!({})).qos(QoS::AtLeastOnce);
    within("a publish", publish.into_future()).await.unwrap();
}

/// Why the connection was lost.
async fn lost(events: &mut Lifecycle) -> String {
    within("the reason", async {
        loop {
            if let Some(LifecycleEvent::ConnectionLost { reason }) = events.next().await {
                return reason.to_string();
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_watchdog_notices_within_about_three_intervals_and_afterwards_all_is_back() {
    let broker = broker().await;
    let observer = connected(&broker, "observer").await;
    let beats = Seen::default();
    let handler_beats = beats.clone();
    let handler = move |beat: Bytes| {
        handler_beats.push(beat);
        async {}
    };
    observer.subscribe("system/keepalive/svc", handler).await.unwrap();
    let seen = Seen::default();
    let client = beating(&broker, "svc", &seen).await;
    // In full swing: beats go round.
    beats.reach(2).await;
    publish(&client, "before").await;
    let mut state = client.state();
    let mut events = client.lifecycle();

    broker.pause().unwrap();
    let paused = Instant::now();
    within("the watchdog", state.until(State::Reconnecting)).await;
    let silent = paused.elapsed();
    assert!(ABOUT_THREE.contains(&silent), "noticed after {silent:?}");
    let reason = lost(&mut events).await;
    assert!(reason.contains("heartbeat"), "{reason}");

    broker.resume().unwrap();
    within("the broker is back", state.until(State::Connected)).await;
    for topic in FILTERS {
        publish(&client, topic).await;
    }
    seen.until(|seen| FILTERS.iter().all(|filter| seen.contains(filter)))
        .await;
    assert!(client.shutdown().await.is_complete());
}

/// The broker has answered then, but may not have sent a beat back yet: that is no reason to take it
/// for one that never does. Which of the two comes first is a matter of a millisecond, hence rounds.
#[tokio::test]
async fn the_watchdog_notices_also_when_it_stops_right_after_connecting() {
    let mut rounds = tokio::task::JoinSet::new();
    for _ in 0..4 {
        rounds.spawn(async {
            let broker = broker().await;
            let client = beating(&broker, "svc", &Seen::default()).await;
            broker.pause().unwrap();
            let paused = Instant::now();
            within("the watchdog", client.state().until(State::Reconnecting)).await;
            paused.elapsed()
        });
    }
    for silent in rounds.join_all().await {
        assert!(ABOUT_THREE.contains(&silent), "noticed after {silent:?}");
    }
}
