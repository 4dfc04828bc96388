//! Ready means: connected, and everything subscribed is granted.

use std::time::Duration;

use tars_mqtt::{Client, ErrorKind, InboundMessage, Route, State};
use tars_testkit::memory::MemoryBroker;

use crate::{client_with, config, connected, secs, settle};

async fn ignore(_: InboundMessage) {}

fn slow_broker() -> MemoryBroker {
    MemoryBroker::new().with_latency(Duration::from_secs(1))
}

#[tokio::test(start_paused = true)]
async fn it_comes_with_the_grant_of_the_routes_and_not_with_the_connection() {
    let broker = slow_broker();
    let client = Client::builder(config("svc").build().unwrap())
        .connector(broker.connector())
        .route(Route::new("a/#", ignore))
        .build()
        .unwrap();
    assert!(!client.is_ready());
    let waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.until_ready().await });
    client.connect().await.unwrap();
    assert!(client.is_connected() && !client.is_ready());
    waiting.await.unwrap().unwrap();
    assert!(client.is_ready());
    assert_eq!(broker.subscriptions("svc").len(), 1);
    client.until_ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_goes_with_the_link_and_comes_back_with_the_subscriptions() {
    let broker = slow_broker();
    let client = connected(&broker, "svc").await;
    client.subscribe("a", ignore).await.unwrap();
    client.until_ready().await.unwrap();
    broker.cut("svc");
    client.state().until(State::Reconnecting).await;
    assert!(!client.is_ready());
    client.state().until(State::Connected).await;
    assert!(!client.is_ready(), "the filter is not granted yet");
    client.until_ready().await.unwrap();
    assert_eq!(broker.subscriptions("svc").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_under_way_counts_as_missing_and_a_refused_one_is_gone() {
    let broker = slow_broker();
    let client = connected(&broker, "svc").await;
    client.until_ready().await.unwrap();
    broker.refuse_filter("secret");
    let asking = client.clone();
    let asking = tokio::spawn(async move { asking.subscribe("secret", ignore).await });
    settle().await;
    assert!(!client.is_ready());
    let refused = asking.await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SubscriptionRefused);
    client.until_ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_is_not_granted_again_keeps_it_away_until_the_handler_goes() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client.subscribe("a", ignore).await.unwrap();
    broker.refuse_filter("a");
    broker.cut("svc");
    client.state().until(State::Reconnecting).await;
    client.state().until(State::Connected).await;
    tokio::time::sleep(secs(60)).await;
    assert!(client.is_connected() && !client.is_ready());
    client.unsubscribe("a").await.unwrap();
    client.until_ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_s_own_reply_topic_does_not_count() {
    let broker = slow_broker();
    let client = connected(&broker, "svc").await;
    client.until_ready().await.unwrap();
    let asking = client.clone();
    let asking = tokio::spawn(async move {
        let data = serde_json::json!({});
        let request = asking.request::<tars_mqtt::Data>("q", "q", &data).reply_on("r");
        request.timeout(secs(5)).await
    });
    settle().await;
    assert!(client.is_ready(), "the reply topic is not granted yet");
    assert_eq!(asking.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn an_ended_client_is_not_ready_and_never_will_be() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client.until_ready().await.unwrap();
    client.disconnect().await.unwrap();
    assert!(!client.is_ready());
    let waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.until_ready().await });
    client.connect().await.unwrap();
    waiting.await.unwrap().unwrap();

    let never = client_with(&broker, config("other"));
    let waiting = never.clone();
    let waiting = tokio::spawn(async move { waiting.until_ready().await });
    settle().await;
    never.shutdown().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    client.disconnect().await.unwrap();
    let waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.until_ready().await });
    settle().await;
    client.shutdown().await;
    let told = tokio::time::timeout(secs(1), waiting).await.unwrap();
    assert_eq!(told.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(!client.is_ready());
    assert_eq!(client.until_ready().await.unwrap_err().kind(), ErrorKind::Closed);
}
