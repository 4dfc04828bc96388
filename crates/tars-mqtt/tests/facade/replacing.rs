//! Subscriptions that replace each other, are refused, or are given up half-way.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tars_mqtt::{ErrorKind, InboundMessage, QoS, State};
use tars_testkit::memory::MemoryBroker;

use crate::{Seen, client_with, config, connected, connected_with, payload_text, secs, settle};

fn listener(seen: &Seen, name: &'static str) -> impl tars_mqtt::Handler<(InboundMessage,)> + use<> {
    let seen = seen.clone();
    move |message: InboundMessage| {
        seen.push(format!("{name} {}", payload_text(&message.payload)));
        async {}
    }
}

/// A handler that notes how many of its kind run at once.
pub(crate) fn counting(
    running: &Arc<AtomicUsize>,
    peak: &Arc<AtomicUsize>,
) -> impl tars_mqtt::Handler<(InboundMessage,)> + use<> {
    let (running, peak) = (running.clone(), peak.clone());
    move |_: InboundMessage| {
        let (running, peak) = (running.clone(), peak.clone());
        async move {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(secs(1)).await;
            running.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_when_it_was_granted_already_is_undone_too() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let mut subscribing = client.subscribe("a", async |_: InboundMessage| ()).into_future();
    assert!((&mut subscribing).now_or_never().is_none());
    settle().await;
    assert_eq!(
        broker.subscriptions("svc").len(),
        1,
        "granted, and nobody has looked yet"
    );
    drop(subscribing);
    settle().await;
    assert_eq!(broker.subscriptions("svc"), []);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_comes_back_after_a_refused_replacement_still_runs_one_at_a_time() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let (running, peak) = (Arc::default(), Arc::default());
    client.subscribe("a", counting(&running, &peak)).await.unwrap();
    client.publish("a", "0").await.unwrap();
    settle().await;
    broker.refuse_filter("a");
    client.subscribe("a", async |_: InboundMessage| ()).await.unwrap_err();
    for _ in 0..5 {
        client.publish("a", "x").await.unwrap();
    }
    tokio::time::sleep(secs(10)).await;
    assert_eq!(client.stats().handled, 6);
    assert_eq!(
        peak.load(Ordering::SeqCst),
        1,
        "messages of one subscription run in order"
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_subscribes_refused_together_neither_handler_stays() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.refuse_filter("a");
    broker.freeze();
    let seen = Seen::default();
    let first = tokio::spawn(client.subscribe("a", listener(&seen, "first")).into_future());
    settle().await;
    let second = tokio::spawn(client.subscribe("a", listener(&seen, "second")).into_future());
    settle().await;
    broker.thaw();
    for refused in [first, second] {
        assert_eq!(
            refused.await.unwrap().unwrap_err().kind(),
            ErrorKind::SubscriptionRefused
        );
    }
    broker.allow_filter("a");
    broker.restart(false);
    client.state().until(State::Reconnecting).await;
    client.state().until(State::Connected).await;
    settle().await;
    assert!(broker.subscriptions("svc").is_empty(), "nobody wants it any more");
}

#[tokio::test(start_paused = true)]
async fn of_two_subscribes_given_up_together_neither_handler_stays() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.freeze();
    let seen = Seen::default();
    let first = tokio::spawn(client.subscribe("a", listener(&seen, "first")).into_future());
    settle().await;
    let second = tokio::spawn(client.subscribe("a", listener(&seen, "second")).into_future());
    settle().await;
    first.abort();
    second.abort();
    settle().await;
    broker.thaw();
    settle().await;
    assert!(broker.subscriptions("svc").is_empty(), "nobody wants it any more");
}

#[tokio::test(start_paused = true)]
async fn a_subscribe_is_answered_by_its_own_suback() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.freeze();
    let seen = Seen::default();
    let first = tokio::spawn(client.subscribe("a", listener(&seen, "first")).into_future());
    settle().await;
    let second = tokio::spawn(
        client
            .subscribe("a", listener(&seen, "second"))
            .qos(QoS::AtLeastOnce)
            .into_future(),
    );
    settle().await;
    broker.thaw();
    assert_eq!(first.await.unwrap().unwrap().granted(), QoS::AtMostOnce);
    assert_eq!(second.await.unwrap().unwrap().granted(), QoS::AtLeastOnce);
    assert_eq!(broker.subscribe_packets("svc").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unsubscribed_handler_does_not_come_back_when_its_replacement_is_refused() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let old = client.subscribe("a", listener(&seen, "old")).await.unwrap();
    broker.refuse_filter("a");
    broker.freeze();
    let new = tokio::spawn(client.subscribe("a", listener(&seen, "new")).into_future());
    settle().await;
    let unsubscribing = tokio::spawn(old.unsubscribe());
    settle().await;
    broker.thaw();
    new.await.unwrap().unwrap_err();
    unsubscribing.await.unwrap().unwrap();
    settle().await;
    assert!(broker.subscriptions("svc").is_empty());
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_reaches_what_an_earlier_process_left_in_the_session() {
    let broker = MemoryBroker::new();
    let persistent = || config("svc").clean_session(false);
    let first = connected_with(&broker, persistent()).await;
    first.subscribe("old", async |_: InboundMessage| ()).await.unwrap();
    first.shutdown().await;
    assert_eq!(broker.subscriptions("svc").len(), 1);
    let second = connected_with(&broker, persistent()).await;
    second.unsubscribe("old").await.unwrap();
    assert!(broker.subscriptions("svc").is_empty());
}

#[tokio::test(start_paused = true)]
async fn subscribes_given_up_during_an_outage_leave_nothing_behind() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.stop();
    client.state().until(State::Reconnecting).await;
    let captured = Arc::new(());
    for n in 0..100 {
        let held = captured.clone();
        let subscribe = client.subscribe(format!("a/{}", n % 10), move |_: InboundMessage| {
            let _held = held.clone();
            async {}
        });
        let gave_up = tokio::time::timeout(Duration::from_millis(10), subscribe.into_future()).await;
        assert!(gave_up.is_err());
    }
    settle().await;
    assert!(
        Arc::strong_count(&captured) <= 2,
        "{} are left",
        Arc::strong_count(&captured) - 1
    );
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_fits_no_packet_is_an_error_and_the_connection_stays_up() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").max_packet_size(200)).await;
    let error = client
        .subscribe("a".repeat(300), async |_: InboundMessage| ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let error = client.unsubscribe("a".repeat(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    settle().await;
    assert!(client.is_connected());
    assert_eq!(client.stats().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_filter_of_more_levels_than_brokers_take_is_an_error_and_no_stack_overflow() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let error = client
        .subscribe("a/".repeat(32_000), async |_: InboundMessage| ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFilter);
    let deep = format!("{}#", "a/".repeat(199));
    client.subscribe(&deep, async |_: InboundMessage| ()).await.unwrap();
    client.publish("a/".repeat(32_000), "x").await.unwrap();
    settle().await;
    assert_eq!(client.stats().handled, 1);
    client.unsubscribe(&deep).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn raising_a_neighbours_qos_is_not_reported_as_a_restoration() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let mut events = client.lifecycle();
    client.subscribe("a/#", async |_: InboundMessage| ()).await.unwrap();
    client
        .subscribe("a/b", async |_: InboundMessage| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    settle().await;
    assert!(
        broker
            .subscriptions("svc")
            .iter()
            .all(|(_, qos)| *qos == QoS::AtLeastOnce)
    );
    let event = events.next().now_or_never();
    assert!(event.is_none(), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waited_for_a_connection_that_did_not_come_about_is_told_at_once() {
    let broker = MemoryBroker::new();
    broker.freeze();
    let client = client_with(&broker, config("svc").enable_health(true));
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    settle().await;
    let subscribing = tokio::spawn(client.subscribe("a", async |_: InboundMessage| ()).into_future());
    let telling = tokio::spawn(client.publish_health(true).into_future());
    assert_eq!(connecting.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    settle().await;
    assert!(subscribing.is_finished() && telling.is_finished());
    assert_eq!(subscribing.await.unwrap().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(telling.await.unwrap().unwrap_err().kind(), ErrorKind::NotConnected);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_was_cut_off_while_it_was_being_replaced_runs_again_if_it_was_not() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").shutdown_timeout(secs(1))).await;
    let seen = Seen::default();
    let handled = seen.clone();
    client
        .subscribe("a", move |message: InboundMessage| {
            let seen = handled.clone();
            async move {
                if message.payload == "long" {
                    tokio::time::sleep(secs(100)).await;
                }
                seen.push(payload_text(&message.payload));
            }
        })
        .await
        .unwrap();
    client.publish("a", "long").await.unwrap();
    settle().await;
    broker.freeze();
    let replacing = tokio::spawn(client.subscribe("a", async |_: InboundMessage| ()).into_future());
    settle().await;
    assert_eq!(client.disconnect().await.unwrap().handlers_cut_off, 1);
    assert_eq!(replacing.await.unwrap().unwrap_err().kind(), ErrorKind::NotConnected);
    broker.thaw();
    client.connect().await.unwrap();
    broker
        .wait_until(|broker| !broker.subscriptions("svc").is_empty())
        .await;
    client.publish("a", "again").await.unwrap();
    assert_eq!(seen.reach(1).await, ["again"]);
}
