//! A whole session with everything heard that is logged at TRACE, by `tracing` and by `log`: no
//! password in any of it, nor in an error, nor in `Debug`, in whatever form.
//!
//! The one test has the process to itself, because it listens to all of it.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use tars_mqtt::{Adapter, Client, Config, ConfigBuilder, Context, Credentials, QoS, State};
use tars_testkit::certificates::Certificates;
use tars_testkit::mosquitto::{Listener, Mosquitto};
use tracing_subscriber::filter::LevelFilter as TracingLevel;

const PATIENCE: Duration = Duration::from_secs(30);
const USER: &str = "stt";
// Without a colon, which the file of mosquitto_passwd cannot take.
const RIGHT: &str = "p@ss/w\u{f6}rd;1%";
const WRONG: &str = "wr0ng&S3cret";

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn add(&self, text: &str) {
        let mut heard = self.0.lock().unwrap();
        heard.extend_from_slice(text.as_bytes());
        heard.push(b'\n');
    }
}

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.add(&format!("{} {}: {}", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// Every form that it might show in.
fn forms(password: &str) -> Vec<String> {
    let bytes = password.as_bytes();
    let encoded = |plain: fn(u8) -> bool| -> String {
        let one = |&byte: &u8| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        bytes.iter().map(one).collect()
    };
    let hex = |separator: &str, form: fn(u8) -> String| {
        let all: Vec<_> = bytes.iter().map(|&byte| form(byte)).collect();
        all.join(separator)
    };
    let mut forms = vec![
        password.to_owned(),
        format!("{password:?}").trim_matches('"').to_owned(),
        encoded(|byte| byte.is_ascii_alphanumeric()),
        encoded(|byte| byte.is_ascii_graphic() && !b"@/;%".contains(&byte)),
        hex("", |byte| format!("{byte:02x}")),
        hex("", |byte| format!("{byte:02X}")),
        hex(" ", |byte| format!("{byte:02x}")),
        hex(", ", |byte| byte.to_string()),
        String::from_utf8(bytes.escape_ascii().collect()).unwrap(),
    ];
    // Base64 at each of its three alignments, without the characters that depend on neighbours.
    for before in 0..3 {
        let mut shifted = vec![0; before];
        shifted.extend_from_slice(bytes);
        let text = base64(&shifted);
        let first = [0, 2, 3][before];
        let whole = (shifted.len() * 8) / 6;
        forms.push(text[first..whole].to_owned());
    }
    forms.retain(|form| form.len() > 4);
    forms
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = [0; 3];
        bits[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for digit in 0..4 {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

#[test]
fn the_forms_are_what_they_should_be() {
    assert_eq!(base64(b"geheim"), "Z2VoZWlt");
    let forms = forms("geheim");
    for form in ["geheim", "Z2VoZWlt", "67656865696d", "103, 101, 104, 101, 105, 109"] {
        assert!(forms.contains(&form.to_owned()), "{form}: {forms:?}");
    }
}

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Connects with a wrong password and the right one, works, is cut off and comes back.
async fn session(heard: &Heard, broker: &mut Mosquitto, config: ConfigBuilder) {
    for password in [WRONG, RIGHT] {
        let config = config.clone().username(USER).password(password).build().unwrap();
        heard.add(&format!("{config:?} {config:#?} {:?}", config.credentials));
        let client = Client::new(config).unwrap();
        let connected = within("connecting", client.connect()).await;
        assert_eq!(connected.is_ok(), password == RIGHT, "{connected:?}");
        heard.add(&format!("{connected:?} {client:?}"));
        if let Err(error) = connected {
            heard.add(&format!("{error} {error:#?}"));
            continue;
        }
        client.subscribe("a/b", async |_: Context| {}).await.unwrap();
        client.publish("a/b", "payload").qos(QoS::AtLeastOnce).await.unwrap();
        let mut events = client.lifecycle();
        let mut state = client.state();
        broker.restart().await.unwrap();
        within("the loss", async {
            while !matches!(events.next().await, Some(tars_mqtt::LifecycleEvent::Connected { .. })) {}
        })
        .await;
        within("connected again", state.until(State::Connected)).await;
        heard.add(&format!("{:?}", client.stats()));
        client.shutdown().await;
    }
    // A URL that is refused, and a callback.
    let url = format!("mqtt://{USER}:{WRONG}@127.0.0.1:0?x");
    let error = config.clone().url(url).build().unwrap_err();
    heard.add(&format!("{error} {error:?}"));
    let builder = Client::builder(config.build().unwrap());
    let client = builder
        .credentials(async || Ok(Credentials::new(USER, Some(WRONG.into()))))
        .build()
        .unwrap();
    let error = within("connecting", client.connect()).await.unwrap_err();
    heard.add(&format!("{error} {error:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_shows_in_a_whole_session() {
    let heard = Heard::default();
    let writer = heard.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(TracingLevel::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    log::set_logger(Box::leak(Box::new(heard.clone()))).unwrap();
    log::set_max_level(LevelFilter::Trace);

    let certificates = Certificates::make();
    let pair = certificates.server();
    let secure = || Listener::new().tls(&pair.cert, &pair.key);
    let builder = Mosquitto::builder()
        .password(USER, RIGHT)
        .listener(secure())
        .listener(Listener::new().websocket())
        .listener(secure().websocket());
    let mut broker = builder.start().await.unwrap_or_else(|error| panic!("{error}"));
    let urls = [
        broker.url(),
        format!("mqtts://localhost:{}", broker.listener_port(0)),
        format!("ws://localhost:{}", broker.listener_port(1)),
        format!("wss://localhost:{}", broker.listener_port(2)),
    ];
    for adapter in [Adapter::Rumqttc, Adapter::Paho]
        .into_iter()
        .filter(|adapter| adapter.is_compiled_in())
    {
        for url in &urls {
            let config = Config::builder()
                .url(url.as_str())
                .client_id("svc")
                .adapter(adapter)
                .ca_file(certificates.ca())
                .reconnect_min_delay(Duration::from_millis(100))
                .reconnect_max_delay(Duration::from_millis(500));
            session(&heard, &mut broker, config).await;
        }
    }
    let heard = String::from_utf8_lossy(&heard.0.lock().unwrap()).into_owned();
    for expected in ["reconnected", "subscribing", "TRACE", "TLS handshake done"] {
        assert!(heard.contains(expected), "`{expected}` was not heard: too little was");
    }
    for password in [RIGHT, WRONG] {
        for form in forms(password) {
            let line = heard.lines().find(|line| line.contains(&form));
            assert_eq!(line, None, "`{form}`");
        }
    }
}
