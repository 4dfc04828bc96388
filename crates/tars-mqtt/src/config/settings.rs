//! The settings as a table: variable, builder method, default, bounds, and the rule in words.
//!
//! Whoever adds a setting adds it here; that alone makes its variable a known one. A test holds
//! docs/configuration.md against this table.

use std::time::Duration;

/// The names of a setting, and what a value has to be.
#[derive(Debug)]
pub(super) struct Setting {
    /// `None` for a setting that only code can give.
    pub(super) variable: Option<&'static str>,
    /// Of the builder.
    pub(super) method: &'static str,
    /// Completes the sentence "expected …".
    pub(super) rule: &'static str,
    /// Whether its value is never shown.
    pub(super) secret: bool,
}

impl Setting {
    const fn new(variable: &'static str, method: &'static str, rule: &'static str) -> Self {
        Self {
            variable: Some(variable),
            method,
            rule,
            secret: false,
        }
    }

    const fn code_only(method: &'static str, rule: &'static str) -> Self {
        Self {
            variable: None,
            method,
            rule,
            secret: false,
        }
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// What to call it where no source gave a value.
    pub(super) const fn name(&self) -> &'static str {
        match self.variable {
            Some(variable) => variable,
            None => self.method,
        }
    }
}

/// A setting with a default and inclusive bounds.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    pub(super) setting: Setting,
    pub(super) default: T,
    pub(super) min: T,
    pub(super) max: T,
}

/// A setting that is on or off.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) setting: Setting,
    pub(super) default: bool,
}

const fn flag(variable: &'static str, method: &'static str, default: bool) -> Flag {
    Flag {
        setting: Setting::new(variable, method, "true, false, 1, 0, yes, no, on or off"),
        default,
    }
}

const fn seconds(setting: Setting, default_ms: u64, min: Duration) -> Bounded<Duration> {
    Bounded {
        setting,
        default: Duration::from_millis(default_ms),
        min,
        max: LONGEST,
    }
}

const fn count(method: &'static str, default: usize) -> Bounded<usize> {
    Bounded {
        setting: Setting::code_only(method, "at least 1"),
        default,
        min: 1,
        max: usize::MAX,
    }
}

/// What MQTT has room for in a text or a password, in bytes.
pub(super) const LONGEST_TEXT: usize = 65_535;

/// MQTT 3.1.1 section 1.5.3, for client ids and user names.
pub(super) fn is_mqtt_text(text: &str) -> bool {
    text.len() <= LONGEST_TEXT && !text.contains('\0')
}

/// Section 3.1.3.5: any bytes.
pub(super) fn is_password(text: &str) -> bool {
    text.len() <= LONGEST_TEXT
}

/// About 31 years. A bound, so that "now plus a setting" never overflows a clock.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);

/// The least time that is not nothing.
const NOT_ZERO: Duration = Duration::from_nanos(1);

const MIB: usize = 1024 * 1024;

