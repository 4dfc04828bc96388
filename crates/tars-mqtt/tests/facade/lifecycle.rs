//! Callbacks, state at start-up, and waiting for other services.

use std::future::IntoFuture;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use tars_mqtt::{Client, Data, ErrorKind, InboundMessage, Message, QoS, State};
use tars_testkit::memory::MemoryBroker;

use crate::{Seen, config, connected, connected_with, secs, settle};

#[derive(Debug, Deserialize)]
struct Settings {
    volume: u8,
}

fn observed(broker: &MemoryBroker, seen: &Seen) -> Client {
    let (connects, disconnects, messages) = (seen.clone(), seen.clone(), seen.clone());
    let config = config("svc").enable_heartbeat(true).heartbeat_interval(secs(1));
    Client::builder(config.build().unwrap())
        .connector(broker.connector())
        .on_connect(move |kept| connects.push(format!("connected {kept}")))
        .on_disconnect(move |reason| disconnects.push(reason.map_or("on purpose", |_| "lost")))
        .on_message(move |message: &InboundMessage| messages.push(format!("message on {}", message.topic)))
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn callbacks_tell_of_connects_disconnects_and_messages() {
    let (broker, seen) = (MemoryBroker::new(), Seen::default());
    let client = observed(&broker, &seen);
    client.connect().await.unwrap();
    client.subscribe("a", async |_: InboundMessage| ()).await.unwrap();
    client.publish("a", "x").await.unwrap();
    // Its own heartbeats come back meanwhile.
    tokio::time::sleep(secs(10)).await;
    assert_eq!(seen.all(), ["connected false", "message on a"]);
    broker.cut("svc");
    client.state().until(State::Reconnecting).await;
    client.state().until(State::Connected).await;
    client.disconnect().await.unwrap();
    client.connect().await.unwrap();
    client.shutdown().await;
    let ends = ["lost", "connected false", "on purpose", "connected false", "on purpose"];
    assert_eq!(seen.all()[2..], ends);
}

#[tokio::test(start_paused = true)]
async fn an_end_after_a_lost_link_is_told_once_and_a_panic_harms_nobody() {
    let (broker, seen) = (MemoryBroker::new(), Seen::default());
    let client = observed(&broker, &seen);
    client.connect().await.unwrap();
    broker.stop();
    client.state().until(State::Reconnecting).await;
    client.shutdown().await;
    assert_eq!(seen.all(), ["connected false", "lost"]);

    let broker = MemoryBroker::new();
    let client = Client::builder(config("svc").build().unwrap())
        .connector(broker.connector())
        .on_connect(|_| panic!("as the test wants"))
        .on_message(|_| panic!("as the test wants"))
        .build()
        .unwrap();
    client.connect().await.unwrap();
    client.subscribe("a", async |_: InboundMessage| ()).await.unwrap();
    client.publish("a", "x").await.unwrap();
    settle().await;
    assert_eq!(client.stats().handled, 1);
}

#[tokio::test(start_paused = true)]
async fn retained_state_is_there_at_start_up_or_known_not_to_be() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    assert!(client.retained::<Settings>("system/config").await.unwrap().is_none());
    let state = json!({"volume": 7});
    client
        .publish_event("system/config", "config", &state)
        .retain(true)
        .await
        .unwrap();
    let settings = client.retained::<Settings>("system/config").await.unwrap().unwrap();
    assert_eq!((settings.data.volume, settings.event_type.as_str()), (7, "config"));
    settle().await;
    assert_eq!(broker.subscriptions("svc"), [], "nothing stays subscribed");

    // Beside a handler of the same topic, and several at once.
    let seen = Seen::default();
    let noted = seen.clone();
    client
        .subscribe("system/config", move |message: InboundMessage| {
            noted.push(message.retain);
            async {}
        })
        .await
        .unwrap();
    let (one, two) = tokio::join!(
        client.retained::<Settings>("system/config").into_future(),
        client.retained::<Settings>("system/config").into_future(),
    );
    assert!(one.unwrap().is_some() && two.unwrap().is_some());
    client.publish("system/config", "x").await.unwrap();
    assert_eq!(
        seen.reach(4).await.last().unwrap(),
        "false",
        "the handler is still there"
    );

    let misfit = client.retained::<Vec<u8>>("system/config").await.unwrap_err();
    assert_eq!(misfit.kind(), ErrorKind::InvalidPayload);
    let wildcard = client.retained::<Data>("system/+").await.unwrap_err();
    assert_eq!(wildcard.kind(), ErrorKind::InvalidTopic);
}

#[tokio::test(start_paused = true)]
async fn retained_waits_for_the_broker_and_not_for_ever() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let state = json!({"volume": 7});
    client
        .publish_event("system/config", "config", &state)
        .retain(true)
        .await
        .unwrap();
    broker.freeze();
    let asked = client.retained::<Settings>("system/config").timeout(secs(2));
    assert_eq!(asked.await.unwrap_err().kind(), ErrorKind::Timeout);
    let asked = tokio::spawn(client.retained::<Settings>("system/config").into_future());
    tokio::time::sleep(secs(2)).await;
    broker.thaw();
    assert_eq!(asked.await.unwrap().unwrap().unwrap().data.volume, 7);
    settle().await;
    assert_eq!(broker.subscriptions("svc"), []);
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_waited_for_whoever_came_first() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let waiting = tokio::spawn(client.wait_for_peer("stt").timeout(secs(60)).into_future());
    settle().await;
    let garbage = Message::new("system/health/stt".parse().unwrap(), "garbage");
    broker.publish(garbage);
    settle().await;
    assert!(!waiting.is_finished());
    let peer = connected_with(&broker, config("stt").enable_health(true)).await;
    assert_eq!(waiting.await.unwrap().unwrap().event.as_deref(), Some("connected"));
    assert!(client.wait_for_peer("stt").await.unwrap().ok, "it was there before");

    peer.publish_health(false).error("the model is gone").await.unwrap();
    let error = client.wait_for_peer("stt").timeout(secs(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("the model is gone"), "{error}");
    let error = client.wait_for_peer("nobody").timeout(secs(5)).await.unwrap_err();
    assert!(error.to_string().contains("is it running"), "{error}");
    let error = client.wait_for_peer("no/id").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTopic);
    drop(client.wait_for_peer("stt"));
    settle().await;
    assert_eq!(broker.subscriptions("svc"), []);

    let waiting = tokio::spawn(client.wait_for_peer("nobody").into_future());
    settle().await;
    client.shutdown().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_service_has_as_many_handlers_as_it_likes() {
    let (broker, seen) = (MemoryBroker::new(), Arc::new(Seen::default()));
    let client = connected(&broker, "svc").await;
    for filter in ["wake/event", "stt/final", "system/#", "+/final"] {
        let seen = seen.clone();
        client
            .subscribe(filter, move |message: InboundMessage| {
                seen.push(format!("{filter} {}", message.topic));
                async {}
            })
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
    }
    for topic in ["wake/event", "stt/final", "system/health/tts", "tts/say"] {
        client.publish(topic, "x").qos(QoS::AtLeastOnce).await.unwrap();
    }
    let mut seen = seen.reach(4).await;
    seen.sort();
    let expected = [
        "+/final stt/final",
        "stt/final stt/final",
        "system/# system/health/tts",
        "wake/event wake/event",
    ];
    assert_eq!(seen, expected);
}
