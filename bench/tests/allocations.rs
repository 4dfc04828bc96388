//! Allocations per message, counted: of the whole process that publishes or receives, with its
//! runtime, session and connection, on a real Mosquitto. The other side is a process of its own.
//!
//! The bounds stand below what one more would make: then the test fails. What each is for is told
//! in docs/benchmarks.md.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::System;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tars_bench::event::{EVENT_TYPE, Transcript};
use tars_bench::harness::quiet;
use tars_bench::peer::{Job, Pace, Peer, Side};
use tars_mqtt::{Client, Config, Envelope, QoS};
use tars_testkit::mosquitto::Mosquitto;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::sync::Notify;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Enough for what is once and what grows to count for nothing.
const MESSAGES: u64 = 20_000;

/// Allocations and reallocations of `run`, by message.
async fn each(run: impl Future) -> f64 {
    let region = Region::new(ALLOCATOR);
    run.await;
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / MESSAGES as f64
}

async fn connected(broker: &Mosquitto, dedupe: bool) -> Client {
    let mut config = Config::builder().url(broker.url()).client_id("counted");
    if dedupe {
        config = config.dedupe_ttl(Duration::from_secs(300));
    }
    let client = Client::new(config.build().unwrap()).unwrap();
    client.connect().await.unwrap();
    client
}

async fn publish(client: &Client, qos: QoS) {
    let mut transcript = Transcript::of_size(200);
    let mut last = None;
    for n in 0..MESSAGES {
        transcript.n = n;
        let publish = client.publish_event("counted", EVENT_TYPE, &transcript).qos(qos);
        match qos {
            QoS::AtMostOnce => drop(publish.await.unwrap()),
            _ => last = Some(publish.accepted().await.unwrap()),
        }
    }
    match last {
        Some(receipt) => drop(receipt.await.unwrap()),
        // Behind all the others on the wire.
        None => client.publish("last", "").qos(QoS::AtLeastOnce).await.unwrap(),
    }
}

/// A publisher in a process of its own, from its beginning to its end.
async fn published_by_another(broker: &Mosquitto, qos: u8, handled: &Notify) -> f64 {
    let job = Job {
        peer: if qos == 0 { Peer::Limit } else { Peer::RawRumqttc },
        side: Side::Publish,
        port: broker.port(),
        topic: "counted".to_owned(),
        qos,
        messages: MESSAGES,
        size: 200,
        pace: Pace::Pipelined,
        tasks: 1,
        window: 100,
        rate: 0,
    };
    let mut other = Command::new(env!("CARGO_BIN_EXE_tars-bench"))
        .args(["peer", &serde_json::to_string(&job).unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut input, output) = (other.stdin.take().unwrap(), other.stdout.take().unwrap());
    let mut lines = BufReader::new(output).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    let allocations = each(async {
        input.write_all(b"go\n").await.unwrap();
        handled.notified().await;
    })
    .await;
    input.write_all(b"end\n").await.unwrap();
    other.wait().await.unwrap();
    allocations
}

async fn received(broker: &Mosquitto, qos: u8, dedupe: bool) -> f64 {
    let client = connected(broker, dedupe).await;
    let (handled, count) = (Arc::new(Notify::new()), AtomicU64::new(0));
    let told = handled.clone();
    let handler = move |_: Envelope<Transcript>| {
        if count.fetch_add(1, Ordering::Relaxed) + 1 == MESSAGES {
            told.notify_one();
        }
        async {}
    };
    let granted = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    // A build without optimisation is slower than the publisher: here nothing may be dropped.
    let subscribe = client
        .subscribe("counted", handler)
        .queue(usize::try_from(MESSAGES).unwrap());
    subscribe.qos(granted).await.unwrap();
    let all = published_by_another(broker, qos, &handled);
    let allocations = tokio::time::timeout(Duration::from_secs(60), all).await;
    client.shutdown().await;
    allocations.unwrap_or_else(|_| panic!("not all of {MESSAGES} messages arrived"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_is_cheap() {
    let broker = quiet(Mosquitto::builder())
        .config_line("max_inflight_messages 1000")
        .start()
        .await
        .unwrap();
    let client = connected(&broker, false).await;
    publish(&client, QoS::AtLeastOnce).await;
    let publish_0 = each(publish(&client, QoS::AtMostOnce)).await;
    let publish_1 = each(publish(&client, QoS::AtLeastOnce)).await;
    client.shutdown().await;
    let measured = [
        ("publish, QoS 0", publish_0, 5.9),
        ("publish, QoS 1", publish_1, 8.9),
        ("receive, QoS 0", received(&broker, 0, false).await, 13.9),
        ("receive, QoS 1", received(&broker, 1, false).await, 13.9),
        ("receive, QoS 1, dedupe on", received(&broker, 1, true).await, 13.9),
    ];
    for (what, allocations, _) in measured {
        println!("{what}: {allocations:.2} allocations a message");
    }
    for (what, allocations, bound) in measured {
        assert!(
            allocations <= bound,
            "{what}: {allocations:.2} allocations a message, more than {bound}"
        );
    }
}
