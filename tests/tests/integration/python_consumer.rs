//! A Python service whose strict models forbid every field they do not know: it understands our
//! messages, and we its. The service is `tests/python/consumer.py`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tars_mqtt::contracts::fresh_id;
use tars_mqtt::{Client, Data, Envelope, HealthFormat, HealthStatus, Heartbeat, QoS, TopicName};
use tars_testkit::mosquitto::Mosquitto;

use crate::support::child::Child;
use crate::support::seen::Seen;
use crate::support::{broker, config, connected, connected_with, python, within};

const SCRIPT: &str = "consumer.py";

/// What Python said of one of our messages.
#[derive(Clone, Debug, Deserialize)]
struct Judgement {
    topic: String,
    id: Option<String>,
    event: Option<String>,
    problem: Option<String>,
}

/// The Python service, running, and our side of it.
struct Python {
    child: Child,
    client: Client,
    judged: Seen<Judgement>,
}

impl Python {
    async fn start(broker: &Mosquitto) -> Self {
        let client = connected(broker, "svc").await;
        let judged = Seen::default();
        let handler_judged = judged.clone();
        let handler = move |judgement: Envelope<Judgement>| {
            handler_judged.push(judgement.data);
            async {}
        };
        client
            .subscribe("py/judged", handler)
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
        let child = python::launch(SCRIPT, broker).await;
        Self { child, client, judged }
    }

    /// Publishes an event, and returns what Python says of it.
    async fn judgement(&self, topic: &str, event_type: &str, data: &impl Serialize) -> Judgement {
        let publish = self.client.publish_event(topic, event_type, data).qos(QoS::AtLeastOnce);
        let id = publish.await.unwrap();
        let wanted = |judgement: &&Judgement| judgement.id.as_ref() == Some(&id) || judgement.problem.is_some();
        let all = self
            .judged
            .until(|all| all.iter().any(|judgement| wanted(&judgement)))
            .await;
        all.iter().find(wanted).unwrap().clone()
    }

    /// Ends it in good order.
    async fn stop(self) {
        self.client
            .publish_event("py/stop", "py.stop", &json!({}))
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
        let end = self.child.end().await;
        assert!(end.status.success(), "{}", end.errors);
    }
}

#[derive(Serialize)]
struct Word {
    text: &'static str,
    start: f64,
    end: f64,
}

#[derive(Serialize)]
struct FinalTranscript {
    text: &'static str,
    confidence: f32,
    words: Vec<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'static str>,
}

#[tokio::test]
async fn it_accepts_our_typed_events_and_would_have_said_if_not() {
    let broker = broker().await;
    let python = Python::start(&broker).await;
    let mut transcript = FinalTranscript {
        text: "Grüße, 世界 🤖",
        confidence: 0.95,
        words: vec![Word {
            text: "Grüße",
            start: 0.0,
            end: 1.0,
        }],
        language: None,
    };
    let judgement = python.judgement("stt/final", "stt.final", &transcript).await;
    assert_eq!(judgement.problem, None);
    transcript.language = Some("de");
    let judgement = python.judgement("stt/final", "stt.final", &transcript).await;
    assert_eq!(judgement.problem, None);
    // The judge is awake: a field too many, and a field of the wrong type.
    let data = json!({"text": "x", "confidence": 0.5, "words": [], "speaker": "me"});
    let judgement = python.judgement("stt/final", "stt.final", &data).await;
    assert!(judgement.problem.is_some_and(|problem| problem.contains("speaker")));
    python.stop().await;
}

#[tokio::test]
async fn data_of_every_shape_goes_there_and_back_unchanged() {
    let broker = broker().await;
    let python = Python::start(&broker).await;
    let echoed = Seen::default();
    let handler_echoed = echoed.clone();
    let handler = move |event: Envelope<Data>| {
        handler_echoed.push((event.id, Value::Object(event.data)));
        async {}
    };
    python
        .client
        .subscribe("py/echoed", handler)
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let many: BTreeMap<String, u32> = (0..100).map(|n| (format!("key {n:03}"), n)).collect();
    let shapes = [
        json!({}),
        json!({"text": "Grüße, 世界 🤖 \u{0} \u{1f} \u{7f} \u{2028} \" \\ / \t", "clé": {"😀": ""}}),
        json!({"a": {"b": [1, [2, {"c": null, "d": [true, false]}]]}, "z": [], "y": {}, "x": ""}),
        json!({"floats": [0.1, -0.0, 1.0, 1e300, 5e-324, 1_697_472_000.123, std::f64::consts::PI, f64::MAX]}),
        json!({"integers": [0, -1, i64::MIN, i64::MAX, u64::MAX, 9_007_199_254_740_993_i64]}),
        json!(many),
        json!({"long": "é".repeat(100_000)}),
    ];
    for data in &shapes {
        let publish = python
            .client
            .publish_event("py/echo", "py.echo", data)
            .qos(QoS::AtLeastOnce);
        let id = publish.await.unwrap();
        let all = echoed.until(|all| all.iter().any(|(echo, _)| *echo == id)).await;
        let (_, back) = all.iter().find(|(echo, _)| *echo == id).unwrap();
        // As text, so that the order of the keys counts, and -0.0 is not 0.0.
        assert_eq!(back.to_string(), data.to_string());
    }
    let problems: Vec<_> = python
        .judged
        .all()
        .into_iter()
        .filter_map(|judgement| judgement.problem)
        .collect();
    assert_eq!(problems, [""; 0]);
    python.stop().await;
}