pub(super) const URL: Setting = Setting::new("MQTT_URL", "url", super::url::EXPECTED);
pub(super) const CLIENT_ID: Setting = Setting::new(
    "MQTT_CLIENT_ID",
    "client_id",
    "1 to 65535 bytes without the character U+0000",
);
pub(super) const SOURCE_NAME: Setting = Setting::new("MQTT_SOURCE_NAME", "source_name", "any text");
pub(super) const KEEPALIVE: Bounded<Duration> = Bounded {
    setting: Setting::new("MQTT_KEEPALIVE", "keepalive", "whole seconds from 1 to 3600"),
    default: Duration::from_secs(60),
    min: Duration::from_secs(1),
    max: Duration::from_secs(3600),
};
pub(super) const ENABLE_HEALTH: Flag = flag("MQTT_ENABLE_HEALTH", "enable_health", false);
pub(super) const ENABLE_HEARTBEAT: Flag = flag("MQTT_ENABLE_HEARTBEAT", "enable_heartbeat", false);
pub(super) const HEARTBEAT_INTERVAL: Bounded<Duration> = seconds(
    Setting::new(
        "MQTT_HEARTBEAT_INTERVAL",
        "heartbeat_interval",
        "seconds from 1.0 to 1e9",
    ),
    30_000,
    Duration::from_secs(1),
);
pub(super) const DEDUPE_TTL: Bounded<Duration> = seconds(
    Setting::new("MQTT_DEDUPE_TTL", "dedupe_ttl", "seconds from 0 (off) to 1e9"),
    0,
    Duration::ZERO,
);
pub(super) const DEDUPE_MAX_ENTRIES: Bounded<usize> = Bounded {
    setting: Setting::new(
        "MQTT_DEDUPE_MAX_ENTRIES",
        "dedupe_max_entries",
        "an integer, at least 1 where deduplication is on",
    ),
    default: 10_000,
    min: 0,
    max: usize::MAX,
};
pub(super) const RECONNECT_MIN_DELAY: Bounded<Duration> = seconds(
    Setting::new(
        "MQTT_RECONNECT_MIN_DELAY",
        "reconnect_min_delay",
        "seconds from 0.1 to 1e9",
    ),
    500,
    Duration::from_millis(100),
);
pub(super) const RECONNECT_MAX_DELAY: Bounded<Duration> = seconds(
    Setting::new(
        "MQTT_RECONNECT_MAX_DELAY",
        "reconnect_max_delay",
        "seconds from 0.5 to 1e9, and not below the minimum delay",
    ),
    5_000,
    Duration::from_millis(500),
);
pub(super) const USERNAME: Setting = Setting::new(
    "MQTT_USERNAME",
    "username",
    "at most 65535 bytes without the character U+0000",
);
pub(super) const PASSWORD: Setting = Setting::new("MQTT_PASSWORD", "password", "at most 65535 bytes").secret();
pub(super) const PASSWORD_FILE: Setting = Setting::new(
    "MQTT_PASSWORD_FILE",
    "password_file",
    "a readable file with a password of 1 to 65535 bytes",
);
pub(super) const CA_FILE: Setting = Setting::new("MQTT_CA_FILE", "ca_file", "a readable PEM file");
pub(super) const CERT_FILE: Setting = Setting::new("MQTT_CERT_FILE", "cert_file", "a readable PEM file");
pub(super) const KEY_FILE: Setting = Setting::new("MQTT_KEY_FILE", "key_file", "a readable PEM file");
pub(super) const CLEAN_SESSION: Flag = flag("MQTT_CLEAN_SESSION", "clean_session", true);
pub(super) const CONNECT_RETRY: Flag = flag("MQTT_CONNECT_RETRY", "connect_retry", false);
pub(super) const MAX_PACKET_SIZE: Bounded<usize> = Bounded {
    setting: Setting::new(
        "MQTT_MAX_PACKET_SIZE",
        "max_packet_size",
        "bytes, an integer from 128 to 268435455",
    ),
    default: 16 * MIB,
    // Room for the packets of the protocol itself; and whoever wrote 16 and meant MiB learns it.
    min: 128,
    max: 268_435_455,
};
pub(super) const PUBLISH_TIMEOUT: Bounded<Duration> = seconds(
    Setting::new(
        "MQTT_PUBLISH_TIMEOUT",
        "publish_timeout",
        "seconds above 0, at most 1e9",
    ),
    30_000,
    NOT_ZERO,
);
pub(super) const SHUTDOWN_TIMEOUT: Bounded<Duration> = seconds(
    Setting::new("MQTT_SHUTDOWN_TIMEOUT", "shutdown_timeout", "seconds from 0 to 1e9"),
    5_000,
    Duration::ZERO,
);
pub(super) const RECONNECT: Flag = flag("MQTT_RECONNECT", "reconnect", true);
pub(super) const HEALTH_FORMAT: Setting = Setting::new("MQTT_HEALTH_FORMAT", "health_format", "reference or original");
pub(super) const ADAPTER: Setting = Setting::new("MQTT_ADAPTER", "adapter", "rumqttc or paho");

pub(super) const CONNECT_TIMEOUT: Bounded<Duration> = seconds(
    Setting::code_only("connect_timeout", "more than nothing, at most 1e9 seconds"),
    10_000,
    NOT_ZERO,
);
pub(super) const MAX_INFLIGHT: Bounded<u16> = Bounded {
    setting: Setting::code_only("max_inflight", "at least 1"),
    default: 100,
    min: 1,
    max: u16::MAX,
};
pub(super) const OUTBOX_MESSAGES: Bounded<usize> = count("outbox_messages", 1000);
pub(super) const OUTBOX_BYTES: Bounded<usize> = count("outbox_bytes", 64 * MIB);
pub(super) const INBOUND_MESSAGES: Bounded<usize> = count("inbound_messages", 1024);
pub(super) const INBOUND_BYTES: Bounded<usize> = count("inbound_bytes", 64 * MIB);
pub(super) const MAX_SUBSCRIPTIONS: Bounded<usize> = count("max_subscriptions", 10_000);

/// Every variable that is read.
pub(super) const VARIABLES: [&Setting; 25] = [
    &URL,
    &CLIENT_ID,
    &SOURCE_NAME,
    &KEEPALIVE.setting,
    &ENABLE_HEALTH.setting,
    &ENABLE_HEARTBEAT.setting,
    &HEARTBEAT_INTERVAL.setting,
    &DEDUPE_TTL.setting,
    &DEDUPE_MAX_ENTRIES.setting,
    &RECONNECT_MIN_DELAY.setting,
    &RECONNECT_MAX_DELAY.setting,
    &USERNAME,
    &PASSWORD,
    &PASSWORD_FILE,
    &CA_FILE,
    &CERT_FILE,
    &KEY_FILE,
    &CLEAN_SESSION.setting,
    &CONNECT_RETRY.setting,
    &MAX_PACKET_SIZE.setting,
    &PUBLISH_TIMEOUT.setting,
    &SHUTDOWN_TIMEOUT.setting,
    &RECONNECT.setting,
    &HEALTH_FORMAT,
    &ADAPTER,
];
