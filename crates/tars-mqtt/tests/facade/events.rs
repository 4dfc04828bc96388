//! Typed events: `send` and `on` without strings.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tars_mqtt::{Client, Context, Envelope, ErrorKind, Event, Fate, InboundMessage, OnFailure, QoS, Route, TopicName};
use tars_testkit::memory::MemoryBroker;

use crate::{Seen, client_with, config, connected, payload_text, secs, settle};

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "stt.final", topic = "stt/text", qos = 1)]
struct Final {
    text: String,
}

/// On the same topic, with data that a [`Final`] is not made of.
#[derive(Serialize, Deserialize, Event)]
#[event(type = "stt.partial", topic = "stt/text", qos = 1)]
struct Partial {
    words: u32,
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "health.status", topic = "system/health/{service}", qos = 1, retain)]
struct Health {
    #[serde(skip)]
    service: String,
    ok: bool,
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "camera.moved", topic = "{room}/camera/{number}")]
struct Moved {
    room: String,
    #[serde(skip)]
    number: u8,
}

fn final_text(text: &str) -> Final {
    Final { text: text.to_owned() }
}

/// Subscribes to finals, and notes their text.
async fn note_finals(client: &Client, seen: &Seen, name: &'static str) {
    let seen = seen.clone();
    client
        .on(move |event: Final| {
            seen.push(format!("{name} {}", event.text));
            async {}
        })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_knows_where_and_how_it_is_sent() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let id = client.send(&final_text("hi")).await.unwrap();
    let health = Health {
        service: "tts".to_owned(),
        ok: true,
    };
    let reply = client
        .send(&health)
        .correlation_id("request-1")
        .qos(QoS::AtMostOnce)
        .retain(false);
    assert_eq!(reply.await.unwrap(), "request-1");
    client.send(&health).await.unwrap();

    let published = broker.published();
    let how: Vec<_> = published
        .iter()
        .map(|message| (message.topic.as_str(), message.qos, message.retain))
        .collect();
    assert_eq!(
        how,
        [
            ("stt/text", QoS::AtLeastOnce, false),
            ("system/health/tts", QoS::AtMostOnce, false),
            ("system/health/tts", QoS::AtLeastOnce, true),
        ]
    );
    let envelope = Envelope::<Final>::from_bytes(&published[0].payload).unwrap();
    assert_eq!((envelope.id, envelope.source.as_str()), (id, "svc"));
    assert_eq!(
        (envelope.event_type.as_str(), envelope.data.text.as_str()),
        ("stt.final", "hi")
    );
    let text = payload_text(&published[1].payload);
    assert!(
        text.starts_with(r#"{"id":"request-1""#) && text.ends_with(r#""data":{"ok":true}}"#),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_no_level_is_named_and_nothing_is_sent() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    for service in ["a/b", "", "+"] {
        let health = Health {
            service: service.to_owned(),
            ok: true,
        };
        let error = client.send(&health).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.fate()),
            (ErrorKind::InvalidTopic, Some(Fate::NotSent))
        );
        let text = error.to_string();
        assert!(
            text.contains("`service`") && text.contains(&format!("{service:?}")) && text.contains("health.status"),
            "{text}"
        );
    }
    assert!(broker.published().is_empty());
    assert!(client.is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_events_takes_what_it_needs() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let noted = seen.clone();
    let subscription = client
        .on::<Final, _>(
            move |event: Envelope<Final>, context: Context, topic: TopicName, message: InboundMessage| {
                noted.push(format!("{} {} {topic} {}", event.id, event.data.text, message.qos));
                async move { context.send_reply(&Partial { words: 1 }).await.map(|_| ()) }
            },
        )
        .await
        .unwrap();
    assert_eq!(subscription.filter().as_str(), "stt/text");
    assert_eq!(subscription.granted(), QoS::AtLeastOnce);
    client.send(&final_text("hi")).correlation_id("7").await.unwrap();
    assert_eq!(seen.reach(1).await, ["7 hi stt/text 1"]);
    broker.wait_until(|broker| broker.published().len() == 2).await;
    let reply = &broker.published()[1];
    let envelope = Envelope::<Partial>::from_bytes(&reply.payload).unwrap();
    assert_eq!((envelope.id.as_str(), reply.qos), ("7", QoS::AtLeastOnce));
}

