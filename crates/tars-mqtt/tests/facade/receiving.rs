use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tars_mqtt::{Acknowledge, Context, Envelope, InboundMessage, OnFailure, Overflow, QoS, TopicName};
use tars_testkit::memory::MemoryBroker;
use tokio::sync::Semaphore;

use crate::{Seen, config, connected, connected_with, payload_text, secs, settle};

#[derive(Deserialize)]
struct Wake {
    word: String,
}

#[tokio::test(start_paused = true)]
async fn a_handler_takes_what_it_needs() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let typed = seen.clone();
    client
        .subscribe(
            "wake/+",
            move |wake: Envelope<Wake>, topic: TopicName, context: Context| {
                let seen = typed.clone();
                async move {
                    let same = context.correlation_id().as_deref() == Some(wake.correlation_id());
                    seen.push(format!("typed {} {} {topic} {same}", wake.event_type, wake.data.word));
                }
            },
        )
        .await
        .unwrap();
    let raw = seen.clone();
    client
        .subscribe("raw", move |message: InboundMessage| {
            raw.push(format!("raw {} {}", message.topic, payload_text(&message.payload)));
            async {}
        })
        .await
        .unwrap();
    client
        .publish_event("wake/word", "wake.word", &json!({"word": "tars"}))
        .await
        .unwrap();
    assert_eq!(seen.reach(1).await, ["typed wake.word tars wake/word true"]);
    client.publish("raw", "\u{1f916}").await.unwrap();
    assert_eq!(seen.reach(2).await[1], "raw raw \u{1f916}");
    assert_eq!(client.stats().handled, 2);
}

#[tokio::test(start_paused = true)]
async fn errors_panics_and_slow_handlers_harm_nobody_else() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let good = seen.clone();
    client
        .subscribe("x/#", move |message: InboundMessage| {
            good.push(payload_text(&message.payload));
            async {}
        })
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    client
        .subscribe("x/+", async |message: InboundMessage| match &message.payload[..] {
            b"panic" => panic!("as the test wants"),
            b"slow" => std::future::pending().await,
            b"error" => Err("as the test wants"),
            _ => Ok(()),
        })
        .qos(QoS::AtLeastOnce)
        .timeout(secs(2))
        .await
        .unwrap();
    for what in ["panic", "slow", "error", "fine"] {
        client.publish("x/y", what).qos(QoS::AtLeastOnce).await.unwrap();
    }
    assert_eq!(seen.reach(4).await, ["panic", "slow", "error", "fine"]);
    tokio::time::sleep(secs(3)).await;
    let stats = client.stats();
    assert_eq!((stats.failed, stats.handled), (3, 5));
    // The default policy acknowledges: nothing is left with the broker.
    assert_eq!(broker.backlog("svc"), (0, 0));
    assert!(client.is_connected());
}

/// Runs a failing handler under a policy and returns how often it ran.
async fn failing(client: &tars_mqtt::Client, policy: OnFailure, failures: usize) -> Arc<AtomicUsize> {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    client
        .subscribe("job", move |_: InboundMessage| {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move { if run < failures { Err("not yet") } else { Ok(()) } }
        })
        .qos(QoS::AtLeastOnce)
        .on_failure(policy)
        .await
        .unwrap();
    runs
}

