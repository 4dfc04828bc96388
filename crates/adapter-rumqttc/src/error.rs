//! What this adapter reports, in the words of [`ErrorKind`]: one function for each
//! thing that goes wrong, so that the sentences stand side by side.

use std::io;
use std::time::Duration;

use rumqttc::mqttbytes::Error as CodecError;
use rumqttc::mqttbytes::v4::ConnectReturnCode;
use tars_ports::{ConnectOptions, EndReason, Error, ErrorKind, Fate, Message, Refusal};

pub(crate) fn no_connack(options: &ConnectOptions, what: &str) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!(
            "{} answered CONNECT with {what}; check that it is an MQTT broker on a port without TLS",
            options.address()
        ),
    )
}

pub(crate) fn refused(options: &ConnectOptions, refusal: Refusal) -> Error {
    let address = options.address();
    let client = &options.client_id;
    let what = match refusal {
        Refusal::ProtocolVersion => format!("{address} does not speak MQTT 3.1.1"),
        Refusal::ClientId => format!("{address} does not accept the client id `{client}`"),
        Refusal::Unavailable => format!("{address} cannot serve at present"),
        Refusal::BadCredentials => format!("{address} refused user name or password of client `{client}`"),
        // Mosquitto says this for a wrong password as well.
        Refusal::NotAuthorized => {
            format!("client `{client}` is not authorised to connect to {address}; check user name and password")
        }
        other => format!("{address} refused the connection: {other:?}"),
    };
    Error::new(ErrorKind::Refused(refusal), what)
}

pub(crate) fn refusal(code: ConnectReturnCode) -> Option<Refusal> {
    match code {
        ConnectReturnCode::Success => None,
        ConnectReturnCode::RefusedProtocolVersion => Some(Refusal::ProtocolVersion),
        ConnectReturnCode::BadClientId => Some(Refusal::ClientId),
        ConnectReturnCode::ServiceUnavailable => Some(Refusal::Unavailable),
        ConnectReturnCode::BadUserNamePassword => Some(Refusal::BadCredentials),
        ConnectReturnCode::NotAuthorized => Some(Refusal::NotAuthorized),
    }
}

pub(crate) fn lost(address: &str, cause: io::Error) -> Error {
    Error::new(ErrorKind::ConnectionLost, format!("the connection to {address} broke")).with_source(cause)
}

pub(crate) fn closed_by_broker(address: &str) -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        format!("the broker at {address} closed the connection; its log says why"),
    )
}

pub(crate) fn silent(address: &str, patience: Duration) -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        format!("the broker at {address} stopped answering: nothing came within {patience:?} of a PINGREQ"),
    )
}

pub(crate) fn malformed(address: &str, cause: CodecError) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("{address} sent a packet that is not MQTT 3.1.1"),
    )
    .with_source(cause)
}

pub(crate) fn unexpected(address: &str, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Protocol, format!("{address} broke the protocol: {what}"))
}

pub(crate) fn incoming_too_large(address: &str, size: usize, limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("{address} sent a packet of {size} bytes, above the limit of {limit}; raise the maximum packet size"),
    )
}

pub(crate) fn outgoing_too_large(message: &Message, limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!(
            "publish to {}: the packet has {} bytes, above the limit of {limit}",
            message.topic.as_str(),
            message.packet_size()
        ),
    )
    .with_fate(Fate::NotSent)
}

pub(crate) fn filter_too_large(filter: &str, limit: usize) -> Error {
    let len = filter.len();
    Error::new(
        ErrorKind::TooLarge,
        format!("a filter of {len} bytes fits no packet within the limit of {limit}"),
    )
}

pub(crate) fn not_connected(address: &str) -> Error {
    Error::new(
        ErrorKind::NotConnected,
        format!("this connection to {address} has ended"),
    )
}

/// What an end means to those who still waited for an answer.
pub(crate) fn ended(address: &str, reason: &EndReason) -> Error {
    match reason {
        EndReason::Lost(cause) => Error::new(
            ErrorKind::ConnectionLost,
            format!("the connection to {address} ended before the broker answered"),
        )
        .with_source(cause.clone()),
        _ => Error::new(
            ErrorKind::ConnectionLost,
            format!("the connection to {address} was ended before the broker answered"),
        ),
    }
}

pub(crate) fn no_answer(address: &str, packet: &str, timeout: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("{address} did not answer {packet} within {timeout:?}"),
    )
}

pub(crate) fn disconnect_timeout(address: &str, timeout: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("DISCONNECT could not be written to {address} within {timeout:?}; the will may speak"),
    )
}

pub(crate) fn ids_exhausted(address: &str) -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        format!("all 65,535 packet ids to {address} wait for an answer"),
    )
}

pub(crate) fn internal(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Internal, what)
}
