//! docs/configuration.md against the table of settings.

use crate::config::Adapter;
use crate::config::settings::*;

/// Each setting has a row in the document, with the rule and the default that hold here.
#[test]
fn the_document_has_every_setting() {
    let document = include_str!("../../../../../docs/configuration.md");
    let row = |start: String| {
        let rows: Vec<_> = document.lines().filter(|line| line.starts_with(&start)).collect();
        assert_eq!(rows.len(), 1, "{start}");
        rows[0]
    };
    for setting in VARIABLES {
        let row = row(format!("| `{}` | `{}` | ", setting.name(), setting.method));
        assert!(row.contains(&format!(" | {}", setting.rule)), "{row}");
    }
    let defaults = [
        (&KEEPALIVE.setting, KEEPALIVE.default.as_secs_f64().to_string()),
        (&ENABLE_HEALTH.setting, ENABLE_HEALTH.default.to_string()),
        (&ENABLE_HEARTBEAT.setting, ENABLE_HEARTBEAT.default.to_string()),
        (
            &HEARTBEAT_INTERVAL.setting,
            HEARTBEAT_INTERVAL.default.as_secs_f64().to_string(),
        ),
        (&DEDUPE_TTL.setting, DEDUPE_TTL.default.as_secs_f64().to_string()),
        (&DEDUPE_MAX_ENTRIES.setting, DEDUPE_MAX_ENTRIES.default.to_string()),
        (
            &RECONNECT_MIN_DELAY.setting,
            RECONNECT_MIN_DELAY.default.as_secs_f64().to_string(),
        ),
        (
            &RECONNECT_MAX_DELAY.setting,
            RECONNECT_MAX_DELAY.default.as_secs_f64().to_string(),
        ),
        (&CLEAN_SESSION.setting, CLEAN_SESSION.default.to_string()),
        (&CONNECT_RETRY.setting, CONNECT_RETRY.default.to_string()),
        (&MAX_PACKET_SIZE.setting, MAX_PACKET_SIZE.default.to_string()),
        (
            &PUBLISH_TIMEOUT.setting,
            PUBLISH_TIMEOUT.default.as_secs_f64().to_string(),
        ),
        (
            &SHUTDOWN_TIMEOUT.setting,
            SHUTDOWN_TIMEOUT.default.as_secs_f64().to_string(),
        ),
        (&RECONNECT.setting, RECONNECT.default.to_string()),
        (&HEALTH_FORMAT, "reference".to_owned()),
        (&ADAPTER, Adapter::default().name().to_owned()),
    ];
    for (setting, default) in defaults {
        row(format!("| `{}` | `{}` | {default} | ", setting.name(), setting.method));
    }
    let mib = |bytes: usize| format!("{} MiB", bytes / (1024 * 1024));
    for (method, default) in [
        (
            CONNECT_TIMEOUT.setting.method,
            format!("{} s", CONNECT_TIMEOUT.default.as_secs_f64()),
        ),
        (MAX_INFLIGHT.setting.method, MAX_INFLIGHT.default.to_string()),
        (OUTBOX_MESSAGES.setting.method, OUTBOX_MESSAGES.default.to_string()),
        (OUTBOX_BYTES.setting.method, mib(OUTBOX_BYTES.default)),
        (INBOUND_MESSAGES.setting.method, INBOUND_MESSAGES.default.to_string()),
        (INBOUND_BYTES.setting.method, mib(INBOUND_BYTES.default)),
    ] {
        row(format!("| `{method}` | {default} | "));
    }
}
