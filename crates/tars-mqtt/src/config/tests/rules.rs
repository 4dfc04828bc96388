//! Each rule: values it allows, values it refuses, and the rules that span settings.

use std::time::Duration;

use super::{problems, with};
use crate::config::{Adapter, Config, ConfigBuilder};

#[test]
fn values_a_rule_allows_and_values_it_refuses() {
    let flag = "true, false";
    let table: [(&str, &[&str], &[&str], &str); 16] = [
        (
            "MQTT_KEEPALIVE",
            &["1", "3600", "060"],
            &["0", "3601", "-1", "1.0", "60s", "x", "1e1", "99999999999999999999"],
            "whole seconds from 1 to 3600",
        ),
        (
            "MQTT_ENABLE_HEALTH",
            &["true", "FALSE", "1", "0", "yes", "No", "on", "oFF"],
            &["2", "y", "t", "ja"],
            flag,
        ),
        ("MQTT_ENABLE_HEARTBEAT", &["true"], &["tru", "-"], flag),
        (
            "MQTT_HEARTBEAT_INTERVAL",
            &["1", "1.0", "30.5", "1e9"],
            &[
                "0.999", "0", "-1", "nan", "inf", "-inf", "infinity", "1e10", "1e400", "30s", "1,5",
            ],
            "seconds from 1.0",
        ),
        (
            "MQTT_DEDUPE_TTL",
            &["0", "-0", "0.0", "5", "1e9"],
            &["-0.1", "NaN", "1e300"],
            "seconds from 0 (off)",
        ),
        (
            "MQTT_DEDUPE_MAX_ENTRIES",
            &["0", "1", "1000000"],
            &["-1", "1.0", "many"],
            "an integer",
        ),
        (
            "MQTT_RECONNECT_MIN_DELAY",
            &["0.1", "0.5", "5"],
            &["0.0999", "0", "-1", "nan"],
            "seconds from 0.1",
        ),
        (
            "MQTT_RECONNECT_MAX_DELAY",
            &["0.5", "60"],
            &["0.4999", "0", "inf"],
            "seconds from 0.5",
        ),
        ("MQTT_CLEAN_SESSION", &["true", "false"], &["maybe"], flag),
        ("MQTT_CONNECT_RETRY", &["true", "false"], &["maybe"], flag),
        (
            "MQTT_MAX_PACKET_SIZE",
            &["128", "268435455"],
            &["0", "127", "268435456", "16MiB", "1e6", "-1"],
            "bytes, an integer from 128 to 268435455",
        ),
        (
            "MQTT_PUBLISH_TIMEOUT",
            &["0.001", "30"],
            &["0", "-1", "1e-12", "nan"],
            "seconds above 0",
        ),
        (
            "MQTT_SHUTDOWN_TIMEOUT",
            &["0", "30"],
            &["-1", "nan", "soon"],
            "seconds from 0",
        ),
        ("MQTT_RECONNECT", &["true", "false"], &["maybe"], flag),
        (
            "MQTT_HEALTH_FORMAT",
            &["reference", "original", "ORIGINAL"],
            &["python", "0"],
            "reference or original",
        ),
        ("MQTT_ADAPTER", &[], &["mosquitto", "rumqtt"], "rumqttc or paho"),
    ];
    for (variable, good, bad, rule) in table {
        for value in good {
            with(&[(variable, value)]).unwrap_or_else(|error| panic!("{variable}={value}: {error}"));
        }
        for value in bad {
            let found = problems(with(&[(variable, value)]));
            assert_eq!(found.len(), 1, "{found:?}");
            let start = format!("{variable} is {value:?} (environment): expected {rule}");
            assert!(found[0].starts_with(&start), "{found:?}");
        }
    }
}

