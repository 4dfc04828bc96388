//! SPEC 6.4: one subscription handles the same message once, and what failed again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use tars_mqtt::{Client, ConfigBuilder, Envelope, InboundMessage, OnFailure, QoS, State};
use tars_testkit::memory::MemoryBroker;
use tokio::sync::Semaphore;

use crate::{Seen, config, connected, connected_with, payload_text, secs, settle};

fn deduplicating() -> ConfigBuilder {
    config("svc").dedupe_ttl(secs(10))
}

/// An envelope, to be sent as often as wanted.
fn event(id: &str) -> String {
    format!(r#"{{"id":"{id}","type":"t","ts":1.0,"source":"s","data":{{"x":1}}}}"#)
}

async fn send(client: &Client, payload: impl Into<String>) {
    client
        .publish("a/b", payload.into())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
}

async fn listen(client: &Client, filter: &'static str, seen: &Seen) {
    let seen = seen.clone();
    client
        .subscribe(filter, move |message: InboundMessage| {
            seen.push(format!("{filter} {}", payload_text(&message.payload)));
            async {}
        })
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
}

/// A handler that waits for a permit and then fails as often as it is told to.
async fn gated(
    client: &Client,
    workers: usize,
    failures: usize,
    policy: OnFailure,
) -> (Arc<AtomicUsize>, Arc<Semaphore>) {
    let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (counted, waited) = (runs.clone(), gate.clone());
    client
        .subscribe("a/b", move |_: InboundMessage| {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            let gate = waited.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                if run < failures {
                    Err("as the test wants")
                } else {
                    Ok(())
                }
            }
        })
        .qos(QoS::AtLeastOnce)
        .concurrency(workers)
        .on_failure(policy)
        .await
        .unwrap();
    (runs, gate)
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_skipped_and_acknowledged() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, deduplicating()).await;
    let seen = Seen::default();
    listen(&client, "a/b", &seen).await;
    for id in ["1", "1", "2", "1"] {
        send(&client, event(id)).await;
    }
    // Who sent it and when makes no difference, nor the order of its fields.
    send(&client, r#"{"type":"t","data":{"x":1},"id":"2","ts":2,"v":[]}"#).await;
    client.publish("a/b", event("1")).await.unwrap();
    settle().await;
    assert_eq!(seen.all(), ["1", "2"].map(|id| format!("a/b {}", event(id))));
    assert_eq!((client.stats().handled, client.stats().duplicates), (2, 4));
    assert_eq!(broker.backlog("svc"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn it_is_off_by_default() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    listen(&client, "a/b", &seen).await;
    for _ in 0..3 {
        send(&client, event("1")).await;
    }
    settle().await;
    assert_eq!((seen.len(), client.stats().duplicates), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_envelope_is_never_a_duplicate() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, deduplicating()).await;
    let seen = Seen::default();
    listen(&client, "a/b", &seen).await;
    let payloads = [
        "bytes",
        "",
        r#"{"ok":true}"#,
        r#"{"type":"t","data":{}}"#,
        r#"{"id":"","type":"t","data":{}}"#,
    ];
    for payload in payloads {
        send(&client, payload).await;
        send(&client, payload).await;
    }
    settle().await;
    assert_eq!((seen.len(), client.stats().duplicates), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn every_duplicate_of_an_invalid_message_is_invalid() {
    #[derive(Deserialize)]
    struct Other {
        #[expect(dead_code, reason = "only to be missed")]
        y: u8,
    }
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, deduplicating()).await;
    client
        .subscribe("a/b", async |_: Envelope<Other>| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    for _ in 0..3 {
        send(&client, event("1")).await;
    }
    settle().await;
    assert_eq!((client.stats().invalid, client.stats().duplicates), (3, 0));
    assert_eq!(broker.backlog("svc"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn every_subscription_handles_it() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, deduplicating()).await;
    let seen = Seen::default();
    for filter in ["a/b", "a/#"] {
        listen(&client, filter, &seen).await;
    }
    for _ in 0..3 {
        send(&client, event("1")).await;
        // Out of the window in which it were a copy of the same delivery.
        tokio::time::sleep(secs(2)).await;
    }
    let mut handled = seen.all();
    handled.sort();
    assert_eq!(handled, ["a/#", "a/b"].map(|filter| format!("{filter} {}", event("1"))));
    assert_eq!(broker.backlog("svc"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn it_is_forgotten_after_the_ttl_which_a_duplicate_renews() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, deduplicating()).await;
    let seen = Seen::default();
    listen(&client, "a/b", &seen).await;
    for (pause, handled) in [(0, 1), (9, 1), (9, 1), (9, 1), (11, 2), (9, 2)] {
        tokio::time::sleep(secs(pause)).await;
        send(&client, event("1")).await;
        settle().await;
        assert_eq!(seen.len(), handled);
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_is_forgotten_when_there_are_too_many() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, deduplicating().dedupe_max_entries(2)).await;
    let seen = Seen::default();
    listen(&client, "a/b", &seen).await;
    for id in ["1", "2", "1", "3", "1", "2"] {
        send(&client, event(id)).await;
    }
    settle().await;
    assert_eq!(seen.all(), ["1", "2", "3", "2"].map(|id| format!("a/b {}", event(id))));
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_not_seen_whatever_the_policy() {
    for (policy, messages) in [
        (OnFailure::ack(), 3),
        (OnFailure::ack().dead_letter("dead"), 3),
        (OnFailure::retry(1, secs(1)), 2),
    ] {
        let broker = MemoryBroker::new();
        let client = connected_with(&broker, deduplicating()).await;
        let (runs, gate) = gated(&client, 1, 2, policy.clone()).await;
        gate.add_permits(10);
        for _ in 0..5 {
            send(&client, event("1")).await;
            tokio::time::sleep(secs(2)).await;
        }
        // Two runs fail and one succeeds, of so many messages; the rest is skipped.
        assert_eq!(runs.load(Ordering::SeqCst), 3, "{policy:?}");
        assert_eq!(client.stats().duplicates, 5 - messages, "{policy:?}");
        assert_eq!(broker.backlog("svc"), (0, 0), "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_joins_the_run_and_is_acknowledged_with_it() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, deduplicating()).await;
    let (runs, gate) = gated(&client, 3, 0, OnFailure::ack()).await;
    for _ in 0..5 {
        send(&client, event("1")).await;
    }
    settle().await;
    assert_eq!((runs.load(Ordering::SeqCst), broker.backlog("svc").0), (1, 5));
    assert_eq!(client.stats().duplicates, 0, "not before it has succeeded");
    gate.add_permits(1);
    settle().await;
    assert_eq!((runs.load(Ordering::SeqCst), broker.backlog("svc").0), (1, 0));
    assert_eq!(client.stats().duplicates, 4);
}

#[tokio::test(start_paused = true)]
async fn when_the_run_fails_a_duplicate_that_joined_it_is_run() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, deduplicating()).await;
    let (runs, gate) = gated(&client, 2, 2, OnFailure::ack()).await;
    for _ in 0..4 {
        send(&client, event("1")).await;
    }
    settle().await;
    for (run, unacknowledged) in [(1, 4), (2, 3), (3, 2)] {
        let at = (runs.load(Ordering::SeqCst), broker.backlog("svc").0);
        assert_eq!(at, (run, unacknowledged));
        gate.add_permits(1);
        settle().await;
    }
    assert_eq!((runs.load(Ordering::SeqCst), broker.backlog("svc")), (3, (0, 0)));
    let stats = client.stats();
    assert_eq!((stats.failed, stats.handled, stats.duplicates), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_delivers_again_meanwhile_joins_the_run() {
    for failures in [0, 1] {
        let broker = MemoryBroker::new();
        let client = connected_with(&broker, deduplicating().clean_session(false)).await;
        let (runs, gate) = gated(&client, 2, failures, OnFailure::ack()).await;
        send(&client, event("1")).await;
        settle().await;
        for _ in 0..2 {
            broker.cut("svc");
            client.state().until(State::Reconnecting).await;
            client.state().until(State::Connected).await;
            settle().await;
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(broker.backlog("svc").0, 1);
        gate.add_permits(5);
        settle().await;
        assert_eq!(runs.load(Ordering::SeqCst), 1 + failures, "once more if it failed");
        // What an ended link brought waits no longer: there is one delivery besides the first.
        assert_eq!(client.stats().duplicates, 1 - failures as u64);
        assert_eq!(broker.backlog("svc"), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_handled_when_the_link_was_down_is_not_handled_again() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, deduplicating().clean_session(false)).await;
    let (runs, gate) = gated(&client, 1, 0, OnFailure::ack()).await;
    send(&client, event("1")).await;
    settle().await;
    broker.stop();
    client.state().until(State::Reconnecting).await;
    gate.add_permits(5);
    settle().await;
    assert_eq!(client.stats().handled, 1);
    broker.start();
    client.state().until(State::Connected).await;
    broker.wait_until(|broker| broker.backlog("svc") == (0, 0)).await;
    assert_eq!((runs.load(Ordering::SeqCst), client.stats().duplicates), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_off_runs_again() {
    let broker = MemoryBroker::new();
    let config = deduplicating().clean_session(false).shutdown_timeout(secs(1));
    let client = connected_with(&broker, config).await;
    let (runs, gate) = gated(&client, 2, 0, OnFailure::ack()).await;
    for _ in 0..3 {
        send(&client, event("1")).await;
    }
    settle().await;
    client.disconnect().await.unwrap();
    assert_eq!((runs.load(Ordering::SeqCst), broker.backlog("svc").0), (1, 3));
    gate.add_permits(5);
    client.connect().await.unwrap();
    broker.wait_until(|broker| broker.backlog("svc") == (0, 0)).await;
    settle().await;
    assert_eq!((runs.load(Ordering::SeqCst), client.stats().duplicates), (2, 2));
}
