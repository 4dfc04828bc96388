//! `mosquitto_sub` and `mosquitto_pub` understand us, and we them.

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::json;
use tars_mqtt::{Envelope, QoS};

use crate::support::child::{Child, fixture};
use crate::support::seen::Seen;
use crate::support::tools::{publish, sub, subscribed};
use crate::support::{broker, config, connected, connected_with, within};

#[tokio::test]
async fn mosquitto_sub_sees_our_events_as_they_are() {
    let broker = broker().await;
    let client = connected(&broker, "svc").await;
    let mut messages = subscribed(&broker, "stt/#", "%q %r %t %p").await;
    let data = json!({"text": "Grüße, 世界 🤖", "n": 1});
    let publish = client
        .publish_event("stt/final", "stt.final", &data)
        .qos(QoS::AtLeastOnce);
    let id = publish.await.unwrap();
    let line = messages.next().await;
    let payload = line.strip_prefix("1 0 stt/final ").expect(&line);
    // As it is written: reading it as a number may change its last digit.
    let ts = payload
        .split(r#""ts":"#)
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .unwrap();
    assert!(ts.parse::<f64>().is_ok_and(|ts| ts > 1.7e9), "{ts}");
    let expected = format!(
        r#"{{"id":"{id}","type":"stt.final","ts":{ts},"source":"svc","data":{{"text":"Grüße, 世界 🤖","n":1}}}}"#
    );
    assert_eq!(
        payload, expected,
        "compact, in this order, nothing else, and no escapes"
    );

    client.publish("stt/raw", "not an envelope").await.unwrap();
    assert_eq!(messages.next().await, "0 0 stt/raw not an envelope");
}

#[tokio::test]
async fn a_retained_event_is_there_for_whoever_comes_later() {
    let broker = broker().await;
    let client = connected(&broker, "svc").await;
    let publish = client.publish_event("config/voice", "config.voice", &json!({"speed": 1.5}));
    publish.retain(true).qos(QoS::AtLeastOnce).await.unwrap();
    // `-v`: topic and payload; `-C 1`: one message and the end.
    let output = sub(&broker, &["-t", "config/#", "-v", "-C", "1"]).await;
    let payload = output.strip_prefix("config/voice ").expect(&output);
    assert_eq!(
        Envelope::<tars_mqtt::Data>::from_bytes(payload.trim_end().as_bytes())
            .unwrap()
            .data["speed"],
        1.5
    );
}

#[derive(Deserialize)]
struct Wake {
    word: String,
}

#[tokio::test]
async fn we_understand_what_mosquitto_pub_sends_and_skip_what_nobody_could() {
    let broker = broker().await;
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let (handler_seen, filter) = (seen.clone(), "wake/+");
    let handler = move |wake: Envelope<Wake>| {
        handler_seen.push((wake.correlation_id().to_owned(), wake.source, wake.data.word));
        async {}
    };
    client.subscribe(filter, handler).qos(QoS::AtLeastOnce).await.unwrap();
    // All there can be, and the least there must be; other fields and white space do no harm.
    let full = r#"{"id":"7","type":"wake","ts":1.5,"source":"shell","data":{"word":"héllo"}}"#;
    let least =
        "{ \"data\": {\"word\": \"tars\", \"extra\": [1]},\n \"correlate\": \"c\", \"type\": \"wake\", \"x\": null }";
    publish(&broker, &["-t", "wake/1", "-q", "1", "-m", full], b"").await;
    publish(&broker, &["-t", "wake/2", "-q", "1", "-m", "garbage"], b"").await;
    publish(&broker, &["-t", "wake/3", "-q", "2", "-s"], least.as_bytes()).await;
    let all = seen.reach(2).await;
    let expected = [("7", "shell", "héllo"), ("c", "", "tars")];
    assert_eq!(
        all,
        expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()))
    );
    assert_eq!((client.stats().invalid, client.stats().connects), (1, 1));
}

#[tokio::test]
async fn health_is_retained_and_follows_the_service() {
    let broker = broker().await;
    let client = connected_with(config(&broker, "svc").enable_health(true)).await;
    let mut messages = subscribed(&broker, "system/health/svc", "%q %r %p").await;
    let first = messages.next().await;
    assert!(
        first.contains(r#""data":{"ok":true,"event":"connected","timestamp":"#),
        "{first}"
    );
    client
        .publish_health(false)
        .event("degraded")
        .error("no microphone")
        .await
        .unwrap();
    let second = messages.next().await;
    assert!(second.starts_with("1 0 "), "{second}");
    let expected = r#""data":{"ok":false,"event":"degraded","error":"no microphone","timestamp":"#;
    assert!(second.contains(expected), "{second}");
    client.shutdown().await;
    let last = messages.next().await;
    assert!(
        last.contains(r#""data":{"ok":false,"event":"shutdown","timestamp":"#),
        "{last}"
    );
    let retained = sub(&broker, &["-t", "system/health/+", "-F", "%q %r %p", "-C", "1"]).await;
    assert!(
        retained.starts_with("0 1 ") && retained.contains("shutdown"),
        "{retained}"
    );
}

#[tokio::test]
async fn the_last_will_of_a_killed_process_is_seen_and_retained() {
    let broker = broker().await;
    let mut command = fixture("serve");
    command
        .env("MQTT_URL", broker.url())
        .env("MQTT_CLIENT_ID", "victim")
        .env("MQTT_ENABLE_HEALTH", "true");
    let mut victim = Child::start(command);
    victim.until_line("ready").await;
    let mut messages = subscribed(&broker, "system/health/victim", "%r %p").await;
    let alive = messages.next().await;
    assert!(alive.contains(r#""ok":true,"event":"connected""#), "{alive}");
    victim.signal(Signal::KILL);
    let will = messages.next().await;
    let expected = r#""data":{"ok":false,"event":"offline","error":"connection lost","timestamp":"#;
    assert!(will.starts_with("0 ") && will.contains(expected), "{will}");
    let retained = sub(&broker, &["-t", "system/health/victim", "-F", "%r %p", "-C", "1"]).await;
    assert_eq!(retained.trim_end(), will.replacen("0 ", "1 ", 1));
    let end = within("its end", victim.end()).await;
    assert!(!end.status.success());
}
