//! What goes wrong on the way to a broker, in the words of [`ErrorKind`]: one function
//! for each, so that the sentences stand side by side and all adapters say the same.

use std::io;

#[cfg(feature = "tls")]
use tars_ports::TlsFault;
use tars_ports::{ConnectOptions, Error, ErrorKind};

/// The adapter, or this build, has not the transport of the options.
#[must_use]
pub fn unsupported(options: &ConnectOptions) -> Error {
    let transport = options.transport;
    let feature = match (transport.is_encrypted() && !crate::dial::TLS, transport.is_websocket()) {
        (true, false) => "the feature `tls`",
        (false, _) => "the feature `websocket`",
        (true, true) if crate::dial::WEBSOCKET => "the feature `tls`",
        (true, true) => "the features `tls` and `websocket`",
    };
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "{}:// is not part of this build; it needs {feature}",
            transport.scheme()
        ),
    )
}

/// The host's name is not known.
#[must_use]
pub fn host_not_found(options: &ConnectOptions, cause: Option<io::Error>) -> Error {
    let what = format!(
        "the host of {} is not known; check its name and the resolver",
        options.address()
    );
    caused(Error::new(ErrorKind::HostNotFound, what), cause)
}

/// No TCP connection comes about.
#[must_use]
pub fn unreachable(options: &ConnectOptions, cause: io::Error) -> Error {
    let address = options.address();
    let what = if cause.kind() == io::ErrorKind::ConnectionRefused {
        format!("nobody listens on {address}; check that the broker runs, and the port")
    } else {
        format!("{address} cannot be reached; check the route and the firewall")
    };
    Error::new(ErrorKind::Unreachable, what).with_source(cause)
}

/// The time is over.
#[must_use]
pub fn connect_timeout(options: &ConnectOptions, stage: &str) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!(
            "no connection to {} within {:?}: {stage} did not finish; check the address, and that it is an MQTT broker",
            options.address(),
            options.timeout
        ),
    )
}

/// The broker closed before `stage` (CONNACK, for example), or the connection broke.
/// What TLS says of it is told where it says something; a broker that asked for a client
/// certificate (`certificate_asked`) may have closed for that.
#[must_use]
pub fn closed_before(
    stage: &str,
    options: &ConnectOptions,
    certificate_asked: bool,
    cause: Option<io::Error>,
) -> Error {
    let address = options.address();
    #[cfg(feature = "tls")]
    if options.transport.is_encrypted() {
        let said = cause.as_ref().and_then(crate::tls::rustls_error).is_some();
        if let Some(cause) = cause.filter(|_| said) {
            return crate::tls::error::failed(options, certificate_asked, cause);
        }
        if certificate_asked {
            return crate::tls::error::certificate_refused(options);
        }
        return Error::new(
            ErrorKind::ConnectionLost,
            format!("{address} closed the connection before {stage}; its log says why"),
        );
    }
    // Without TLS nobody asks.
    let _ = certificate_asked;
    let what = match options.transport.is_websocket() {
        false => "is an MQTT 3.1.1 broker on a port without TLS",
        true => "serves MQTT over WebSocket on this port, without TLS",
    };
    let what = format!("{address} closed the connection before {stage}; check that it {what}, and its log");
    caused(Error::new(ErrorKind::ConnectionLost, what), cause)
}

/// The WebSocket handshake came to another end than it should.
#[cfg(feature = "websocket")]
pub(crate) fn no_websocket(options: &ConnectOptions, what: &str) -> Error {
    let (address, path) = (options.address(), &options.path);
    Error::new(
        ErrorKind::Protocol,
        format!("{address} answered the WebSocket handshake with {what}; check the port, and the path `{path}`"),
    )
}

#[cfg(feature = "tls")]
pub(crate) fn tls(fault: TlsFault, what: String) -> Error {
    Error::new(ErrorKind::Tls(fault), what)
}

fn caused(error: Error, cause: Option<io::Error>) -> Error {
    match cause {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}
