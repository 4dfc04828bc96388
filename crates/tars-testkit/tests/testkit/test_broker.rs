//! The broker of a service's tests.

use serde_json::json;
use tars_contracts::{Data, Envelope, HealthStatus};
use tars_ports::{ConnectOptions, Connected, Connector, Incoming, Message, PublisherExt, QoS, SessionState};
use tars_testkit::TestBroker;

async fn connect(broker: &TestBroker, client_id: &str) -> Connected {
    let options = ConnectOptions::new("memory", 1883, client_id);
    broker.connector().connect(&options, SessionState::new()).await.unwrap()
}

async fn say(connected: &Connected, message: Message) {
    connected.connection.publish(message).await.unwrap().await.unwrap();
}

fn event(topic: &str, envelope: &Envelope<serde_json::Value>) -> Message {
    Message::new(topic.parse().unwrap(), envelope.to_bytes().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_subscription_and_finds_its_own_answer() {
    let broker = TestBroker::new();
    let asker = broker.clone();
    let asked = tokio::spawn(async move {
        let reply: Envelope = asker.request("q/ask", "q.ask", &json!({"n": 1}), "q/+").await;
        reply.data["answer"].clone()
    });
    let mut service = connect(&broker, "service").await;
    broker.until_connected("service").await;
    let filters = [("q/ask".parse().unwrap(), QoS::AtLeastOnce)];
    service.connection.subscribe(&filters).await.unwrap();
    let delivery = std::future::poll_fn(|cx| service.inbound.as_mut().poll_next(cx)).await;
    let Some(Incoming::Delivery(delivery)) = delivery else {
        panic!("{delivery:?}")
    };
    let request: Envelope = Envelope::from_bytes(&delivery.payload).unwrap();
    assert_eq!(
        (request.event_type.as_str(), request.source.as_str()),
        ("q.ask", "test")
    );
    say(
        &service,
        event("q/other", &Envelope::new("q.other", "s", json!({"answer": 0}))),
    )
    .await;
    let answer = Envelope::new("q.answer", "s", json!({"answer": 42})).with_correlation_id(&request.id);
    say(&service, event("q/answer", &answer)).await;
    assert_eq!(asked.await.unwrap(), 42);
    // What the test published is not what services published.
    let all: Vec<Envelope> = broker.events("#", 0).await;
    let types: Vec<_> = all.iter().map(|envelope| envelope.event_type.as_str()).collect();
    assert_eq!(types, ["q.other", "q.answer"]);
}

#[tokio::test(start_paused = true)]
async fn health_is_the_retained_one_with_this_event() {
    let broker = TestBroker::new();
    let service = connect(&broker, "service").await;
    let health = |event: &str| {
        let status = HealthStatus::new(true).with_event(event);
        let bytes = Envelope::new("health.status", "service", status).to_bytes().unwrap();
        Message::new("system/health/service".parse().unwrap(), bytes).with_retain(true)
    };
    say(&service, health("connected")).await;
    say(&service, health("ready")).await;
    assert!(broker.health("service", "ready").await.ok);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "for 2 events on a/#. Connected: [\"service\"]. Published:\n  service: b/c")]
async fn what_does_not_come_is_told_with_what_came_instead() {
    let broker = TestBroker::new();
    let service = connect(&broker, "service").await;
    say(&service, event("b/c", &Envelope::new("b.c", "s", json!({})))).await;
    broker.events::<Data>("a/#", 2).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "no link of nobody to cut; connected: [\"service\"]")]
async fn cutting_a_link_that_is_not_there_is_told() {
    let broker = TestBroker::new();
    let _service = connect(&broker, "service").await;
    broker.cut("nobody");
}
