//! Which source counts, and how problems and oddities of all of them are told.

use std::time::Duration;

use tars_contracts::HealthFormat;

use super::{password, problems, with};
use crate::config::files::tests::Scratch;
use crate::config::settings::VARIABLES;
use crate::config::{Adapter, BrokerUrl, Config};

#[test]
fn defaults() {
    let config = Config::new("mqtt://localhost", "svc").unwrap();
    assert_eq!(config.broker, BrokerUrl::new(tars_ports::Transport::Tcp, "localhost"));
    assert_eq!(config.broker.port, 1883);
    assert_eq!((&*config.client_id, &*config.source_name), ("svc", "svc"));
    assert!(config.credentials.is_none() && config.password_file.is_none());
    assert_eq!(config.keep_alive, Duration::from_secs(60));
    assert!(!config.health);
    assert_eq!(config.heartbeat, None);
    assert_eq!(config.health_format, HealthFormat::Reference);
    assert_eq!(config.dedupe_ttl, Duration::ZERO);
    assert_eq!(config.dedupe_max_entries, 10_000);
    assert_eq!(config.reconnect_min_delay, Duration::from_millis(500));
    assert_eq!(config.reconnect_max_delay, Duration::from_secs(5));
    assert!(config.ca_file.is_none() && config.cert_file.is_none() && config.key_file.is_none());
    assert!(config.clean_session && config.reconnect && !config.connect_retry);
    assert_eq!(config.max_packet_size, 16 * 1024 * 1024);
    assert_eq!(config.publish_timeout, Duration::from_secs(30));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(5));
    assert_eq!(config.adapter, Adapter::Rumqttc);
    assert_eq!(config.connect_timeout, Duration::from_secs(10));
    assert_eq!(config.max_inflight, 100);
    assert_eq!((config.outbox_messages, config.outbox_bytes), (1000, 64 * 1024 * 1024));
    assert_eq!(
        (config.inbound_messages, config.inbound_bytes),
        (1024, 64 * 1024 * 1024)
    );
    assert_eq!(config.max_subscriptions, 10_000);
    assert!(config.warnings().is_empty());

    let config = Config::builder()
        .url("mqtt://h")
        .client_id("svc")
        .enable_heartbeat(true)
        .build()
        .unwrap();
    assert_eq!(config.heartbeat, Some(Duration::from_secs(30)));
}

#[test]
fn every_variable_is_taken() {
    let scratch = Scratch::new();
    let pem = scratch.write("pem", "-----BEGIN X-----");
    let pem = pem.to_str().unwrap();
    let config = Config::builder()
        .vars([
            ("MQTT_URL", "mqtts://u:p@h"),
            ("MQTT_CLIENT_ID", "007"),
            ("MQTT_SOURCE_NAME", "source"),
            ("MQTT_KEEPALIVE", " 20 "),
            ("MQTT_ENABLE_HEALTH", "Yes"),
            ("MQTT_ENABLE_HEARTBEAT", "ON"),
            ("MQTT_HEARTBEAT_INTERVAL", "1.5"),
            ("MQTT_DEDUPE_TTL", "2.5"),
            ("MQTT_DEDUPE_MAX_ENTRIES", "7"),
            ("MQTT_RECONNECT_MIN_DELAY", "0.25"),
            ("MQTT_RECONNECT_MAX_DELAY", "8"),
            ("MQTT_USERNAME", "user"),
            ("MQTT_PASSWORD", "007"),
            ("MQTT_CA_FILE", pem),
            ("MQTT_CERT_FILE", pem),
            ("MQTT_KEY_FILE", pem),
            ("MQTT_CLEAN_SESSION", "off"),
            ("MQTT_CONNECT_RETRY", "1"),
            ("MQTT_MAX_PACKET_SIZE", "4096"),
            ("MQTT_PUBLISH_TIMEOUT", "0.5"),
            ("MQTT_SHUTDOWN_TIMEOUT", "0"),
            ("MQTT_RECONNECT", "no"),
            ("MQTT_HEALTH_FORMAT", "Original"),
            ("MQTT_ADAPTER", ""),
        ])
        .build()
        .unwrap();
    assert_eq!(
        (&*config.broker.to_string(), &*config.client_id),
        ("mqtts://h:8883", "007")
    );
    assert_eq!(config.source_name, "source");
    assert_eq!(config.keep_alive, Duration::from_secs(20));
    assert!(config.health);
    assert_eq!(config.heartbeat, Some(Duration::from_millis(1500)));
    assert_eq!(config.dedupe_ttl, Duration::from_millis(2500));
    assert_eq!(config.dedupe_max_entries, 7);
    assert_eq!(config.reconnect_min_delay, Duration::from_millis(250));
    assert_eq!(config.reconnect_max_delay, Duration::from_secs(8));
    assert_eq!(config.credentials.as_ref().unwrap().username, "user");
    assert_eq!(password(&config).unwrap(), "007");
    let files = [&config.ca_file, &config.cert_file, &config.key_file];
    assert!(
        files
            .into_iter()
            .all(|file| file.as_ref().unwrap().to_str() == Some(pem))
    );
    assert!(!config.clean_session && config.connect_retry && !config.reconnect);
    assert_eq!(config.max_packet_size, 4096);
    assert_eq!(config.publish_timeout, Duration::from_millis(500));
    assert_eq!(config.shutdown_timeout, Duration::ZERO);
    assert_eq!(config.health_format, HealthFormat::Original);
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
}

