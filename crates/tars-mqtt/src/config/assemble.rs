//! From a builder to a configuration: every setting read, then what spans several of them.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use tars_contracts::{HealthFormat, health_topic, keepalive_topic};
use tars_ports::{Credentials, Error, Transport};

use super::builder::ConfigBuilder;
use super::credentials::Login;
use super::files;
use super::reading::{Given, Reading};
use super::report::{named, quoted};
use super::settings::{self, Setting, is_mqtt_text};
use super::sources::{Source, Sources};
use super::url;
use super::{Adapter, BrokerUrl, Config};

/// Reads and checks everything; the error has all problems, the configuration all warnings.
pub(super) fn assemble(builder: ConfigBuilder) -> Result<Config, Error> {
    let sources = builder.sources.unwrap_or_default();
    let mut warnings = unknown_variables(&sources);
    let read = &mut Reading::new(&sources);

    let (broker, url_credentials) = broker(read, builder.url).unzip();
    let client_id = client_id(read, builder.client_id);
    let source_name = read.text(&settings::SOURCE_NAME, builder.source_name);
    let keep_alive = read.keepalive(builder.keepalive);
    let health = read.flag(&settings::ENABLE_HEALTH, builder.enable_health);
    let heartbeat = read.flag(&settings::ENABLE_HEARTBEAT, builder.enable_heartbeat);
    let interval = read.seconds(&settings::HEARTBEAT_INTERVAL, builder.heartbeat_interval);
    let dedupe_ttl = read.seconds(&settings::DEDUPE_TTL, builder.dedupe_ttl);
    let dedupe_max_entries = read.integer(&settings::DEDUPE_MAX_ENTRIES, builder.dedupe_max_entries);
    let min_delay = read.seconds(&settings::RECONNECT_MIN_DELAY, builder.reconnect_min_delay);
    let max_delay = read.seconds(&settings::RECONNECT_MAX_DELAY, builder.reconnect_max_delay);
    let username = read.text(&settings::USERNAME, builder.username);
    let password = read.secret(&settings::PASSWORD, builder.password);
    let password_file = read.path(&settings::PASSWORD_FILE, builder.password_file);
    let ca_file = read.path(&settings::CA_FILE, builder.ca_file);
    let cert_file = read.path(&settings::CERT_FILE, builder.cert_file);
    let key_file = read.path(&settings::KEY_FILE, builder.key_file);
    let clean_session = read.flag(&settings::CLEAN_SESSION, builder.clean_session);
    let connect_retry = read.flag(&settings::CONNECT_RETRY, builder.connect_retry);
    let max_packet_size = read.integer(&settings::MAX_PACKET_SIZE, builder.max_packet_size);
    let publish_timeout = read.seconds(&settings::PUBLISH_TIMEOUT, builder.publish_timeout);
    let shutdown_timeout = read.seconds(&settings::SHUTDOWN_TIMEOUT, builder.shutdown_timeout);
    let reconnect = read.flag(&settings::RECONNECT, builder.reconnect);
    let formats = [
        ("reference", HealthFormat::Reference),
        ("original", HealthFormat::Original),
    ];
    let health_format = read.word(&settings::HEALTH_FORMAT, builder.health_format, &formats);
    let adapters = [("rumqttc", Adapter::Rumqttc), ("paho", Adapter::Paho)];
    let adapter = read.word(&settings::ADAPTER, builder.adapter, &adapters);
    let connect_timeout = read.seconds(&settings::CONNECT_TIMEOUT, builder.connect_timeout);
    let max_inflight = read.integer(&settings::MAX_INFLIGHT, builder.max_inflight);
    let outbox_messages = read.integer(&settings::OUTBOX_MESSAGES, builder.outbox_messages);
    let outbox_bytes = read.integer(&settings::OUTBOX_BYTES, builder.outbox_bytes);
    let inbound_messages = read.integer(&settings::INBOUND_MESSAGES, builder.inbound_messages);
    let inbound_bytes = read.integer(&settings::INBOUND_BYTES, builder.inbound_bytes);
    let max_subscriptions = read.integer(&settings::MAX_SUBSCRIPTIONS, builder.max_subscriptions);

    if let Some(id) = &client_id
        && (health.value || heartbeat.value)
    {
        check_topic_level(read, id);
    }
    if dedupe_ttl.sound && dedupe_max_entries.sound && !dedupe_ttl.value.is_zero() && dedupe_max_entries.value == 0 {
        let setting = &settings::DEDUPE_MAX_ENTRIES.setting;
        read.report.broken_rule(setting, "0", dedupe_max_entries.source);
    }
    if min_delay.sound && max_delay.sound && max_delay.value < min_delay.value {
        let shortest = named(&settings::RECONNECT_MIN_DELAY.setting, min_delay.source);
        read.report.refused(
            &settings::RECONNECT_MAX_DELAY.setting,
            &format!("{:?}", max_delay.value),
            max_delay.source,
            format_args!(
                "below {shortest}, which is {:?} ({})",
                min_delay.value,
                min_delay.source.name()
            ),
        );
    }
    if adapter.source != Source::Default && adapter.sound && !adapter.value.is_compiled_in() {
        let name = adapter.value.name();
        let why = format!("not part of this build; enable the feature `{name}` of tars-mqtt");
        read.report.refused(&settings::ADAPTER, name, adapter.source, why);
    }
    let login = Login {
        username,
        password,
        file: password_file,
    };
    let (credentials, password_file) = login.resolve(read, url_credentials);
    check_tls_files(read, [&ca_file, &cert_file, &key_file]);
    if let Some(broker) = &broker {
        warnings.extend(idle_tls_files(broker.transport, [&ca_file, &cert_file, &key_file]));
    }

    // Also where there are problems: a misspelt variable may be their reason.
    for warning in &warnings {
        tracing::warn!(problem = warning, "a setting is suspicious");
    }
    std::mem::take(&mut read.report).finish()?;
    let (Some(broker), Some(client_id)) = (broker, client_id) else {
        // Both are required and reported where missing.
        return Err(Error::new(
            tars_ports::ErrorKind::Internal,
            "a missing setting was not reported",
        ));
    };
    Ok(Config {
        broker,
        source_name: source_name.map_or_else(|| client_id.value.clone(), |name| name.value),
        client_id: client_id.value,
        credentials,
        password_file,
        keep_alive: keep_alive.value,
        health: health.value,
        heartbeat: heartbeat.value.then_some(interval.value),
        health_format: health_format.value,
        dedupe_ttl: dedupe_ttl.value,
        dedupe_max_entries: dedupe_max_entries.value,
        reconnect: reconnect.value,
        reconnect_min_delay: min_delay.value,
        reconnect_max_delay: max_delay.value,
        clean_session: clean_session.value,
        connect_retry: connect_retry.value,
        max_packet_size: max_packet_size.value,
        publish_timeout: publish_timeout.value,
        shutdown_timeout: shutdown_timeout.value,
        ca_file: ca_file.map(|file| file.value),
        cert_file: cert_file.map(|file| file.value),
        key_file: key_file.map(|file| file.value),
        adapter: adapter.value,
        connect_timeout: connect_timeout.value,
        max_inflight: max_inflight.value,
        outbox_messages: outbox_messages.value,
        outbox_bytes: outbox_bytes.value,
        inbound_messages: inbound_messages.value,
        inbound_bytes: inbound_bytes.value,
        max_subscriptions: max_subscriptions.value,
        warnings,
    })
}

