//! The ten-line service: that it has ten lines, is the one that the README shows, and works.

use rustix::process::Signal;

use crate::support::broker;
use crate::support::child::{Child, service};
use crate::support::tools::{publish, sub, subscribed};

const SERVICE: &str = include_str!("../../examples/ten_lines/service.rs");
const README: &str = include_str!("../../../README.md");

#[test]
fn it_has_ten_lines_imports_included_and_is_the_one_in_the_readme() {
    let lines = SERVICE.lines().filter(|line| !line.trim().is_empty());
    assert!(lines.count() <= 10);
    assert!(
        SERVICE.lines().all(|line| line.len() <= 120),
        "no line is longer than the house allows"
    );
    assert!(README.contains(SERVICE), "the README shows another one");
}

#[tokio::test]
async fn it_connects_from_the_environment_handles_publishes_and_shuts_down() {
    let broker = broker().await;
    let mut messages = subscribed(&broker, "wake/ready", "%t %p").await;
    let mut command = service(env!("CARGO_BIN_EXE_ten-lines"));
    command
        .env("MQTT_URL", broker.url())
        .env("MQTT_CLIENT_ID", "wake")
        .env("MQTT_ENABLE_HEALTH", "true");
    let mut running = Child::start(command);
    let ready = messages.next().await;
    assert!(
        ready.contains(r#""type":"wake.ready""#) && ready.contains(r#""source":"wake""#),
        "{ready}"
    );

    let event = br#"{"id":"1","type":"wake.event","ts":1.5,"source":"mic","data":{"word":"tars"}}"#;
    publish(&broker, &["-t", "wake/event", "-q", "1", "-s"], event).await;
    assert_eq!(running.line().await, "tars");

    running.signal(Signal::INT);
    let end = running.end().await;
    assert!(end.status.success(), "{end:?}");
    let health = sub(&broker, &["-t", "system/health/wake", "-C", "1"]).await;
    assert!(health.contains(r#""event":"shutdown""#), "{health}");
}

#[tokio::test]
async fn without_a_configuration_it_says_what_is_missing() {
    let end = Child::start(service(env!("CARGO_BIN_EXE_ten-lines"))).end().await;
    assert!(!end.status.success());
    for name in ["MQTT_URL", "MQTT_CLIENT_ID"] {
        assert!(end.errors.contains(name), "{}", end.errors);
    }
}
