use tars_mqtt::{ErrorKind, InboundMessage, QoS};
use tars_testkit::memory::MemoryBroker;

use crate::{Seen, connected, payload_text, settle};

fn listener(seen: &Seen, name: &'static str) -> impl tars_mqtt::Handler<(InboundMessage,)> {
    let seen = seen.clone();
    move |message: InboundMessage| {
        let retained = if message.retain { " retained" } else { "" };
        seen.push(format!("{name} {}{retained}", payload_text(&message.payload)));
        async {}
    }
}

#[tokio::test(start_paused = true)]
async fn it_resolves_with_the_granted_qos_and_a_refusal_leaves_no_handler() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let subscription = client
        .subscribe("a/#", listener(&seen, "a"))
        .qos(QoS::ExactlyOnce)
        .await
        .unwrap();
    assert_eq!(subscription.granted(), QoS::ExactlyOnce);
    broker.refuse_filter("secret/#");
    let error = client
        .subscribe("secret/#", listener(&seen, "secret"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SubscriptionRefused);
    assert!(error.to_string().contains("secret/#"), "{error}");
    assert_eq!(broker.subscriptions("svc").len(), 1);
    for bad in ["a/#/b", "a+", "", "$share/g"] {
        assert_eq!(
            client.subscribe(bad, listener(&seen, "bad")).await.unwrap_err().kind(),
            ErrorKind::InvalidFilter
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_retained_message_that_comes_before_suback_is_not_lost() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client
        .publish("state", "on")
        .retain(true)
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let seen = Seen::default();
    client.subscribe("state", listener(&seen, "s")).await.unwrap();
    assert_eq!(seen.reach(1).await, ["s on retained"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_filter_again_replaces_the_handler_and_a_stale_handle_does_nothing() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let old = client.subscribe("a", listener(&seen, "old")).await.unwrap();
    let new = client.subscribe("a", listener(&seen, "new")).await.unwrap();
    old.unsubscribe().await.unwrap();
    client.publish("a", "1").await.unwrap();
    assert_eq!(seen.reach(1).await, ["new 1"]);
    new.unsubscribe().await.unwrap();
    assert!(broker.subscriptions("svc").is_empty());
    client.publish("a", "2").await.unwrap();
    settle().await;
    assert_eq!(seen.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_replacement_leaves_the_old_handler_in_place() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    client.subscribe("a", listener(&seen, "old")).await.unwrap();
    broker.refuse_filter("a");
    client.subscribe("a", listener(&seen, "new")).await.unwrap_err();
    client.publish("a", "1").await.unwrap();
    assert_eq!(seen.reach(1).await, ["old 1"]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_does_nothing_and_dropping_the_future_undoes() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    drop(client.subscribe("kept", listener(&seen, "kept")).await.unwrap());
    broker.freeze();
    let undone = client.subscribe("undone", listener(&seen, "undone"));
    assert!(
        tokio::time::timeout(crate::secs(1), undone.into_future())
            .await
            .is_err()
    );
    broker.thaw();
    broker
        .wait_until(|broker| broker.subscribe_packets("svc").len() == 2)
        .await;
    settle().await;
    let filters: Vec<_> = broker.subscriptions("svc").iter().map(|(f, _)| f.to_string()).collect();
    assert_eq!(filters, ["kept"]);
}

use std::future::IntoFuture;

#[tokio::test(start_paused = true)]
async fn a_message_without_a_subscription_is_acknowledged_and_counted() {
    let broker = MemoryBroker::new();
    let persistent = || crate::config("svc").clean_session(false);
    let first = crate::connected_with(&broker, persistent()).await;
    first
        .subscribe("gone", async |_: InboundMessage| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    first.shutdown().await;
    broker.publish(tars_mqtt::Message::new("gone".parse().unwrap(), "x").with_qos(QoS::AtLeastOnce));
    let second = crate::connected_with(&broker, persistent()).await;
    settle().await;
    assert_eq!(second.stats().unrouted, 1);
    assert_eq!(broker.backlog("svc"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_subscription_above_the_bound_is_refused_in_words() {
    let broker = MemoryBroker::new();
    let client = crate::connected_with(&broker, crate::config("svc").max_subscriptions(2)).await;
    let seen = Seen::default();
    let first = client.subscribe("a", listener(&seen, "a")).await.unwrap();
    client.subscribe("b", listener(&seen, "b")).await.unwrap();
    let error = client.subscribe("c", listener(&seen, "c")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.to_string().contains("max_subscriptions"), "{error}");
    // One that takes another's place always fits, and what leaves makes room.
    client.subscribe("b", listener(&seen, "b")).await.unwrap();
    first.unsubscribe().await.unwrap();
    client.subscribe("c", listener(&seen, "c")).await.unwrap();
    assert_eq!(broker.subscriptions("svc").len(), 2);
}
