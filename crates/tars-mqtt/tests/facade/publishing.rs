use std::future::IntoFuture;

use bytes::Bytes;
use serde_json::json;
use tars_mqtt::{ErrorKind, Fate, QoS, State};
use tars_testkit::memory::MemoryBroker;

use crate::{Seen, config, connected, connected_with, payload_text, secs, settle};

#[tokio::test(start_paused = true)]
async fn an_event_is_an_envelope_with_exactly_the_five_fields() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").source_name("stt")).await;
    let id = client
        .publish_event("stt/final", "stt.final", &json!({"text": "hé", "confidence": 0.95}))
        .qos(QoS::AtLeastOnce)
        .retain(true)
        .await
        .unwrap();
    let message = broker.published().pop().unwrap();
    assert_eq!((message.qos, message.retain), (QoS::AtLeastOnce, true));
    let text = payload_text(&message.payload);
    let ts = text.split(r#""ts":"#).nth(1).unwrap().split(',').next().unwrap();
    let expected = format!(
        r#"{{"id":"{id}","type":"stt.final","ts":{ts},"source":"stt","data":{{"text":"hé","confidence":0.95}}}}"#
    );
    assert_eq!(text, expected);
    assert_eq!(id.len(), 32);
}

#[tokio::test(start_paused = true)]
async fn a_reply_carries_the_correlation_id_as_its_id() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let event = || client.publish_event("a", "a", &json!({}));
    assert_eq!(event().correlation_id("req \"1\"").await.unwrap(), "req \"1\"");
    let fresh = event().correlation_id("").await.unwrap();
    assert_eq!(fresh.len(), 32);
    broker.wait_until(|broker| broker.published().len() == 2).await;
    assert!(payload_text(&broker.published()[0].payload).starts_with(r#"{"id":"req \"1\"","type""#));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_is_an_error_before_anything_is_sent() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").max_packet_size(1000)).await;
    let event = |topic: &str, data: serde_json::Value| client.publish_event(topic, "t", &data);
    let kinds = [
        event("a/+", json!({})).await.unwrap_err().kind(),
        event("", json!({})).await.unwrap_err().kind(),
        event("a\0b", json!({})).await.unwrap_err().kind(),
        event("a", json!([1])).await.unwrap_err().kind(),
        event("a", json!(null)).await.unwrap_err().kind(),
        client.publish_event("a", "", &json!({})).await.unwrap_err().kind(),
        client
            .publish("a", Bytes::from(vec![0; 1000]))
            .await
            .unwrap_err()
            .kind(),
        client
            .publish("a", Bytes::from(vec![0; 1000]))
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap_err()
            .kind(),
    ];
    use ErrorKind::{InvalidPayload, InvalidTopic, TooLarge};
    assert_eq!(
        kinds,
        [
            InvalidTopic,
            InvalidTopic,
            InvalidTopic,
            InvalidPayload,
            InvalidPayload,
            InvalidPayload,
            TooLarge,
            TooLarge
        ]
    );
    assert!(broker.published().is_empty());
    assert!(client.is_connected());
    client.publish("a", "still here").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ok_of_qos_1_and_2_means_that_the_broker_has_it() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").publish_timeout(secs(10))).await;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        broker.freeze();
        let publish = tokio::spawn(client.publish("a", "x").qos(qos).into_future());
        settle().await;
        assert!(!publish.is_finished());
        broker.thaw();
        publish.await.unwrap().unwrap();
    }
    assert_eq!(broker.published().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn accepted_gives_a_receipt_that_settles_later() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.freeze();
    let receipt = client.publish("a", "x").qos(QoS::AtLeastOnce).accepted().await.unwrap();
    assert_eq!(client.stats().unsettled, 1);
    broker.thaw();
    receipt.await.unwrap();
    assert_eq!(client.stats().unsettled, 0);
}

#[tokio::test(start_paused = true)]
async fn while_reconnecting_qos_0_fails_at_once_and_qos_1_waits_in_order() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.stop();
    client.state().until(State::Reconnecting).await;
    let error = client.publish("a", "0").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.fate()),
        (ErrorKind::NotConnected, Some(Fate::NotSent))
    );
    let error = client
        .publish("a", "0")
        .qos(QoS::AtLeastOnce)
        .fail_fast()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    let mut receipts = Vec::new();
    for n in 0..10 {
        let qos = if n % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        receipts.push(client.publish("a", n.to_string()).qos(qos).accepted().await.unwrap());
    }
    broker.start();
    for receipt in receipts {
        receipt.await.unwrap();
    }
    // QoS 2 is logged when it is released, so the order is compared per QoS.
    let published = broker.published();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let order: Vec<u32> = published
            .iter()
            .filter(|m| m.qos == qos)
            .map(|m| payload_text(&m.payload).parse().unwrap())
            .collect();
        assert_eq!(order.len(), 5);
        assert!(order.is_sorted(), "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsettled_publish_times_out_and_says_whether_it_may_have_arrived() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").publish_timeout(secs(5))).await;
    broker.freeze();
    let error = client.publish("a/b", "x").qos(QoS::AtLeastOnce).await.unwrap_err();
    assert_eq!((error.kind(), error.fate()), (ErrorKind::Timeout, Some(Fate::Unknown)));
    assert!(error.to_string().contains("a/b"), "{error}");
    broker.thaw();
    broker.stop();
    client.state().until(State::Reconnecting).await;
    let error = client
        .publish("a", "x")
        .qos(QoS::AtLeastOnce)
        .timeout(secs(1))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.fate()), (ErrorKind::Timeout, Some(Fate::NotSent)));
    assert_eq!(client.stats().publish_failed, 2);
}

