//! What this adapter reports, in the words of [`ErrorKind`]: one function for each
//! thing that goes wrong, so that the sentences stand side by side.

use std::io;
use std::time::Duration;

use paho_mqtt::{ConnectReturnCode, Error as PahoError};
use tars_net::error::{closed_before, connect_timeout};
use tars_ports::{ConnectOptions, EndReason, Error, ErrorKind, Fate, Message, Refusal};

use crate::screen::Breach;
use crate::shared::Verdict;

/// An attempt that failed, as far as paho tells; `broken` is what the socket to the
/// broker said.
pub(crate) fn connect(
    options: &ConnectOptions,
    cause: PahoError,
    certificate_asked: bool,
    broken: Option<io::Error>,
) -> Error {
    let name = options.address();
    match cause {
        PahoError::ConnectReturn(code) => match refusal(code) {
            Some(refusal) => refused(options, refusal),
            None => internal("paho took an accepting CONNACK for a failure"),
        },
        PahoError::TcpConnectTimeout | PahoError::Timeout => {
            connect_timeout(options, "waiting for CONNACK").with_source(cause)
        }
        PahoError::TcpConnectCompletionFailure | PahoError::SocketError(_) if options.transport.is_encrypted() => {
            closed_before("CONNACK", options, certificate_asked, broken)
        }
        // "TCP connect completion failure" means that CONNECT was sent and no CONNACK read.
        PahoError::TcpConnectCompletionFailure | PahoError::SocketError(_) => Error::new(
            ErrorKind::ConnectionLost,
            format!(
                "{name} closed the connection before CONNACK, or answered with something else; check that it is an \
                 MQTT 3.1.1 broker on a port without TLS, and its log"
            ),
        )
        .with_source(cause),
        // A code above 5 reaches us without its number.
        PahoError::Failure => Error::new(
            ErrorKind::Protocol,
            format!("{name} refused the connection with a code that MQTT 3.1.1 does not have"),
        ),
        PahoError::BadUtf8String | PahoError::Nul(_) => Error::new(
            ErrorKind::Config,
            "client id, user name or password is not what MQTT allows",
        ),
        other => internal("paho could not connect").with_source(other),
    }
}

fn refused(options: &ConnectOptions, refusal: Refusal) -> Error {
    let address = options.address();
    let client = &options.client_id;
    let what = match refusal {
        Refusal::ProtocolVersion => format!("{address} does not speak MQTT 3.1.1"),
        Refusal::ClientId => format!("{address} does not accept the client id `{client}`"),
        Refusal::Unavailable => format!("{address} cannot serve at present"),
        Refusal::BadCredentials => format!("{address} refused user name or password of client `{client}`"),
        Refusal::NotAuthorized => format!("client `{client}` is not authorised to connect to {address}"),
        other => format!("{address} refused the connection: {other:?}"),
    };
    Error::new(ErrorKind::Refused(refusal), what)
}

fn refusal(code: ConnectReturnCode) -> Option<Refusal> {
    match code {
        ConnectReturnCode::Accepted => None,
        ConnectReturnCode::UnacceptableProtocolVersion => Some(Refusal::ProtocolVersion),
        ConnectReturnCode::IdentifierRejected => Some(Refusal::ClientId),
        ConnectReturnCode::ServerUnavailable => Some(Refusal::Unavailable),
        ConnectReturnCode::BadUserNameOrPassword => Some(Refusal::BadCredentials),
        ConnectReturnCode::NotAuthorized => Some(Refusal::NotAuthorized),
    }
}

pub(crate) fn verdict(address: &str, verdict: Verdict) -> Error {
    match verdict {
        Verdict::Lost => Error::new(
            ErrorKind::ConnectionLost,
            format!(
                "the connection to {address} is lost: the broker closed it, the network broke, or a PINGREQ stayed \
                 unanswered (paho does not tell which); the broker's log may"
            ),
        ),
        Verdict::Lagging { messages, bytes } => Error::new(
            ErrorKind::ConnectionLost,
            format!(
                "lagging: {messages} messages of {bytes} bytes from {address} waited to be taken, above the inbound \
                 budget, and paho cannot pause reading; take them faster, raise the budget, or use adapter-rumqttc"
            ),
        ),
        Verdict::Breach(breach) => self::breach(address, breach),
    }
}

fn breach(address: &str, breach: Breach) -> Error {
    match breach {
        Breach::TooLarge { size, limit } => Error::new(
            ErrorKind::TooLarge,
            format!(
                "{address} sent a packet of {size} bytes, above the limit of {limit}; raise the maximum packet size"
            ),
        ),
        Breach::NoConnack => unexpected(address, "something else in place of CONNACK"),
        Breach::Protocol(what) => unexpected(address, what),
    }
}

/// A breach before the broker has accepted.
pub(crate) fn no_connack(options: &ConnectOptions, breach: Breach) -> Error {
    let what = match breach {
        Breach::TooLarge { size, .. } => format!("a packet of {size} bytes"),
        Breach::NoConnack => "something else".to_owned(),
        Breach::Protocol(what) => what.to_owned(),
    };
    Error::new(
        ErrorKind::Protocol,
        format!(
            "{} answered CONNECT with {what}; check that it is an MQTT broker on a port without TLS",
            options.address()
        ),
    )
}

pub(crate) fn unexpected(address: &str, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Protocol, format!("{address} broke the protocol: {what}"))
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

/// To those who waited for an answer when the end came.
pub(crate) fn unanswered(address: &str) -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        format!("the connection to {address} ended before the broker answered"),
    )
}

/// What an end means to those whose message or question had not left.
pub(crate) fn ended(address: &str, reason: &EndReason) -> Error {
    match reason {
        EndReason::Lost(cause) => unanswered(address).with_source(cause.clone()),
        _ => unanswered(address),
    }
}

/// A publish that paho did not take.
pub(crate) fn not_taken(address: &str, cause: PahoError) -> Error {
    let what = format!("paho did not take a publish to {address}: {cause}");
    let kind = match cause {
        PahoError::Publish(..) | PahoError::Disconnected => ErrorKind::ConnectionLost,
        _ => ErrorKind::Internal,
    };
    // The cause holds the message with its payload, so that only its text goes on.
    Error::new(kind, what).with_fate(Fate::NotSent)
}

/// A publish that paho took and gave up.
pub(crate) fn unconfirmed(address: &str, cause: PahoError) -> Error {
    unanswered(address).with_source(cause).with_fate(Fate::Unknown)
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

pub(crate) fn internal(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Internal, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_name() {
        let options = ConnectOptions::new("h", 1, "c");
        for (code, kind) in [
            (1, ErrorKind::Refused(Refusal::ProtocolVersion)),
            (2, ErrorKind::Refused(Refusal::ClientId)),
            (3, ErrorKind::Refused(Refusal::Unavailable)),
            (4, ErrorKind::Refused(Refusal::BadCredentials)),
            (5, ErrorKind::Refused(Refusal::NotAuthorized)),
            (6, ErrorKind::Protocol),
        ] {
            let cause = PahoError::from_connect_return_code(code);
            assert_eq!(connect(&options, cause, false, None).kind(), kind);
        }
    }
}
