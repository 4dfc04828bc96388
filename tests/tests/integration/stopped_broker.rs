//! A broker that stands still (SIGSTOP): the kernel takes bytes for it, and it answers nothing.

use std::time::{Duration, Instant};

use serde_json::json;
use tars_mqtt::{Data, Envelope, LifecycleEvent, State};

use crate::support::seen::Seen;
use crate::support::{broker, config, connected_with, within};

#[tokio::test]
async fn the_watchdog_notices_within_about_three_intervals_and_afterwards_all_is_back() {
    let broker = broker().await;
    let config = config(&broker, "svc")
        .enable_heartbeat(true)
        .heartbeat_interval(Duration::from_secs(1));
    let client = connected_with(config).await;
    let seen = Seen::default();
    for filter in ["after/one", "after/two"] {
        let seen = seen.clone();
        let handler = move |_: Envelope<Data>| {
            seen.push(filter);
            async {}
        };
        client.subscribe(filter, handler).await.unwrap();
    }
    let mut state = client.state();
    let mut events = client.lifecycle();

    broker.pause().unwrap();
    let paused = Instant::now();
    within("the watchdog", state.until(State::Reconnecting)).await;
    let silent = paused.elapsed();
    assert!(
        (Duration::from_secs(2)..Duration::from_millis(4500)).contains(&silent),
        "noticed after {silent:?}"
    );
    let lost = within("the reason", async {
        loop {
            if let Some(LifecycleEvent::ConnectionLost { reason }) = events.next().await {
                return reason.to_string();
            }
        }
    });
    let reason = lost.await;
    assert!(reason.contains("heartbeat"), "{reason}");

    broker.resume().unwrap();
    within("the broker is back", state.until(State::Connected)).await;
    for topic in ["after/one", "after/two"] {
        // A connection that the broker accepted while it was given up may still be cut once.
        let publish = client
            .publish_event(topic, "after", &json!({}))
            .qos(tars_mqtt::QoS::AtLeastOnce);
        within("a publish", publish.into_future()).await.unwrap();
    }
    seen.until(|seen| seen.contains(&"after/one") && seen.contains(&"after/two"))
        .await;
    assert!(client.shutdown().await.is_complete());
}
