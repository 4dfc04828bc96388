//! From a host name to CONNACK. One attempt; dropping it closes the socket.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use rumqttc::mqttbytes::Error as CodecError;
use rumqttc::mqttbytes::v4::{ConnAck, Packet};
use tars_ports::{ConnectOptions, Error, Refusal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use crate::read_buffer::{ReadBuffer, ReadError};
use crate::{convert, error};

/// CONNACK's first byte; nothing else may come first (MQTT 3.1.1 section 3.2).
const CONNACK: u8 = 0x20;

/// A connection that the broker accepted, with what it sent right behind CONNACK.
pub(crate) struct Accepted<S> {
    pub(crate) stream: S,
    pub(crate) session_present: bool,
    pub(crate) input: ReadBuffer,
}

/// Looks the host up, connects and shakes hands, all within the options' timeout.
pub(crate) async fn connect(options: &ConnectOptions, limit: usize) -> Result<Accepted<TcpStream>, Error> {
    let packet = convert::connect(options)?;
    let deadline = Instant::now() + options.timeout;
    let addresses = timeout_at(deadline, resolve(options))
        .await
        .map_err(|_| error::connect_timeout(options, "looking up the host"))??;
    let stream = open(options, &addresses, deadline).await?;
    // Otherwise the second of two small packets waits for the peer's delayed ACK: 40 ms.
    stream
        .set_nodelay(true)
        .map_err(|cause| error::unreachable(options, cause))?;
    let mut bytes = BytesMut::new();
    packet
        .write(&mut bytes)
        .map_err(|cause| error::internal("CONNECT could not be encoded").with_source(cause))?;
    timeout_at(deadline, shake_hands(options, stream, &bytes, limit))
        .await
        .map_err(|_| error::connect_timeout(options, "waiting for CONNACK"))?
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
async fn open(options: &ConnectOptions, addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Error> {
    let mut failure = error::connect_timeout(options, "the TCP connection");
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(cause)) => failure = error::unreachable(options, cause),
            Err(_) => failure = error::connect_timeout(options, "the TCP connection"),
        }
        tracing::debug!(%address, error = %failure, "an address of the broker does not answer");
    }
    Err(failure)
}

/// Sends CONNECT and reads CONNACK.
pub(crate) async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    options: &ConnectOptions,
    mut stream: S,
    connect: &[u8],
    limit: usize,
) -> Result<Accepted<S>, Error> {
    let closed = |cause: io::Error| error::closed_before_connack(options, Some(cause));
    // A broker that refuses early may have closed before it read everything: its
    // CONNACK says more than a failed write.
    let written = async {
        stream.write_all(connect).await?;
        stream.flush().await
    }
    .await;
    let mut input = ReadBuffer::new(limit);
    let connack = loop {
        match input.first_byte() {
            None | Some(CONNACK) => {}
            Some(other) => {
                return Err(error::no_connack(
                    options,
                    &format!("something else (first byte {other:#04x})"),
                ));
            }
        }
        match input.next_packet() {
            Ok(Some(Packet::ConnAck(connack))) => break connack,
            Ok(Some(_)) => return Err(error::no_connack(options, "another packet")),
            Ok(None) => {}
            Err(ReadError::TooLarge { size }) => {
                return Err(error::no_connack(options, &format!("a packet of {size} bytes")));
            }
            Err(ReadError::Malformed(CodecError::InvalidConnectReturnCode(code))) => {
                return Err(error::refused(options, Refusal::Other(code)));
            }
            Err(ReadError::Malformed(cause)) => {
                return Err(error::no_connack(options, "a malformed packet").with_source(cause));
            }
        }
        match stream.read_buf(input.room()).await {
            Ok(0) => {
                return Err(match written {
                    Ok(()) => error::closed_before_connack(options, None),
                    Err(cause) => closed(cause),
                });
            }
            Ok(_) => {}
            Err(cause) => return Err(closed(cause)),
        }
    };
    let ConnAck { session_present, code } = connack;
    if let Some(refusal) = error::refusal(code) {
        return Err(error::refused(options, refusal));
    }
    Ok(Accepted {
        stream,
        // A broker has no session to be present when asked for a clean one (section 3.2.2.2).
        session_present: session_present && !options.clean_session,
        input,
    })
}
