//! SPEC 5.2a: each subscription once for each message, however many copies come.

use serde_json::json;
use tars_mqtt::{Client, ErrorKind, InboundMessage, QoS};
use tars_testkit::memory::{MemoryBroker, OverlapMode};

use crate::{Seen, connected, settle};

async fn listen(client: &Client, seen: &Seen, filters: &[(&'static str, QoS)]) {
    for &(filter, qos) in filters {
        let seen = seen.clone();
        client
            .subscribe(filter, move |message: InboundMessage| {
                seen.push(format!("{filter} {}", message.qos));
                async {}
            })
            .qos(qos)
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn every_matching_subscription_runs_once_whatever_the_broker_sends() {
    for mode in [OverlapMode::OneCopy, OverlapMode::CopyPerFilter] {
        let broker = MemoryBroker::new().with_overlap(mode);
        let client = connected(&broker, "svc").await;
        let seen = Seen::default();
        let all = ["a/#", "a/b", "a/+", "+/b"];
        listen(&client, &seen, &all.map(|filter| (filter, QoS::AtLeastOnce))).await;
        let events = 30;
        for n in 0..events {
            client
                .publish_event("a/b", "t", &json!({"n": n}))
                .qos(QoS::AtLeastOnce)
                .await
                .unwrap();
        }
        seen.reach(4 * events).await;
        settle().await;
        assert_eq!(seen.len(), 4 * events, "{mode:?}");
        assert_eq!(broker.backlog("svc"), (0, 0), "{mode:?}: every copy is acknowledged");
    }
}

#[tokio::test(start_paused = true)]
async fn equal_payloads_published_twice_on_purpose_are_two_messages() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    listen(&client, &seen, &[("a/#", QoS::AtLeastOnce), ("a/b", QoS::AtLeastOnce)]).await;
    for _ in 0..3 {
        client.publish("a/b", "same bytes").qos(QoS::AtLeastOnce).await.unwrap();
    }
    seen.reach(6).await;
    settle().await;
    assert_eq!(seen.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn overlapping_filters_go_on_the_wire_at_their_highest_qos() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let filters = [
        ("a/#", QoS::AtMostOnce),
        ("a/b", QoS::ExactlyOnce),
        ("c", QoS::AtMostOnce),
    ];
    listen(&client, &seen, &filters).await;
    settle().await;
    let mut wire: Vec<_> = broker
        .subscriptions("svc")
        .iter()
        .map(|(f, q)| format!("{f} {q}"))
        .collect();
    wire.sort();
    assert_eq!(wire, ["a/# 2", "a/b 2", "c 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_shared_filter_that_overlaps_another_is_refused() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client.subscribe("a/#", async |_: InboundMessage| ()).await.unwrap();
    let error = client
        .subscribe("$share/g/a/b", async |_: InboundMessage| ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFilter);
    assert!(error.to_string().contains("a/#"), "{error}");
    client
        .subscribe("$share/g/b", async |_: InboundMessage| ())
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn shared_subscriptions_are_dispatched() {
    let broker = MemoryBroker::new();
    let (one, two) = (connected(&broker, "one").await, connected(&broker, "two").await);
    let seen = Seen::default();
    for client in [&one, &two] {
        listen(client, &seen, &[("$share/g/work", QoS::AtLeastOnce)]).await;
    }
    for _ in 0..10 {
        one.publish("work", "x").qos(QoS::AtLeastOnce).await.unwrap();
    }
    seen.reach(10).await;
    settle().await;
    assert_eq!(seen.len(), 10);
    assert!(one.stats().handled > 0 && two.stats().handled > 0);
}

#[tokio::test(start_paused = true)]
async fn own_heartbeats_reach_a_dashboard_once_and_nobody_else() {
    let broker = MemoryBroker::new().with_overlap(OverlapMode::CopyPerFilter);
    let config = crate::config("svc")
        .enable_heartbeat(true)
        .heartbeat_interval(crate::secs(1));
    let client = crate::connected_with(&broker, config).await;
    settle().await;
    assert_eq!(client.stats().unrouted, 0);
    let seen = Seen::default();
    listen(&client, &seen, &[("system/keepalive/+", QoS::AtMostOnce)]).await;
    settle().await;
    let before = (client.stats().beats, seen.len() as u64);
    tokio::time::sleep(crate::secs(10)).await;
    let after = (client.stats().beats, seen.len() as u64);
    assert_eq!(after.0 - before.0, after.1 - before.1);
    client.unsubscribe("system/keepalive/+").await.unwrap();
    tokio::time::sleep(crate::secs(20)).await;
    assert_eq!(client.stats().connects, 1, "its own filter is back");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_comes_late_because_the_window_was_full_is_still_a_copy() {
    let broker = MemoryBroker::new()
        .with_overlap(OverlapMode::CopyPerFilter)
        .with_window(1);
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    for filter in ["a/#", "a/b"] {
        let seen = seen.clone();
        client
            .subscribe(filter, move |_: InboundMessage| {
                let seen = seen.clone();
                async move {
                    tokio::time::sleep(crate::secs(3)).await;
                    seen.push(filter);
                }
            })
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
    }
    for n in 0..5 {
        client
            .publish_event("a/b", "t", &json!({"n": n}))
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
    }
    seen.reach(10).await;
    tokio::time::sleep(crate::secs(30)).await;
    assert_eq!(seen.len(), 10);
    assert_eq!(broker.backlog("svc"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shared_filter_over_the_own_heartbeat_is_refused_too() {
    let broker = MemoryBroker::new();
    let config = crate::config("svc").enable_heartbeat(true);
    let client = crate::connected_with(&broker, config).await;
    let error = client
        .subscribe("$share/g/system/keepalive/+", async |_: InboundMessage| ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFilter);
}

#[tokio::test(start_paused = true)]
async fn raw_payloads_run_at_least_once_where_the_broker_sends_several_copies() {
    // Nested, and crossing.
    for filters in [["a/#", "a/b"], ["a/+", "+/b"]] {
        for (mode, copies) in [(OverlapMode::OneCopy, 1), (OverlapMode::CopyPerFilter, 2)] {
            let broker = MemoryBroker::new().with_overlap(mode);
            let client = connected(&broker, "svc").await;
            let seen = Seen::default();
            listen(&client, &seen, &filters.map(|filter| (filter, QoS::AtLeastOnce))).await;
            for _ in 0..3 {
                client.publish("a/b", "same bytes").qos(QoS::AtLeastOnce).await.unwrap();
            }
            settle().await;
            for filter in filters {
                let runs = seen.all().iter().filter(|run| run.starts_with(filter)).count();
                assert_eq!(runs, 3 * copies, "{filter}, {mode:?}");
            }
            assert_eq!(client.stats().copies, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_equal_envelope_published_again_is_a_message_of_its_own_where_no_copy_is_awaited() {
    const EVENT: &str = r#"{"id":"1","type":"t","ts":1.5,"source":"s","data":{}}"#;
    for mode in [OverlapMode::OneCopy, OverlapMode::CopyPerFilter] {
        let broker = MemoryBroker::new().with_overlap(mode);
        let client = connected(&broker, "svc").await;
        let seen = Seen::default();
        let filters = ["a/#", "a/b", "alone"];
        listen(&client, &seen, &filters.map(|filter| (filter, QoS::AtLeastOnce))).await;
        // One subscription alone: nothing can be a copy, however soon it comes.
        for _ in 0..3 {
            client.publish("alone", EVENT).qos(QoS::AtLeastOnce).await.unwrap();
        }
        // Overlapping: later than a copy can come.
        for _ in 0..3 {
            client.publish("a/b", EVENT).qos(QoS::AtLeastOnce).await.unwrap();
            tokio::time::sleep(crate::secs(2)).await;
        }
        for filter in filters {
            let runs = seen.all().iter().filter(|run| run.starts_with(filter)).count();
            assert_eq!(runs, 3, "{filter}, {mode:?}");
        }
    }
}
