//! Between the words of the ports and those of paho. Nothing here keeps state.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use paho_mqtt::{ConnectOptionsBuilder, CreateOptions, CreateOptionsBuilder, MqttVersion, QoS as PahoQoS};
use secrecy::ExposeSecret;
use tars_contracts::TopicName;
use tars_ports::{ConnectOptions, Delivery, Error, ErrorKind, Message, QoS, Refused};

/// MQTT strings carry their length in two bytes.
const MAX_STRING: usize = 65_535;
/// Above what the window and the driver's own bounds ever let through: paho's
/// limits never bind.
const PAHO_BUFFER: i32 = 1 << 20;

pub(crate) fn to_paho(qos: QoS) -> PahoQoS {
    match qos {
        QoS::AtMostOnce => PahoQoS::AtMostOnce,
        QoS::AtLeastOnce => PahoQoS::AtLeastOnce,
        QoS::ExactlyOnce => PahoQoS::ExactlyOnce,
    }
}

pub(crate) fn from_paho(qos: PahoQoS) -> QoS {
    match qos {
        PahoQoS::AtMostOnce => QoS::AtMostOnce,
        PahoQoS::AtLeastOnce => QoS::AtLeastOnce,
        PahoQoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

/// A code of SUBACK; `None` where it is none (MQTT 3.1.1 section 3.9.3).
pub(crate) fn granted(code: i32) -> Option<Result<QoS, Refused>> {
    match code {
        0x80..=0xff => Some(Err(Refused::default())),
        _ => QoS::from_u8(u8::try_from(code).ok()?).map(Ok),
    }
}

/// The payload is copied: paho wants a vector of its own.
pub(crate) fn publish(message: &Message) -> paho_mqtt::Message {
    let make = if message.retain {
        paho_mqtt::Message::new_retained
    } else {
        paho_mqtt::Message::new
    };
    make(message.topic.as_str(), message.payload.to_vec(), to_paho(message.qos))
}

/// Lends paho's copy of the payload out, instead of copying it.
struct Payload(paho_mqtt::Message);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.0.payload()
    }
}

/// `None` where the topic is no topic name. DUP is not to be had.
pub(crate) fn delivery(message: paho_mqtt::Message) -> Option<Delivery> {
    // Asked for a topic that is not UTF-8 it panics: the screen lets none through.
    let topic = TopicName::new(message.topic()).ok()?;
    let qos = from_paho(message.qos());
    let retain = message.retained();
    let mut delivery = Delivery::new(topic, Bytes::from_owner(Payload(message)), qos);
    delivery.retain = retain;
    Some(delivery)
}

/// Whole seconds as CONNECT carries them. Rounded up; paho makes a second of zero,
/// which is meant as "never".
pub(crate) fn keep_alive(options: &ConnectOptions) -> Duration {
    let keep_alive = options.keep_alive;
    let seconds = keep_alive.as_secs() + u64::from(keep_alive.subsec_nanos() > 0);
    let seconds = if seconds == 0 { u16::MAX.into() } else { seconds };
    Duration::from_secs(seconds.min(u16::MAX.into()))
}

/// The address is the relay's: paho looks no name up, which it would do under the lock of
/// the whole process.
pub(crate) fn create(options: &ConnectOptions, address: SocketAddr) -> CreateOptions {
    CreateOptionsBuilder::new()
        .server_uri(format!("tcp://{address}"))
        .client_id(options.client_id.as_str())
        .persistence(None)
        .mqtt_version(MqttVersion::V3_1_1)
        .max_buffered_messages(PAHO_BUFFER)
        .send_while_disconnected(false)
        .finalize()
}

