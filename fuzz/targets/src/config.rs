//! URLs, variables and `.env` files: any text is read or refused in words, and no password is
//! in what can be shown.

use tars_mqtt::{BrokerUrl, Config};

#[path = "../../../crates/tars-mqtt/src/config/env_file.rs"]
#[allow(dead_code)]
mod env_file;

/// No part of any other text.
const PASSWORD: &str = "hunter2-geheim";

/// Lines: a URL, then variables as `NAME=value`.
pub fn run(bytes: &[u8]) {
    env_file::parse(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let url = lines.next().unwrap_or_default();
    read(url);
    with_password(url);

    let variables: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once('='))
        // A file that is named is opened.
        .filter(|(name, _)| !name.ends_with("_FILE"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .chain([("MQTT_PASSWORD".to_owned(), PASSWORD.to_owned())])
        .collect();
    match Config::builder().vars(variables).build() {
        Ok(config) => {
            config.validate().expect("what was built is valid");
            shown(&format!("{config:?}"));
        }
        Err(error) => shown(&format!("{error} {error:?}")),
    }
}

fn read(url: &str) {
    match BrokerUrl::parse(url) {
        Ok((broker, _)) => {
            assert!(broker.port > 0 && !broker.host.is_empty(), "{broker:?}");
            let again: BrokerUrl = broker.to_string().parse().expect("what is shown can be read");
            assert_eq!(again, broker);
        }
        Err(error) => assert!(error.to_string().contains("expected mqtt://"), "{error}"),
    }
}

/// A password, wherever the rest of the URL goes wrong.
fn with_password(text: &str) {
    let (user, address) = text.split_once('@').unwrap_or(("user", text));
    let url = format!("mqtt://{user}:{PASSWORD}@{address}");
    match BrokerUrl::parse(&url) {
        Ok((broker, credentials)) => shown(&format!("{broker} {broker:?} {credentials:?}")),
        Err(error) => shown(&format!("{error} {error:?}")),
    }
    match Config::builder().url(url).client_id("fuzz").build() {
        Ok(config) => shown(&format!("{config:?}")),
        Err(error) => shown(&format!("{error} {error:?}")),
    }
}

fn shown(text: &str) {
    assert!(!text.contains(PASSWORD), "{text}");
}
