//! From a host name to a TCP connection.

use std::net::SocketAddr;

use tars_ports::{ConnectOptions, Error};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use crate::{Stream, error};

pub(crate) async fn connect(options: &ConnectOptions, deadline: Instant) -> Result<Stream, Error> {
    let addresses = timeout_at(deadline, resolve(options))
        .await
        .map_err(|_| error::connect_timeout(options, "looking up the host"))??;
    let (stream, address) = open(options, &addresses, deadline).await?;
    // Otherwise the second of two small packets waits for the peer's delayed ACK: 40 ms.
    stream
        .set_nodelay(true)
        .map_err(|cause| error::unreachable(options, cause))?;
    if shows_credentials(options, address) {
        tracing::warn!(
            address = options.address(),
            "user name and password go to the broker in clear: use mqtts:// or wss://"
        );
    }
    Ok(Stream::tcp(stream))
}

async fn resolve(options: &ConnectOptions) -> Result<Vec<SocketAddr>, Error> {
    match lookup_host((options.host.as_str(), options.port)).await {
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.collect();
            if addresses.is_empty() {
                return Err(error::host_not_found(options, None));
            }
            Ok(addresses)
        }
        Err(cause) => Err(error::host_not_found(options, Some(cause))),
    }
}

/// The first address that accepts. Each gets an equal share of the time that is
/// left, so that one that swallows packets does not use up the others' turn.
async fn open(
    options: &ConnectOptions,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<(TcpStream, SocketAddr), Error> {
    let mut failure = error::connect_timeout(options, "the TCP connection");
    for (index, &address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(cause)) => failure = error::unreachable(options, cause),
            Err(_) => failure = error::connect_timeout(options, "the TCP connection"),
        }
        tracing::debug!(%address, error = %failure, "an address of the broker does not answer");
    }
    Err(failure)
}

/// Whether somebody between here and there could read them.
fn shows_credentials(options: &ConnectOptions, address: SocketAddr) -> bool {
    options.credentials.is_some() && !options.transport.is_encrypted() && !address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use tars_ports::{Credentials, Transport};

    use super::*;

    #[test]
    fn credentials_show_without_tls_and_beyond_this_machine() {
        let mut options = ConnectOptions::new("broker.example", 1883, "c");
        let far: SocketAddr = "192.0.2.1:1883".parse().expect("an address");
        assert!(!shows_credentials(&options, far), "there are none");
        options.credentials = Some(Credentials::new("user", None));
        for (address, shows) in [
            ("192.0.2.1:1883", true),
            ("[2001:db8::1]:1883", true),
            ("127.0.0.1:1883", false),
            ("127.8.0.1:1883", false),
            ("[::1]:1883", false),
            ("[::ffff:127.0.0.1]:1883", false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(shows_credentials(&options, address), shows, "{address}");
        }
        for (transport, shows) in [
            (Transport::WebSocket, true),
            (Transport::Tls, false),
            (Transport::WebSocketTls, false),
        ] {
            options.transport = transport;
            assert_eq!(shows_credentials(&options, far), shows, "{transport:?}");
        }
    }
}
