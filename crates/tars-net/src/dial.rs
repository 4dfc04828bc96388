//! One attempt, layer by layer.

use tars_ports::{ConnectOptions, Error};
use tokio::time::Instant;

use crate::{Stream, error, tcp};

/// Whether this build has TLS.
pub(crate) const TLS: bool = cfg!(feature = "tls");
/// Whether this build has WebSocket.
pub(crate) const WEBSOCKET: bool = cfg!(feature = "websocket");

/// Connects by the options' transport, until `deadline`.
///
/// A broker that the options bring credentials for, over a transport without TLS and at
/// an address that is not loopback, gets a warning in the log.
///
/// Cancel-safe: dropped before it resolves, the attempt ends and its socket closes.
///
/// # Errors
/// [`Unsupported`](tars_ports::ErrorKind::Unsupported) where this build lacks the
/// transport, [`HostNotFound`](tars_ports::ErrorKind::HostNotFound),
/// [`Unreachable`](tars_ports::ErrorKind::Unreachable),
/// [`Tls`](tars_ports::ErrorKind::Tls), [`Protocol`](tars_ports::ErrorKind::Protocol)
/// or [`ConnectionLost`](tars_ports::ErrorKind::ConnectionLost) in the WebSocket
/// handshake, [`Timeout`](tars_ports::ErrorKind::Timeout).
pub async fn dial(options: &ConnectOptions, deadline: Instant) -> Result<Stream, Error> {
    let transport = options.transport;
    if transport.is_encrypted() && !TLS || transport.is_websocket() && !WEBSOCKET {
        return Err(error::unsupported(options));
    }
    // Before anything is asked of the network.
    #[cfg(feature = "tls")]
    let tls = match transport.is_encrypted() {
        true => Some(
            in_time(
                options,
                deadline,
                "reading the certificates",
                crate::tls::Client::prepare(options),
            )
            .await?,
        ),
        false => None,
    };
    let stream = tcp::connect(options, deadline).await?;
    #[cfg(feature = "tls")]
    let stream = match tls {
        Some(tls) => in_time(options, deadline, "the TLS handshake", tls.handshake(options, stream)).await?,
        None => stream,
    };
    #[cfg(feature = "websocket")]
    let stream = match transport.is_websocket() {
        true => {
            let upgrade = crate::websocket::upgrade(options, stream);
            in_time(options, deadline, "the WebSocket handshake", upgrade).await?
        }
        false => stream,
    };
    Ok(stream)
}

#[cfg(any(feature = "tls", feature = "websocket"))]
async fn in_time<T>(
    options: &ConnectOptions,
    deadline: Instant,
    stage: &str,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout_at(deadline, step)
        .await
        .map_err(|_| error::connect_timeout(options, stage))?
}