#[test]
fn the_builder_has_the_same_rules() {
    type Change = fn(ConfigBuilder) -> ConfigBuilder;
    let table: [(&str, Change, Change); 15] = [
        (
            "keepalive",
            |b| b.keepalive(Duration::from_secs(1)),
            |b| b.keepalive(Duration::from_millis(1500)),
        ),
        (
            "keepalive",
            |b| b.keepalive(Duration::from_secs(3600)),
            |b| b.keepalive(Duration::from_secs(3601)),
        ),
        (
            "heartbeat_interval",
            |b| b.heartbeat_interval(Duration::from_secs(1)),
            |b| b.heartbeat_interval(Duration::from_millis(999)),
        ),
        (
            "dedupe_ttl",
            |b| b.dedupe_ttl(Duration::ZERO),
            |b| b.dedupe_ttl(Duration::MAX),
        ),
        (
            "reconnect_min_delay",
            |b| b.reconnect_min_delay(Duration::from_millis(100)),
            |b| b.reconnect_min_delay(Duration::from_millis(99)),
        ),
        (
            "reconnect_max_delay",
            |b| b.reconnect_max_delay(Duration::from_millis(500)),
            |b| b.reconnect_max_delay(Duration::from_millis(499)),
        ),
        (
            "max_packet_size",
            |b| b.max_packet_size(128),
            |b| b.max_packet_size(268_435_456),
        ),
        (
            "publish_timeout",
            |b| b.publish_timeout(Duration::from_nanos(1)),
            |b| b.publish_timeout(Duration::ZERO),
        ),
        (
            "connect_timeout",
            |b| b.connect_timeout(Duration::from_secs(1)),
            |b| b.connect_timeout(Duration::ZERO),
        ),
        ("max_inflight", |b| b.max_inflight(u16::MAX), |b| b.max_inflight(0)),
        ("outbox_messages", |b| b.outbox_messages(1), |b| b.outbox_messages(0)),
        ("outbox_bytes", |b| b.outbox_bytes(1), |b| b.outbox_bytes(0)),
        ("inbound_messages", |b| b.inbound_messages(1), |b| b.inbound_messages(0)),
        ("inbound_bytes", |b| b.inbound_bytes(1), |b| b.inbound_bytes(0)),
        (
            "max_subscriptions",
            |b| b.max_subscriptions(1),
            |b| b.max_subscriptions(0),
        ),
    ];
    for (method, good, bad) in table {
        let builder = || Config::builder().url("mqtt://h").client_id("svc");
        good(builder())
            .build()
            .unwrap_or_else(|error| panic!("{method}: {error}"));
        let found = problems(bad(builder()).build());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("{method} is ")) && found[0].contains("(code): expected "),
            "{found:?}"
        );
    }
}

#[test]
fn url_and_client_id_are_required() {
    let found = problems(Config::builder().build());
    assert_eq!(found.len(), 2);
    assert!(
        found[0].starts_with("MQTT_URL is not set: required, mqtt://[user[:pass]@]host[:port]"),
        "{found:?}"
    );
    assert!(found[1].starts_with("MQTT_CLIENT_ID is not set: required"), "{found:?}");

    let empty = [("MQTT_URL", ""), ("MQTT_CLIENT_ID", "")];
    assert_eq!(problems(Config::builder().vars(empty).build()).len(), 2);
    assert_eq!(problems(Config::new("", "")).len(), 2);

    let found = problems(Config::builder().url("mqtt://h").vars([("MQTT_CLIENTID", "x")]).build());
    assert!(found[0].contains("MQTT_CLIENTID?"), "{found:?}");
}

#[test]
fn a_client_id_is_one_level_of_a_topic_where_health_or_heartbeat_needs_it() {
    let build = |id: &str, health, heartbeat| {
        let builder = Config::builder().url("mqtt://h").client_id(id);
        builder.enable_health(health).enable_heartbeat(heartbeat).build()
    };
    let long = "x".repeat(65_535);
    for id in ["a/b", "a+", "#", &*long] {
        assert!(build(id, false, false).is_ok());
        for (health, heartbeat) in [(true, false), (false, true), (true, true)] {
            let found = problems(build(id, health, heartbeat));
            assert!(found.len() == 1 && found[0].starts_with("client_id is "), "{found:?}");
            assert!(found[0].len() < 500, "cut short");
        }
    }
    for id in ["svc", "$svc", " ", "ü.1-_"] {
        assert!(build(id, true, true).is_ok(), "{id}");
    }
    for id in ["a\0b", &*"x".repeat(65_536)] {
        assert_eq!(problems(build(id, false, false)).len(), 1);
        assert_eq!(problems(build(id, true, true)).len(), 1, "told once");
    }
}