fn unknown_variables(sources: &Sources) -> Vec<String> {
    let warning = |(name, source, nearest): (&str, Source, &str)| {
        let name = quoted(name);
        format!(
            "unknown variable {name} ({}); the nearest known name is {nearest}",
            source.name()
        )
    };
    sources.unknown().map(warning).collect()
}

fn broker(read: &mut Reading<'_>, code: Option<SecretString>) -> Option<(BrokerUrl, Option<Credentials>)> {
    let Some(given) = read.secret(&settings::URL, code) else {
        read.missing(&settings::URL);
        return None;
    };
    let text = given.value.expose_secret();
    match url::parse(text) {
        Ok(parsed) => Some(parsed),
        Err(reason) => {
            let why = format!("{reason}; expected {}", url::EXPECTED);
            read.report.refused(&settings::URL, text, given.source, why);
            None
        }
    }
}

fn client_id(read: &mut Reading<'_>, code: Option<String>) -> Option<Given<String>> {
    let Some(given) = read.text(&settings::CLIENT_ID, code) else {
        read.missing(&settings::CLIENT_ID);
        return None;
    };
    if !is_mqtt_text(&given.value) {
        read.report
            .broken_rule(&settings::CLIENT_ID, &given.value, given.source);
        return None;
    }
    Some(given)
}

/// Health and heartbeat have the client id as the last level of their topics.
fn check_topic_level(read: &mut Reading<'_>, id: &Given<String>) {
    if health_topic(&id.value).is_err() || keepalive_topic(&id.value).is_err() {
        let why = "with health or heartbeat on it is one level of a topic: expected neither `/`, `+` nor `#`, and \
                   room for `system/keepalive/` before it";
        read.report.refused(&settings::CLIENT_ID, &id.value, id.source, why);
    }
}

const TLS_FILES: [&Setting; 3] = [&settings::CA_FILE, &settings::CERT_FILE, &settings::KEY_FILE];

fn check_tls_files(read: &mut Reading<'_>, files: [&Option<Given<PathBuf>>; 3]) {
    for (setting, file) in TLS_FILES.into_iter().zip(files) {
        if let Some(file) = file
            && let Err(reason) = files::check_pem(&file.value)
        {
            let why = format!("{reason}; expected {}", setting.rule);
            read.report
                .refused(setting, &file.value.display().to_string(), file.source, why);
        }
    }
    let [_, cert, key] = files;
    let (alone, setting, other) = match (cert, key) {
        (Some(cert), None) => (cert, &settings::CERT_FILE, &settings::KEY_FILE),
        (None, Some(key)) => (key, &settings::KEY_FILE, &settings::CERT_FILE),
        _ => return,
    };
    let why = format!("expected {} as well: certificate and key go together", other.name());
    read.report
        .refused(setting, &alone.value.display().to_string(), alone.source, why);
}

/// Not an error: a fleet may set one CA file for all services.
fn idle_tls_files(transport: Transport, files: [&Option<Given<PathBuf>>; 3]) -> Vec<String> {
    if transport.is_encrypted() {
        return Vec::new();
    }
    let given = TLS_FILES
        .into_iter()
        .zip(files)
        .filter_map(|(setting, file)| Some((setting, file.as_ref()?)));
    let warning = |(setting, file): (&Setting, &Given<PathBuf>)| {
        let name = named(setting, file.source);
        format!(
            "{name} ({}) has no effect: {}:// is not encrypted",
            file.source.name(),
            transport.scheme()
        )
    };
    given.map(warning).collect()
}