#[tokio::test(start_paused = true)]
async fn events_that_share_a_topic_have_handlers_side_by_side() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    note_finals(&client, &seen, "replaced").await;
    note_finals(&client, &seen, "final").await;
    let noted = seen.clone();
    client
        .on(move |event: Partial| {
            noted.push(format!("partial {}", event.words));
            async {}
        })
        .await
        .unwrap();
    let noted = seen.clone();
    client
        .subscribe("stt/text", move |envelope: Envelope| {
            noted.push(format!("any {}", envelope.event_type));
            async {}
        })
        .await
        .unwrap();
    client.send(&final_text("a")).await.unwrap();
    client.send(&Partial { words: 2 }).await.unwrap();
    client
        .publish_event("stt/text", "stt.error", &json!({"code": 3}))
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let mut all = seen.reach(5).await;
    all.sort();
    assert_eq!(
        all,
        [
            "any stt.error",
            "any stt.final",
            "any stt.partial",
            "final a",
            "partial 2"
        ]
    );
    settle().await;
    let stats = client.stats();
    assert_eq!(
        (stats.handled, stats.passed_over, stats.invalid, stats.failed),
        (5, 4, 0, 0)
    );
    assert_eq!(broker.backlog("svc"), (0, 0), "what is passed over is acknowledged");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_event_is_invalid() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    note_finals(&client, &seen, "final").await;
    let not_final = json!({"words": 1});
    client.publish_event("stt/text", "stt.final", &not_final).await.unwrap();
    for payload in [
        "",
        "text",
        "{}",
        r#"{"type":"","data":{}}"#,
        r#"{"type":"stt.final","data":1}"#,
    ] {
        client.publish("stt/text", payload).await.unwrap();
    }
    client.send(&final_text("good")).await.unwrap();
    assert_eq!(seen.reach(1).await, ["final good"]);
    let stats = client.stats();
    assert_eq!((stats.invalid, stats.passed_over), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn a_parameter_comes_from_the_data_or_else_from_the_topic() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let noted = seen.clone();
    client
        .on(move |moved: Moved, topic: TopicName| {
            noted.push(format!("{} {} {topic}", moved.room, moved.number));
            async {}
        })
        .await
        .unwrap();
    let moved = Moved {
        room: "hall".to_owned(),
        number: 7,
    };
    client.send(&moved).await.unwrap();
    let elsewhere = json!({"room": "data", "number": 1});
    client
        .publish_event("topic/camera/8", "camera.moved", &elsewhere)
        .await
        .unwrap();
    client
        .publish_event("hall/camera/back", "camera.moved", &elsewhere)
        .await
        .unwrap();
    client.send(&moved).await.unwrap();
    assert_eq!(
        seen.reach(3).await,
        ["hall 7 hall/camera/7", "data 8 topic/camera/8", "hall 7 hall/camera/7"]
    );
    assert_eq!(client.stats().invalid, 1, "`back` is no number");
}

#[tokio::test(start_paused = true)]
async fn a_route_for_an_event_is_there_from_the_beginning() {
    let broker = MemoryBroker::new();
    let other = connected(&broker, "other").await;
    let health = Health {
        service: "tts".to_owned(),
        ok: true,
    };
    other.send(&health).await.unwrap();
    let seen = Seen::default();
    let noted = seen.clone();
    let on_health = move |health: Health, message: InboundMessage| {
        noted.push(format!("{} {} {}", health.service, health.ok, message.retain));
        async {}
    };
    let client = Client::builder(config("svc").build().unwrap())
        .connector(broker.connector())
        .route(Route::on(on_health).concurrency(2))
        .build()
        .unwrap();
    client.connect().await.unwrap();
    assert_eq!(seen.reach(1).await, ["tts true true"]);
    let filter = "system/health/+".parse().unwrap();
    assert_eq!(broker.subscriptions("svc"), [(filter, QoS::AtLeastOnce)]);
}

#[tokio::test(start_paused = true)]
async fn the_failure_policy_holds_for_events_as_well() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let noted = seen.clone();
    client
        .on(move |event: Final| {
            noted.push(&event.text);
            let first = noted.len() == 1;
            async move { if first { Err("not yet") } else { Ok(()) } }
        })
        .on_failure(OnFailure::retry(2, secs(1)))
        .await
        .unwrap();
    client.send(&final_text("again")).await.unwrap();
    assert_eq!(seen.reach(2).await, ["again", "again"]);
    settle().await;
    assert_eq!((client.stats().failed, client.stats().handled), (1, 1));
}

#[derive(Serialize, Deserialize)]
struct ByHand {}

impl Event for ByHand {
    const TYPE: &'static str = "by.hand";
    const TOPIC: &'static str = "by/#";
}

#[tokio::test(start_paused = true)]
async fn a_topic_written_by_hand_is_checked_when_it_is_used() {
    let broker = MemoryBroker::new();
    let client = client_with(&broker, config("svc"));
    client.connect().await.unwrap();
    let error = client.on(async |_: ByHand| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFilter);
    let error = client.send(&ByHand {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTopic);
}
