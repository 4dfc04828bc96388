use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tars_mqtt::{ErrorKind, InboundMessage, QoS, State};
use tars_testkit::memory::MemoryBroker;

use crate::{Seen, client_with, config, connected, connected_with, payload_text, secs, settle};

async fn slow(client: &tars_mqtt::Client, seconds: u64) -> Seen {
    let seen = Seen::default();
    let handled = seen.clone();
    client
        .subscribe("slow", move |message: InboundMessage| {
            let seen = handled.clone();
            async move {
                tokio::time::sleep(secs(seconds)).await;
                seen.push(payload_text(&message.payload));
            }
        })
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    seen
}

#[tokio::test(start_paused = true)]
async fn it_lets_handlers_finish_and_publishes_settle_and_says_so() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").enable_health(true)).await;
    let seen = slow(&client, 1).await;
    for n in 0..3 {
        client
            .publish("slow", n.to_string())
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
    }
    settle().await;
    let receipt = client.publish("a", "x").qos(QoS::AtLeastOnce).accepted().await.unwrap();
    let report = client.shutdown().await;
    receipt.await.unwrap();
    assert_eq!(
        seen.all(),
        ["0", "1", "2"],
        "on a clean session what had arrived is handled"
    );
    assert_eq!((report.handlers_finished, report.handlers_cut_off), (3, 0));
    assert!(report.is_complete() && report.disconnected, "{report:?}");
    assert!(broker.connections().is_empty());
    let last = broker.retained("system/health/svc").unwrap();
    assert!(
        payload_text(&last.payload).contains(r#""event":"shutdown""#),
        "the will did not speak"
    );
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_it_cuts_off_and_says_so() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").shutdown_timeout(secs(2))).await;
    let seen = slow(&client, 100).await;
    client.publish("slow", "x").qos(QoS::AtLeastOnce).await.unwrap();
    settle().await;
    let begin = tokio::time::Instant::now();
    let report = client.shutdown().await;
    assert!(begin.elapsed() < secs(4));
    assert_eq!(report.handlers_cut_off, 1);
    assert!(!report.is_complete());
    assert_eq!(seen.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn on_a_kept_session_what_was_not_started_is_left_to_come_again() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").clean_session(false)).await;
    let seen = slow(&client, 1).await;
    for n in 0..3 {
        client
            .publish("slow", n.to_string())
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
    }
    settle().await;
    let report = client.shutdown().await;
    assert_eq!(seen.all(), ["0"]);
    assert_eq!(report.unstarted, 2);
    assert_eq!(broker.backlog("svc").0 + broker.backlog("svc").1, 2);
}

#[tokio::test(start_paused = true)]
async fn it_is_idempotent_from_every_state_and_from_many_tasks() {
    let broker = MemoryBroker::new();
    // Created
    let client = client_with(&broker, config("svc"));
    client.shutdown().await;
    client.shutdown().await;
    assert_eq!(client.state().current(), State::Disconnected);
    assert_eq!(client.connect().await.unwrap_err().kind(), ErrorKind::Closed);
    // Connected, many at once
    let client = connected(&broker, "svc").await;
    let all = futures_util::future::join_all((0..10).map(|_| client.shutdown())).await;
    assert!(all.iter().all(|report| *report == all[0]) && all[0].disconnected);
    // Connecting
    broker.freeze();
    let client = client_with(&broker, config("svc").connect_retry(true));
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    settle().await;
    client.shutdown().await;
    assert_eq!(connecting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    broker.thaw();
    // Reconnecting, with nothing to wait for
    let client = connected(&broker, "svc").await;
    broker.stop();
    client.state().until(State::Reconnecting).await;
    let begin = tokio::time::Instant::now();
    client.shutdown().await;
    assert!(begin.elapsed() < secs(1));
}

#[tokio::test(start_paused = true)]
async fn afterwards_every_operation_is_closed_and_what_waited_fails() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").shutdown_timeout(secs(1))).await;
    broker.stop();
    client.state().until(State::Reconnecting).await;
    let publish = tokio::spawn(client.publish("a", "x").qos(QoS::AtLeastOnce).into_future());
    let subscribe = tokio::spawn(client.subscribe("a", async |_: InboundMessage| ()).into_future());
    settle().await;
    let report = client.shutdown().await;
    assert_eq!(report.publishes_unsettled, 1);
    assert_eq!(publish.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(subscribe.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    let kinds = [
        client.publish("a", "x").await.unwrap_err().kind(),
        client.publish("a", "x").qos(QoS::AtLeastOnce).await.unwrap_err().kind(),
        client
            .subscribe("a", async |_: InboundMessage| ())
            .await
            .unwrap_err()
            .kind(),
        client.unsubscribe("a").await.unwrap_err().kind(),
        client.connect().await.unwrap_err().kind(),
        client.disconnect().await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Closed; 6]);
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_while_draining_publishes_shutdown_and_never_reconnected() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").enable_health(true)).await;
    let seen = slow(&client, 4).await;
    client.publish("slow", "x").qos(QoS::AtLeastOnce).await.unwrap();
    settle().await;
    let shutdown = tokio::spawn({
        let client = client.clone();
        async move { client.shutdown().await }
    });
    settle().await;
    broker.clear_log();
    broker.cut("svc");
    let report = shutdown.await.unwrap();
    assert_eq!(seen.len(), 1);
    assert!(report.disconnected, "{report:?}");
    let told: Vec<_> = broker.published().iter().map(|m| payload_text(&m.payload)).collect();
    assert!(told.iter().any(|text| text.contains("shutdown")), "{told:?}");
    assert!(told.iter().all(|text| !text.contains("reconnected")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn after_disconnect_it_connects_again_and_its_subscriptions_come_back() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").enable_health(true)).await;
    let seen = slow(&client, 0).await;
    let report = client.disconnect().await.unwrap();
    assert!(report.disconnected);
    assert_eq!(client.state().current(), State::Disconnected);
    assert_eq!(
        client.publish("a", "x").await.unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    let late = client.publish("a", "x").qos(QoS::AtLeastOnce).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::NotConnected);
    client.connect().await.unwrap();
    broker
        .wait_until(|broker| !broker.subscriptions("svc").is_empty())
        .await;
    client.publish("slow", "again").qos(QoS::AtLeastOnce).await.unwrap();
    assert_eq!(seen.reach(1).await, ["again"]);
    broker
        .wait_until(|broker| {
            payload_text(&broker.retained("system/health/svc").unwrap().payload).contains("\"connected\"")
        })
        .await;
    client.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn no_task_is_left_after_a_shutdown() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let broker = MemoryBroker::new();
    let before = alive();
    for _ in 0..5 {
        let client = connected(&broker, "svc").await;
        slow(&client, 100).await;
        client.publish("slow", "x").qos(QoS::AtLeastOnce).await.unwrap();
        client.shutdown().await;
    }
    settle().await;
    assert_eq!(alive(), before);
}

/// In real time: a blocked thread stands still whatever the clock says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_does_not_keep_the_client_from_ending() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").shutdown_timeout(Duration::from_millis(100))).await;
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (blocked, seen) = (Arc::new(Mutex::new(blocked)), Seen::default());
    let began = seen.clone();
    client
        .subscribe("a", move |_: InboundMessage| {
            let (blocked, began) = (blocked.clone(), began.clone());
            async move {
                began.push("began");
                let _ = blocked.lock().unwrap().recv();
            }
        })
        .await
        .unwrap();
    client.publish("a", "x").await.unwrap();
    seen.reach(1).await;
    let report = tokio::time::timeout(secs(20), client.shutdown()).await;
    drop(release);
    let report = report.expect("it ends");
    assert_eq!((report.handlers_cut_off, report.disconnected), (1, true), "{report:?}");
    assert!(broker.connections().is_empty());
}
