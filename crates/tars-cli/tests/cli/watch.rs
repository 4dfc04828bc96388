//! The fleet, seen from outside.

use std::time::Duration;

use serde_json::Value;
use tars_mqtt::{Client, QoS};
use tars_testkit::mosquitto::Mosquitto;

use crate::{Tars, connected, service};

async fn beating(broker: &Mosquitto, client_id: &str) -> Client {
    let config = service(broker, client_id).enable_health(true).enable_heartbeat(true);
    connected(config.heartbeat_interval(Duration::from_secs(1))).await
}

fn state(lines: &[Value], service: &str) -> String {
    let line = lines.iter().find(|line| line["service"] == service);
    line.map_or_else(String::new, |line| line["state"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn once_as_a_table_and_as_json() {
    let broker = Mosquitto::start().await.unwrap();
    let ears = beating(&broker, "ears").await;
    let brain = beating(&broker, "brain").await;
    brain
        .publish_health(false)
        .event("overload")
        .error("queue of 900")
        .await
        .unwrap();
    let nose = beating(&broker, "nose").await;
    nose.shutdown().await;
    let watched = Tars::at(&broker, &["watch", "--once", "--json", "--for", "2.5"])
        .run()
        .await;
    assert_eq!((watched.code, watched.err.as_str()), (0, ""));
    let lines = watched.lines();
    assert_eq!(lines.len(), 3, "{}", watched.out);
    let states = [state(&lines, "brain"), state(&lines, "ears"), state(&lines, "nose")];
    assert_eq!(states, ["unhealthy", "up", "shut down"]);
    assert_eq!(lines[0]["last_error"], "queue of 900");
    let interval = lines[1]["beat_interval"].as_f64().unwrap();
    assert!((0.5..1.5).contains(&interval), "{interval}");

    let table = Tars::at(&broker, &["watch", "--once", "--for", "0.5"]).run().await.out;
    let row = |name: &str| {
        table
            .lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        row("brain").contains("unhealthy") && row("brain").contains("queue of 900"),
        "{table}"
    );
    assert!(
        row("ears").contains("up") && row("nose").contains("shut down"),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "no colours in a pipe");
    let coloured = ["watch", "--once", "--for", "0.5", "--color", "always"];
    assert!(Tars::at(&broker, &coloured).run().await.out.contains("\u{1b}["));
    ears.shutdown().await;
    brain.shutdown().await;
}

#[tokio::test]
async fn check_is_for_scripts() {
    let broker = Mosquitto::start().await.unwrap();
    let check = async || {
        let arguments = ["watch", "--once", "--for", "0.5", "--check"];
        Tars::at(&broker, &arguments).run().await.code
    };
    assert_eq!(check().await, 22, "nobody is there");
    let ears = beating(&broker, "ears").await;
    assert_eq!(check().await, 0);
    ears.shutdown().await;
    assert_eq!(check().await, 22);
}

#[tokio::test]
async fn live_every_change_is_a_line() {
    let broker = Mosquitto::start().await.unwrap();
    let mut watch = Tars::at(&broker, &["watch", "--json"]).start();
    let ears = beating(&broker, "ears").await;
    watch
        .json_until(|line| line["service"] == "ears" && line["state"] == "up")
        .await;
    ears.publish_health(false)
        .event("deaf")
        .error("no microphone")
        .await
        .unwrap();
    let deaf = watch.json_until(|line| line["state"] == "unhealthy").await;
    assert_eq!(
        (&deaf["event"], &deaf["error"]),
        (&"deaf".into(), &"no microphone".into())
    );
    ears.publish_health(true).event("hears").await.unwrap();
    let well = watch.json_until(|line| line["state"] == "up").await;
    assert_eq!(
        (&well["error"], &well["last_error"]),
        (&Value::Null, &"no microphone".into())
    );
    // Gone without a word: the last handle is dropped, and the will speaks.
    drop(ears);
    let gone = watch.json_until(|line| line["state"] == "offline").await;
    assert_eq!(gone["error"], "connection lost");
    assert_eq!(watch.unread().await, 0);
}

#[tokio::test]
async fn a_service_whose_beats_stay_away_is_stale() {
    let broker = Mosquitto::start().await.unwrap();
    let mut watch = Tars::at(&broker, &["watch", "--json"]).start();
    let python = connected(service(&broker, "feeder").enable_health(true)).await;
    watch.json_until(|line| line["service"] == "feeder").await;
    let beat = r#"{"ok":true,"event":"heartbeat","timestamp":1697472000.123}"#;
    python.publish("system/keepalive/legs", beat).await.unwrap();
    watch
        .json_until(|line| line["service"] == "legs" && line["state"] == "beating")
        .await;
    python.publish("system/keepalive/legs", beat).await.unwrap();
    watch.json_until(|line| line["state"] == "stale").await;
    python.publish("system/keepalive/legs", beat).await.unwrap();
    watch.json_until(|line| line["state"] == "beating").await;
}

#[tokio::test]
async fn bad_input_is_counted_and_does_no_harm() {
    let broker = Mosquitto::start().await.unwrap();
    let feeder = connected(service(&broker, "feeder")).await;
    for (topic, payload) in [
        ("system/health/bad", "nonsense"),
        (
            "system/health/odd",
            r#"{"type":"health.status","data":{"ok":true,"event":"\u001b[2J"}}"#,
        ),
    ] {
        feeder
            .publish(topic, payload)
            .retain(true)
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
    }
    let ended = Tars::at(&broker, &["watch", "--once", "--for", "0.5"]).run().await;
    assert_eq!(ended.code, 0);
    assert!(ended.out.contains("1 messages are invalid"), "{}", ended.out);
    assert!(!ended.out.contains('\u{1b}'), "{:?}", ended.out);
}
