//! What paho writes into the log of the process: never a password.

use std::sync::Mutex;

use log::{LevelFilter, Log, Metadata, Record};
use tars_ports::Credentials;
use tars_testkit::scripted::ScriptedBroker;

use crate::{alone, attempt, options, soon};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collector;

impl Log for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("paho_mqtt") {
            let mut lines = LINES.lock().unwrap();
            lines.push(format!("{} {}: {}", record.level(), record.target(), record.args()));
        }
    }

    fn flush(&self) {}
}

#[test]
fn no_password_is_logged_at_any_level_and_the_c_library_is_silent() {
    alone(
        "logs::no_password_is_logged_at_any_level_and_the_c_library_is_silent",
        || async {
            log::set_logger(&Collector).unwrap();
            let broker = ScriptedBroker::start().await;
            let mut options = options(broker.port());
            options.credentials = Some(Credentials::new("me", Some("geheim".into())));
            log::set_max_level(LevelFilter::Trace);
            let (connected, mut peer) = tokio::join!(attempt(&options), async {
                let mut peer = broker.accept().await;
                peer.expect_connect_and_accept(false).await;
                peer
            });
            let connected = connected.unwrap();
            soon(connected.connection.disconnect()).await.unwrap();
            peer.expect_closed().await;
            // It was put back, and something was heard.
            assert_eq!(log::max_level(), LevelFilter::Trace);
            log::set_max_level(LevelFilter::Off);
            let lines = LINES.lock().unwrap();
            assert!(lines.iter().any(|line| line.contains("Disconnecting")), "{lines:?}");
            let bytes = format!("{:?}", b"geheim");
            let bytes = bytes.trim_matches(['[', ']']);
            for line in lines.iter() {
                assert!(!line.contains("geheim") && !line.contains(bytes), "{line}");
                assert!(!line.contains("paho_mqtt_c"), "{line}");
            }
        },
    );
}