#[tokio::test]
async fn it_accepts_our_health_in_both_formats_and_our_heartbeats() {
    let broker = broker().await;
    let python = Python::start(&broker).await;
    let formats = [
        ("reference-svc", HealthFormat::Reference),
        ("original-svc", HealthFormat::Original),
    ];
    for (id, format) in formats {
        let health = format!("system/health/{id}");
        // What was judged up to and with this event.
        let up_to = async |event: &str, times: usize| {
            let is_it = |judged: &&Judgement| judged.topic == health && judged.event.as_deref() == Some(event);
            python
                .judged
                .until(|all| all.iter().filter(is_it).count() == times)
                .await
        };
        let config = || config(&broker, id).enable_health(true).health_format(format);
        let client = connected_with(config().enable_heartbeat(true)).await;
        // A newer status may take the place of one that is not sent yet.
        up_to("connected", 1).await;
        let degraded = client.publish_health(false).event("degraded").error("kaputt: Mikrofon");
        degraded.await.unwrap();
        client.publish_health(true).await.unwrap();
        client.shutdown().await;
        let client = connected_with(config()).await;
        up_to("connected", 2).await;
        // Without a shutdown: the last will speaks.
        drop(client);
        let all = up_to("offline", 1).await;
        let events = all
            .iter()
            .filter(|judged| judged.topic == health)
            .map(|judged| judged.event.as_deref());
        let expected = ["connected", "degraded", "", "shutdown", "connected", "offline"];
        let expected = expected.map(|event| Some(event).filter(|event| !event.is_empty()));
        assert_eq!(events.collect::<Vec<_>>(), expected);
        let beat = format!("system/keepalive/{id}");
        assert!(all.iter().any(|judged| judged.topic == beat), "no heartbeat was judged");
        assert!(all.iter().all(|judged| judged.problem.is_none()), "{all:?}");
    }
    python.stop().await;
}

#[derive(Deserialize)]
struct Sum {
    sum: i64,
}

#[tokio::test]
async fn it_answers_a_request_with_the_id_of_the_request() {
    let broker = broker().await;
    let python = Python::start(&broker).await;
    let answers = Seen::default();
    let handler_answers = answers.clone();
    let handler = move |answer: Envelope<Sum>| {
        handler_answers.push((
            answer.correlation_id().to_owned(),
            answer.source.clone(),
            answer.data.sum,
        ));
        async {}
    };
    python
        .client
        .subscribe("py/response", handler)
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    // Our own ids, and any text.
    for (id, numbers) in [
        (fresh_id(), vec![1, 2, 3]),
        ("Frage \"7\" ✓".to_owned(), vec![i64::from(u32::MAX), -1]),
    ] {
        let request = python
            .client
            .publish_event("py/sum", "py.sum", &json!({"numbers": numbers}));
        let sent = request.correlation_id(&id).qos(QoS::AtLeastOnce).await.unwrap();
        assert_eq!(sent, id);
        let all = answers
            .until(|all| all.iter().any(|(answered, ..)| *answered == id))
            .await;
        assert_eq!(*all.last().unwrap(), (id, "py".to_owned(), numbers.iter().sum()));
    }
    python.stop().await;
}

#[derive(Deserialize)]
struct Measured {
    name: String,
    celsius: f64,
    samples: Vec<f64>,
    note: Option<String>,
}

#[tokio::test]
async fn we_understand_its_events_its_health_and_its_heartbeat() {
    let broker = broker().await;
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let (measured, health, beats) = (seen.clone(), seen.clone(), seen.clone());
    let on_measured = move |event: Envelope<Measured>| {
        let Measured {
            name,
            celsius,
            samples,
            note,
        } = event.data;
        measured.push(format!("{} {name} {celsius} {samples:?} {note:?}", event.event_type));
        async {}
    };
    let on_health = move |status: Envelope<HealthStatus>, topic: TopicName| {
        let HealthStatus { ok, event, error, .. } = status.data;
        health.push(format!(
            "{topic} {ok} {} {}",
            event.unwrap_or_default(),
            error.unwrap_or_default()
        ));
        async {}
    };
    let on_beat = move |payload: Bytes| {
        beats.push(format!(
            "beat {}",
            Heartbeat::from_bytes(&payload).is_ok_and(|beat| beat.ok)
        ));
        async {}
    };
    within("measured", client.subscribe("py/measured", on_measured).into_future())
        .await
        .unwrap();
    client.subscribe("system/health/+", on_health).await.unwrap();
    client.subscribe("system/keepalive/+", on_beat).await.unwrap();
    let _child = python::launch(SCRIPT, &broker).await;
    let mut all = seen.reach(3).await;
    all.sort();
    let expected = [
        "beat true",
        "py.measured Küche 🌡 21.5 [20.0, 21.25, -3.0] None",
        "system/health/py false ready microphone missing",
    ];
    assert_eq!(all, expected);
    assert_eq!(client.stats().invalid, 0);
}
