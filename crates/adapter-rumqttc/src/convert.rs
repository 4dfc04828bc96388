//! Between the words of the ports and those of rumqttc's codec. Nothing here
//! keeps state.

use bytes::Bytes;
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{Connect, LastWill, Login, Publish, SubscribeReasonCode};
use secrecy::ExposeSecret;
use tars_ports::{ConnectOptions, Error, ErrorKind, Message, QoS, Refused};

/// MQTT strings carry their length in two bytes; the codec would cut the number, not the string.
const MAX_STRING: usize = 65_535;

pub(crate) fn to_wire(qos: QoS) -> WireQoS {
    match qos {
        QoS::AtMostOnce => WireQoS::AtMostOnce,
        QoS::AtLeastOnce => WireQoS::AtLeastOnce,
        QoS::ExactlyOnce => WireQoS::ExactlyOnce,
    }
}

pub(crate) fn from_wire(qos: WireQoS) -> QoS {
    match qos {
        WireQoS::AtMostOnce => QoS::AtMostOnce,
        WireQoS::AtLeastOnce => QoS::AtLeastOnce,
        WireQoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

pub(crate) fn granted(code: SubscribeReasonCode) -> Result<QoS, Refused> {
    match code {
        SubscribeReasonCode::Success(qos) => Ok(from_wire(qos)),
        SubscribeReasonCode::Failure => Err(Refused::default()),
    }
}

/// The payload is shared, not copied; the codec copies it into the output.
pub(crate) fn publish(message: &Message, packet_id: u16, dup: bool) -> Publish {
    Publish {
        dup,
        qos: to_wire(message.qos),
        retain: message.retain,
        topic: message.topic.as_str().to_owned(),
        pkid: packet_id,
        payload: message.payload.clone(),
    }
}

/// Whole seconds as CONNECT carries them. Rounded up: 0 would turn keepalive off at the broker.
pub(crate) fn keep_alive_seconds(options: &ConnectOptions) -> u16 {
    let seconds = options.keep_alive.as_secs() + u64::from(options.keep_alive.subsec_nanos() > 0);
    u16::try_from(seconds).unwrap_or(u16::MAX)
}

pub(crate) fn connect(options: &ConnectOptions) -> Result<Connect, Error> {
    check("the client id", options.client_id.len())?;
    let mut connect = Connect::new(options.client_id.as_str());
    connect.keep_alive = keep_alive_seconds(options);
    connect.clean_session = options.clean_session;
    if let Some(will) = &options.last_will {
        check("the last will's payload", will.payload.len())?;
        connect.last_will = Some(LastWill {
            topic: will.topic.as_str().to_owned(),
            message: Bytes::clone(&will.payload),
            qos: to_wire(will.qos),
            retain: will.retain,
        });
    }
    if let Some(credentials) = &options.credentials {
        let password = credentials
            .password
            .as_ref()
            .map_or("", |secret| secret.expose_secret());
        // The codec leaves an empty user name out, and a password without one
        // breaks the protocol (MQTT 3.1.1 section 3.1.2.9).
        if credentials.username.is_empty() && !password.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "adapter-rumqttc cannot send a password without a user name",
            ));
        }
        check("the user name", credentials.username.len())?;
        check("the password", password.len())?;
        connect.login = Some(Login::new(credentials.username.as_str(), password));
    }
    Ok(connect)
}

fn check(what: &str, len: usize) -> Result<(), Error> {
    if len > MAX_STRING {
        return Err(Error::new(
            ErrorKind::Config,
            format!("{what} is longer than the {MAX_STRING} bytes that CONNECT can carry"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tars_ports::Credentials;

    use super::*;

    #[test]
    fn keep_alive_is_rounded_up_and_never_wraps() {
        let mut options = ConnectOptions::new("h", 1, "c");
        for (given, sent) in [(1_000, 1), (500, 1), (1_500, 2), (70_000_000, u16::MAX), (0, 0)] {
            options.keep_alive = Duration::from_millis(given);
            assert_eq!(keep_alive_seconds(&options), sent);
        }
    }

    #[test]
    fn what_connect_cannot_carry_is_refused_without_showing_it() {
        let mut options = ConnectOptions::new("h", 1, "c".repeat(65_536));
        assert_eq!(connect(&options).expect_err("too long").kind(), ErrorKind::Config);
        options.client_id = "c".into();
        options.credentials = Some(Credentials::new("", Some("hunter2".into())));
        let error = connect(&options).expect_err("no user name");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