#[test]
fn deduplication_needs_room_for_an_entry() {
    let found = problems(with(&[("MQTT_DEDUPE_TTL", "5"), ("MQTT_DEDUPE_MAX_ENTRIES", "0")]));
    assert!(
        found[0].starts_with(r#"MQTT_DEDUPE_MAX_ENTRIES is "0" (environment): expected "#),
        "{found:?}"
    );
    assert!(with(&[("MQTT_DEDUPE_TTL", "0"), ("MQTT_DEDUPE_MAX_ENTRIES", "0")]).is_ok());
    assert!(with(&[("MQTT_DEDUPE_TTL", "5"), ("MQTT_DEDUPE_MAX_ENTRIES", "1")]).is_ok());
    let found = problems(with(&[("MQTT_DEDUPE_TTL", "x"), ("MQTT_DEDUPE_MAX_ENTRIES", "0")]));
    assert_eq!(found.len(), 1, "nothing is concluded from a bad value: {found:?}");
}

#[test]
fn the_longest_delay_is_not_below_the_shortest() {
    let found = problems(with(&[("MQTT_RECONNECT_MIN_DELAY", "10")]));
    let expected =
        "MQTT_RECONNECT_MAX_DELAY is \"5s\" (default): below MQTT_RECONNECT_MIN_DELAY, which is 10s (environment)";
    assert_eq!(found, [expected]);
    assert!(with(&[("MQTT_RECONNECT_MIN_DELAY", "10"), ("MQTT_RECONNECT_MAX_DELAY", "10")]).is_ok());
    let builder = Config::builder().url("mqtt://h").client_id("svc");
    let found = problems(builder.reconnect_min_delay(Duration::from_secs(6)).build());
    assert!(found[0].contains("below reconnect_min_delay"), "{found:?}");
}

#[test]
fn an_adapter_that_is_not_there_is_refused_only_when_asked_for() {
    for adapter in [Adapter::Rumqttc, Adapter::Paho] {
        let name = adapter.name();
        let by_name = with(&[("MQTT_ADAPTER", name)]);
        let by_value = Config::builder()
            .url("mqtt://h")
            .client_id("svc")
            .adapter(adapter)
            .build();
        if adapter.is_compiled_in() {
            assert_eq!(by_name.unwrap().adapter, adapter);
            assert_eq!(by_value.unwrap().adapter, adapter);
        } else {
            let found = problems(by_name);
            let expected = format!(
                "MQTT_ADAPTER is {name:?} (environment): not part of this build; enable the feature `{name}` of tars-mqtt"
            );
            assert_eq!(found, [expected]);
            assert_eq!(problems(by_value).len(), 1);
        }
    }
    let config = Config::new("mqtt://h", "svc").unwrap();
    assert!(
        config.validate().is_ok(),
        "without an adapter a connector of one's own may take its place"
    );
}

#[test]
fn changed_fields_are_checked_again() {
    let mut config = with(&[
        ("MQTT_ENABLE_HEARTBEAT", "1"),
        ("MQTT_USERNAME", "u"),
        ("MQTT_PASSWORD", "p"),
    ])
    .unwrap();
    config.validate().unwrap();
    config.keep_alive = Duration::from_millis(1);
    config.client_id = "a/b".to_owned();
    let text = config.validate().unwrap_err().to_string();
    assert!(
        text.contains("keepalive is ") && text.contains("client_id is "),
        "{text}"
    );
}