#[test]
fn code_overrides_variables_whichever_is_called_first() {
    let variables = [
        ("MQTT_URL", "mqtt://env"),
        ("MQTT_CLIENT_ID", "env"),
        ("MQTT_KEEPALIVE", "bad"),
    ];
    let before = Config::builder()
        .keepalive(Duration::from_secs(7))
        .client_id("code")
        .vars(variables);
    let after = Config::builder()
        .vars(variables)
        .keepalive(Duration::from_secs(7))
        .client_id("code");
    for builder in [before, after] {
        let config = builder.build().unwrap();
        assert_eq!((&*config.broker.host, &*config.client_id), ("env", "code"));
        assert_eq!(config.keep_alive, Duration::from_secs(7));
    }
}

#[test]
fn an_empty_value_is_not_set() {
    for setting in VARIABLES {
        let name = setting.variable.unwrap();
        assert!(with(&[(name, "")]).is_ok(), "{name}");
    }
    let config = with(&[("MQTT_SOURCE_NAME", ""), ("MQTT_KEEPALIVE", "")]).unwrap();
    assert_eq!(
        (&*config.source_name, config.keep_alive),
        ("svc", Duration::from_secs(60))
    );
    let builder = Config::builder()
        .url("mqtt://h")
        .client_id("svc")
        .vars([("MQTT_SOURCE_NAME", "env")]);
    assert_eq!(
        builder.source_name("").build().unwrap().source_name,
        "svc",
        "also in code, over a variable"
    );
}

#[test]
fn all_problems_come_together() {
    let found = problems(
        Config::builder()
            .vars([
                ("MQTT_URL", "mqtt://u:hunter2@h:0"),
                ("MQTT_CLIENT_ID", "a/b"),
                ("MQTT_KEEPALIVE", "0"),
                ("MQTT_ENABLE_HEALTH", "on"),
                ("MQTT_HEARTBEAT_INTERVAL", "x"),
            ])
            .max_inflight(0)
            .build(),
    );
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(found[0].starts_with(
        r#"MQTT_URL is "mqtt://u:***@h:0" (environment): the port is not in 1 to 65535; expected mqtt://["#
    ));
}

#[test]
fn unknown_variables_are_warnings_without_their_value() {
    let config = with(&[("MQTT_KEEP_ALIVE", "hunter2"), ("MQTTX", "1"), ("OTHER", "1")]).unwrap();
    let expected = "unknown variable \"MQTT_KEEP_ALIVE\" (environment); the nearest known name is MQTT_KEEPALIVE";
    assert_eq!(config.warnings(), [expected]);
}

/// The test runs itself again with an environment of its own: `set_var` would be unsafe, and seen
/// by every other test.
#[test]
fn the_real_environment_and_the_real_file() {
    if std::env::var_os("TARS_CONFIG_CHILD").is_some() {
        let config = Config::from_env().unwrap();
        assert_eq!(
            (&*config.broker.host, &*config.client_id, &*config.source_name),
            ("env", "file", "file")
        );
        assert_eq!(
            std::env::var_os("MQTT_CLIENT_ID"),
            None,
            "the file stays out of the environment"
        );
        return;
    }
    let scratch = Scratch::new();
    scratch.write(
        ".env",
        "MQTT_URL=mqtt://file\nMQTT_CLIENT_ID=file\nexport MQTT_SOURCE_NAME='file'\nOTHER=1\n",
    );
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["the_real_environment_and_the_real_file", "--nocapture"])
        .current_dir(scratch.path());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MQTT_")) {
        child.env_remove(name);
    }
    let output = child
        .env("TARS_CONFIG_CHILD", "1")
        .env("MQTT_URL", "mqtt://env")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
