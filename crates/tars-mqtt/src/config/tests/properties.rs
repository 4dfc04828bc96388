//! For any value: taken or refused without a panic, and no password shows.

use std::time::Duration;

use proptest::prelude::*;
use tars_ports::ErrorKind;

use super::with;
use crate::config::Config;
use crate::config::settings::VARIABLES;

proptest! {
    #[test]
    fn any_value_of_any_variable_is_taken_or_refused(index in 0..VARIABLES.len(), value in "\\PC{0,20}") {
        let name = VARIABLES[index].variable.unwrap();
        // A path is opened: only ones that cannot be there.
        let value = if name.ends_with("_FILE") { format!("no/such/{value}") } else { value };
        if let Err(error) = with(&[(name, &value)]) {
            prop_assert_eq!(error.kind(), ErrorKind::Config);
        }
        if let Err(error) = Config::builder().vars([(name, &value)]).build() {
            prop_assert_eq!(error.kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn any_number_of_seconds_is_taken_or_refused(seconds in any::<f64>()) {
        let value = seconds.to_string();
        for name in ["MQTT_DEDUPE_TTL", "MQTT_PUBLISH_TIMEOUT", "MQTT_KEEPALIVE", "MQTT_MAX_PACKET_SIZE"] {
            let _ = with(&[(name, &value)]);
        }
    }

    #[test]
    fn no_password_shows(before in "\\PC{0,6}", after in "\\PC{0,6}", port in "[0-9x:/?#@]{0,5}") {
        let secret = format!("{before}hunter2{after}");
        let url = format!("mqtt://user:{secret}@host:{port}");
        let builders = [
            Config::builder().url(url.as_str()).client_id("a"),
            Config::builder().url(url.as_str()).client_id(""),
            Config::builder().vars([("MQTT_URL", &url)]),
            Config::builder().url("mqtt://u@h").client_id("a").password(secret.as_str()).keepalive(Duration::ZERO),
            Config::builder().url("mqtt://u@h").client_id("a").password(secret.as_str()),
            Config::builder().vars([("MQTT_PASSWORD", &secret), ("MQTT_CLIENT_ID", &"a".to_owned())]),
            Config::builder().vars([("MQTT_PASWORD", &secret)]),
        ];
        for builder in builders {
            let mut text = format!("{builder:?}");
            match builder.build() {
                Ok(config) => text += &format!("{config:?} {config:#?}"),
                Err(error) => text += &format!("{error:?} {error} {error:#?}"),
            }
            prop_assert!(!text.contains("hunter2"), "{}", text);
        }
    }
}
