//! A service configured by nothing but its environment and the `.env` of its working directory.

use std::process::Stdio;

use tars_testkit::mosquitto::Mosquitto;
use tempfile::TempDir;

use crate::support::child::{Child, End, fixture};
use crate::support::tools::sub;
use crate::support::{broker, started};

/// In a URL it has to be written percent-encoded.
const PASSWORD: &str = "pä$s/w@rd";
const ENCODED: &str = "p%C3%A4%24s%2Fw%40rd";

fn folder_with(env_file: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join(".env"), env_file).unwrap();
    folder
}

/// No form of a secret may be anywhere.
fn assert_silent(text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} is told: {text}");
    }
}

/// What the fixture says at its end, between the lines of its log.
fn error_of(end: &End) -> &str {
    let told = end.errors.lines().find_map(|line| line.strip_prefix("error: "));
    told.unwrap_or_else(|| panic!("no error is told: {}", end.errors))
}

#[tokio::test]
async fn environment_over_env_file_is_all_that_a_service_needs() {
    let broker = started(
        Mosquitto::builder()
            .password("svc", PASSWORD)
            .password("observer", "seen"),
    )
    .await;
    let url = format!("mqtt://svc:{ENCODED}@127.0.0.1:{}", broker.port());
    let folder = folder_with(&format!(
        "# as a service has it\nMQTT_URL='{url}'\nexport MQTT_CLIENT_ID=from-file\nMQTT_ENABLE_HEALTH=yes\n"
    ));
    let mut command = fixture("serve");
    command
        .current_dir(folder.path())
        .env("MQTT_CLIENT_ID", "from-environment");
    let mut running = Child::start(command);
    running.until_line("ready").await;
    assert!(
        broker
            .log()
            .contains("Received PUBLISH from from-environment (d0, q1, r0, m")
    );
    assert!(broker.log().contains("'fixture/started'"));

    let end = running.terminate().await;
    assert_eq!(end.status.code(), Some(0), "{end:?}");
    assert!(end.errors.contains("TRACE"), "the whole log is looked at");
    assert_silent(&end.errors, &[PASSWORD, ENCODED]);
    let observer = ["-u", "observer", "-P", "seen", "-F", "%r %p", "-C", "1"];
    let arguments = [&["-t", "system/health/from-environment"], &observer[..]].concat();
    let health = sub(&broker, &arguments).await;
    assert!(
        health.starts_with("1 ") && health.contains(r#""data":{"ok":false,"event":"shutdown""#),
        "{health}"
    );
}

#[tokio::test]
async fn all_bad_variables_are_told_at_once_and_no_secret_is() {
    const BAD: &[(&str, &str)] = &[
        ("MQTT_URL", "http://svc:hunter2@broker.example"),
        ("MQTT_CLIENT_ID", "rooms/kitchen"),
        ("MQTT_KEEPALIVE", "0"),
        ("MQTT_ENABLE_HEARTBEAT", "perhaps"),
        ("MQTT_HEARTBEAT_INTERVAL", "0.5"),
        ("MQTT_DEDUPE_TTL", "-1"),
        ("MQTT_DEDUPE_MAX_ENTRIES", "many"),
        ("MQTT_RECONNECT_MIN_DELAY", "0.01"),
        ("MQTT_RECONNECT_MAX_DELAY", "nan"),
        ("MQTT_PASSWORD_FILE", "no-such-file"),
        ("MQTT_CA_FILE", "no-such-ca.pem"),
        ("MQTT_CERT_FILE", "no-such-cert.pem"),
        ("MQTT_KEY_FILE", "no-such-key.pem"),
        ("MQTT_CLEAN_SESSION", "2"),
        ("MQTT_CONNECT_RETRY", "never"),
        ("MQTT_MAX_PACKET_SIZE", "1"),
        ("MQTT_PUBLISH_TIMEOUT", "0"),
        ("MQTT_SHUTDOWN_TIMEOUT", "-0.1"),
        ("MQTT_RECONNECT", "maybe"),
        ("MQTT_HEALTH_FORMAT", "yaml"),
        ("MQTT_ADAPTER", "carrier-pigeon"),
    ];
    let folder = folder_with("");
    let mut command = fixture("serve");
    command.current_dir(folder.path()).envs(BAD.iter().copied());
    // Right by themselves: they make the client id and the password file wrong.
    command
        .env("MQTT_ENABLE_HEALTH", "true")
        .env("MQTT_PASSWORD", "hunter3");
    let end = Child::start(command).end().await;
    assert_ne!(end.status.code(), Some(0));
    // Not killed by a signal, and no panic.
    assert_eq!(end.status.code(), Some(1), "{}", end.errors);
    for (name, value) in BAD {
        let line = end.errors.lines().find(|line| line.starts_with(&format!("- {name} ")));
        let line = line.unwrap_or_else(|| panic!("{name} is not told:\n{}", end.errors));
        let is_secret = value.contains("hunter");
        assert!(is_secret || line.contains(value), "the value is told: {line}");
    }
    assert_eq!(
        end.errors.lines().filter(|line| line.starts_with("- ")).count(),
        BAD.len()
    );
    assert_silent(&end.errors, &["hunter2", "hunter3"]);
}

#[tokio::test]
async fn a_line_of_env_that_cannot_be_read_is_told_without_its_value() {
    let folder = folder_with("MQTT_CLIENT_ID=svc\nMQTT_PASSWORD='hunter2\n");
    let mut command = fixture("serve");
    command.current_dir(folder.path()).env("MQTT_URL", "mqtt://127.0.0.1");
    let end = Child::start(command).end().await;
    assert_eq!(end.status.code(), Some(1));
    assert!(
        end.errors.contains(".env") && end.errors.contains('2'),
        "{}",
        end.errors
    );
    assert_silent(&end.errors, &["hunter2"]);
}

#[tokio::test]
async fn a_refused_login_ends_the_service_with_what_to_check() {
    let broker = started(Mosquitto::builder().password("svc", PASSWORD)).await;
    let mut command = fixture("serve");
    command.env("MQTT_URL", broker.url()).env("MQTT_CLIENT_ID", "svc");
    command.env("MQTT_USERNAME", "svc").env("MQTT_PASSWORD", "hunter2");
    let end = Child::start(command).end().await;
    assert_eq!(end.status.code(), Some(1));
    let told = error_of(&end);
    assert!(told.contains("127.0.0.1") && told.contains("password"), "{told}");
    assert_silent(&end.errors, &["hunter2", PASSWORD]);
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    // A port that was free a moment ago, and had a broker before.
    let mut gone = broker().await;
    gone.stop().await.unwrap();
    let mut command = fixture("serve");
    command
        .env("MQTT_URL", gone.url())
        .env("MQTT_CLIENT_ID", "svc")
        .stdin(Stdio::null());
    let end = Child::start(command).end().await;
    assert_eq!(end.status.code(), Some(1));
    let told = error_of(&end);
    assert!(told.contains(&format!("127.0.0.1:{}", gone.port())), "{told}");
}