/// What CONNECT says.
pub(crate) fn connect(options: &ConnectOptions) -> Result<paho_mqtt::ConnectOptions, Error> {
    check("the client id", options.client_id.as_bytes(), Text::Utf8)?;
    let mut connect = ConnectOptionsBuilder::with_mqtt_version(MqttVersion::V3_1_1);
    connect
        .keep_alive_interval(keep_alive(options))
        .clean_session(options.clean_session)
        .connect_timeout(options.timeout)
        .max_inflight(PAHO_BUFFER);
    if let Some(will) = &options.last_will {
        check("the last will's payload", &will.payload, Text::Bytes)?;
        connect.will_message(publish(will));
    }
    if let Some(credentials) = &options.credentials {
        let password = credentials
            .password
            .as_ref()
            .map_or("", |secret| secret.expose_secret());
        // MQTT 3.1.1 section 3.1.2.9 forbids it, and paho would send it.
        if credentials.username.is_empty() && !password.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "adapter-paho cannot send a password without a user name",
            ));
        }
        check("the user name", credentials.username.as_bytes(), Text::Utf8)?;
        check("the password", password.as_bytes(), Text::Bytes)?;
        if !credentials.username.is_empty() {
            connect.user_name(credentials.username.as_str());
        }
        if !password.is_empty() {
            connect.password(password);
        }
    }
    Ok(connect.finalize())
}

#[derive(PartialEq)]
enum Text {
    Utf8,
    Bytes,
}

fn check(what: &str, value: &[u8], text: Text) -> Result<(), Error> {
    if value.len() > MAX_STRING {
        return Err(Error::new(
            ErrorKind::Config,
            format!("{what} is longer than the {MAX_STRING} bytes that CONNECT can carry"),
        ));
    }
    // Paho panics on it.
    if text == Text::Utf8 && value.contains(&0) {
        return Err(Error::new(
            ErrorKind::Config,
            format!("{what} contains U+0000, which MQTT does not allow"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tars_ports::Credentials;

    use super::*;

    #[test]
    fn keep_alive_is_rounded_up_and_never_wraps() {
        let mut options = ConnectOptions::new("h", 1, "c");
        for (given, sent) in [(1_000, 1), (500, 1), (1_500, 2), (70_000_000, 65_535), (0, 65_535)] {
            options.keep_alive = Duration::from_millis(given);
            assert_eq!(keep_alive(&options), Duration::from_secs(sent));
        }
    }

    #[test]
    fn what_connect_cannot_carry_is_refused_without_showing_it() {
        let mut options = ConnectOptions::new("h", 1, "c".repeat(65_536));
        assert_eq!(connect(&options).expect_err("too long").kind(), ErrorKind::Config);
        options.client_id = "a\0b".into();
        assert_eq!(connect(&options).expect_err("U+0000").kind(), ErrorKind::Config);
        options.client_id = "c".into();
        options.credentials = Some(Credentials::new("", Some("hunter2".into())));
        let error = connect(&options).expect_err("no user name");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(!format!("{error:?}").contains("hunter2"));
        options.credentials = Some(Credentials::new("a\0b", None));
        assert_eq!(connect(&options).expect_err("U+0000").kind(), ErrorKind::Config);
    }

    #[test]
    fn a_suback_code_is_a_qos_a_refusal_or_nothing() {
        assert_eq!(granted(2), Some(Ok(QoS::ExactlyOnce)));
        assert_eq!(granted(0x80), Some(Err(Refused::default())));
        assert_eq!(granted(0x87), Some(Err(Refused::default())));
        assert_eq!((granted(3), granted(-1), granted(0x1000)), (None, None, None));
    }

    #[test]
    fn a_payload_is_lent_and_not_copied() {
        let message = paho_mqtt::Message::new("a/b", vec![7; 100], PahoQoS::ExactlyOnce);
        let before = message.payload().as_ptr();
        let delivery = delivery(message).expect("a topic name");
        assert_eq!(delivery.payload.as_ptr(), before);
        assert_eq!((delivery.topic.as_str(), delivery.qos), ("a/b", QoS::ExactlyOnce));
    }
}