#[tokio::test(start_paused = true)]
async fn retry_runs_the_handler_again_and_acknowledges_after_success() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let runs = failing(&client, OnFailure::retry(3, secs(1)), 2).await;
    client.publish("job", "x").qos(QoS::AtLeastOnce).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(broker.backlog("svc").0, 1, "not acknowledged before it succeeded");
    tokio::time::sleep(secs(2)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    assert_eq!(broker.backlog("svc"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn after_the_last_retry_the_dead_letter_goes_out_and_only_then_the_acknowledgement() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let runs = failing(&client, OnFailure::retry(1, secs(1)).dead_letter("dead/job"), 99).await;
    let id = client
        .publish_event("job", "job", &json!({}))
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    broker.wait_until(|broker| broker.published().len() == 3).await;
    settle().await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    let published = broker.published();
    assert_eq!(published[1].topic.as_str(), "dead/job");
    assert_eq!(published[1].payload, published[0].payload);
    assert_eq!(published[2].topic.as_str(), "dead/job/info");
    let info: serde_json::Value = serde_json::from_slice(&published[2].payload).unwrap();
    assert_eq!(info["type"], "dead.letter");
    assert_eq!(
        info["data"],
        json!({"topic": "job", "reason": "not yet", "attempts": 2, "envelope_id": id})
    );
    assert_eq!(broker.backlog("svc"), (0, 0));
    assert_eq!(client.stats().dead_lettered, 1);
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_subscription_run_in_order_and_with_concurrency_at_once() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for (filter, workers) in [("one", 1), ("four", 4)] {
        let (now, peak) = (running.clone(), most.clone());
        client
            .subscribe(filter, move |_: InboundMessage| {
                let (running, most) = (now.clone(), peak.clone());
                async move {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(secs(1)).await;
                    running.fetch_sub(1, Ordering::SeqCst);
                }
            })
            .concurrency(workers)
            .await
            .unwrap();
        for _ in 0..8 {
            client.publish(filter, "x").await.unwrap();
        }
        tokio::time::sleep(secs(10)).await;
        assert_eq!(most.swap(0, Ordering::SeqCst), workers);
    }
}

#[tokio::test(start_paused = true)]
async fn qos_0_overflow_drops_by_policy_and_counts() {
    for (overflow, expected) in [
        (Overflow::DropOldest, ["0", "8", "9"]),
        (Overflow::DropNewest, ["0", "1", "2"]),
    ] {
        let broker = MemoryBroker::new();
        let client = connected(&broker, "svc").await;
        let gate = Arc::new(Semaphore::new(0));
        let seen = Seen::default();
        let (handler_gate, handler_seen) = (gate.clone(), seen.clone());
        client
            .subscribe("s", move |message: InboundMessage| {
                let (gate, seen) = (handler_gate.clone(), handler_seen.clone());
                async move {
                    seen.push(payload_text(&message.payload));
                    gate.acquire().await.unwrap().forget();
                }
            })
            .queue(2)
            .on_overflow(overflow)
            .await
            .unwrap();
        client.publish("s", "0").await.unwrap();
        seen.reach(1).await;
        for n in 1..10 {
            client.publish("s", n.to_string()).await.unwrap();
        }
        settle().await;
        gate.add_permits(10);
        assert_eq!(seen.reach(3).await, expected);
        settle().await;
        assert_eq!(client.stats().dropped, 7);
        assert_eq!(seen.len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocked_handler_delays_no_other_subscription_and_not_the_heartbeat() {
    let broker = MemoryBroker::new();
    let config = config("svc").enable_heartbeat(true).heartbeat_interval(secs(1));
    let client = connected_with(&broker, config).await;
    client
        .subscribe("stuck", async |_: InboundMessage| std::future::pending::<()>().await)
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let seen = Seen::default();
    let quick = seen.clone();
    client
        .subscribe("quick", move |_: InboundMessage| {
            quick.push("quick");
            async {}
        })
        .await
        .unwrap();
    for n in 0..100 {
        client
            .publish("stuck", n.to_string())
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
    }
    // The broker's window is full now: no further QoS 1, but everything else goes on.
    assert_eq!(broker.backlog("svc").0, 20);
    client.publish("quick", "x").await.unwrap();
    seen.reach(1).await;
    tokio::time::sleep(secs(30)).await;
    assert!(client.is_connected());
    assert_eq!(client.stats().connects, 1);
    assert!(client.stats().beats >= 30);
}

#[tokio::test(start_paused = true)]
async fn acknowledged_on_receipt_if_the_subscription_says_so() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client
        .subscribe("stuck", async |_: InboundMessage| std::future::pending::<()>().await)
        .qos(QoS::AtLeastOnce)
        .acknowledge(Acknowledge::OnReceipt)
        .await
        .unwrap();
    for _ in 0..100 {
        client.publish("stuck", "x").qos(QoS::AtLeastOnce).await.unwrap();
    }
    settle().await;
    assert_eq!(broker.backlog("svc"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn on_a_kept_session_what_a_cut_off_handler_had_comes_again() {
    let broker = MemoryBroker::new();
    let persistent = || config("svc").clean_session(false);
    let first = connected_with(&broker, persistent()).await;
    first
        .subscribe("job", async |_: InboundMessage| std::future::pending::<()>().await)
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    for n in 0..5 {
        first.publish("job", n.to_string()).qos(QoS::AtLeastOnce).await.unwrap();
    }
    drop(first);
    broker.wait_until(|broker| broker.connections().is_empty()).await;
    let seen = Seen::default();
    let again = seen.clone();
    let route = tars_mqtt::Route::new("job", move |message: InboundMessage| {
        again.push(format!("{} {}", payload_text(&message.payload), message.dup));
        async {}
    })
    .qos(QoS::AtLeastOnce);
    let builder = tars_mqtt::Client::builder(persistent().build().unwrap()).connector(broker.connector());
    let second = builder.route(route).build().unwrap();
    second.connect().await.unwrap();
    assert_eq!(seen.reach(5).await, ["0 true", "1 true", "2 true", "3 true", "4 true"]);
    settle().await;
    assert_eq!(broker.backlog("svc"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_one_subscription_leaves_the_others_their_turn() {
    const BACKLOG: usize = 900;
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let (seen, gate) = (Seen::default(), std::sync::Arc::new(tokio::sync::Notify::new()));
    let (busy, other, waited_for) = (seen.clone(), seen.clone(), gate.clone());
    client
        .subscribe("busy", move |_: InboundMessage| {
            let (seen, gate) = (busy.clone(), waited_for.clone());
            async move {
                if seen.len() == 0 {
                    gate.notified().await;
                }
                seen.push("busy");
            }
        })
        .await
        .unwrap();
    client
        .subscribe("other", move |_: InboundMessage| {
            other.push("other");
            async {}
        })
        .await
        .unwrap();
    for _ in 0..BACKLOG {
        client.publish("busy", "x").await.unwrap();
        tokio::task::yield_now().await;
    }
    settle().await;
    gate.notify_one();
    client.publish("other", "x").await.unwrap();
    let order = seen.reach(BACKLOG + 1).await;
    let at = order.iter().position(|name| name == "other").unwrap();
    assert!(at < BACKLOG, "after {at} of the others");
}