#[tokio::test(start_paused = true)]
async fn at_the_bound_publishing_waits_and_nothing_grows() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").outbox_messages(3)).await;
    broker.stop();
    client.state().until(State::Reconnecting).await;
    let mut receipts = Vec::new();
    for _ in 0..3 {
        receipts.push(client.publish("a", "x").qos(QoS::AtLeastOnce).accepted().await.unwrap());
    }
    let fourth = tokio::spawn(client.publish("a", "4").qos(QoS::AtLeastOnce).into_future());
    settle().await;
    assert_eq!(client.stats().unsettled, 3);
    assert!(!fourth.is_finished());
    broker.start();
    fourth.await.unwrap().unwrap();
    for receipt in receipts {
        receipt.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn qos_1_survives_cuts_in_the_middle_and_nothing_is_lost() {
    let broker = MemoryBroker::new().with_latency(std::time::Duration::from_millis(5));
    let client = connected(&broker, "svc").await;
    let publisher = tokio::spawn({
        let client = client.clone();
        async move {
            for n in 0..200 {
                client.publish("a", n.to_string()).qos(QoS::AtLeastOnce).await.unwrap();
            }
        }
    });
    for _ in 0..5 {
        tokio::time::sleep(std::time::Duration::from_millis(333)).await;
        broker.cut("svc");
    }
    publisher.await.unwrap();
    let mut numbers: Vec<u32> = broker
        .published()
        .iter()
        .map(|m| payload_text(&m.payload).parse().unwrap())
        .collect();
    numbers.dedup();
    assert!(broker.connect_count("svc") > 2);
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn concurrent_publishes_keep_the_order_of_each_task() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    let topic = format!("t/{task}");
                    drop(
                        client
                            .publish(topic, n.to_string())
                            .qos(QoS::AtLeastOnce)
                            .accepted()
                            .await
                            .unwrap(),
                    );
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    broker.wait_until(|broker| broker.published().len() == 400).await;
    for task in 0..8 {
        let topic = format!("t/{task}");
        let published = broker.published();
        let order = published
            .iter()
            .filter(|m| m.topic.as_str() == topic)
            .map(|m| payload_text(&m.payload));
        assert!(order.eq((0..50).map(|n: u32| n.to_string())));
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_is_a_publisher_that_layers_can_wrap() {
    use tars_mqtt::Message;
    use tars_mqtt::ports::{Publisher, PublisherExt};
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let publisher: Box<dyn Publisher> = Box::new(client.clone());
    let message = Message::new("a".parse().unwrap(), "x").with_qos(QoS::AtLeastOnce);
    publisher.publish(message.clone()).await.unwrap().await.unwrap();
    broker.cut("svc");
    client.state().until(State::Reconnecting).await;
    publisher.publish(message).await.unwrap().await.unwrap();
    assert_eq!(broker.published().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_publish_and_subscribe_inside_itself() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let handler = {
        let seen = seen.clone();
        move |context: tars_mqtt::Context| {
            let seen = seen.clone();
            async move {
                let client = context.client().unwrap();
                let inner = seen.clone();
                client
                    .subscribe("inner", move |payload: Bytes| {
                        let inner = inner.clone();
                        async move { inner.push(payload_text(&payload)) }
                    })
                    .await
                    .unwrap();
                client.publish("inner", "hi").qos(QoS::AtLeastOnce).await.unwrap();
                context.reply("reply", "r", &json!({})).await.unwrap();
                seen.push("outer");
            }
        }
    };
    client.subscribe("outer", handler).qos(QoS::AtLeastOnce).await.unwrap();
    let id = client
        .publish_event("outer", "q", &json!({}))
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let mut all = seen.reach(2).await;
    all.sort();
    assert_eq!(all, ["hi", "outer"]);
    let reply = broker
        .published()
        .into_iter()
        .find(|m| m.topic.as_str() == "reply")
        .unwrap();
    assert!(payload_text(&reply.payload).contains(&id));
}
