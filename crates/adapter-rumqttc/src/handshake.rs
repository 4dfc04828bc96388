//! From a host name to CONNACK. One attempt; dropping it closes the socket.

use bytes::BytesMut;
use rumqttc::mqttbytes::Error as CodecError;
use rumqttc::mqttbytes::v4::{ConnAck, Packet};
use tars_net::Stream;
use tars_net::error::{closed_before, connect_timeout};
use tars_ports::{ConnectOptions, Error, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::read_buffer::{ReadBuffer, ReadError};
use crate::{convert, error};

/// CONNACK's first byte; nothing else may come first (MQTT 3.1.1 section 3.2).
const CONNACK: u8 = 0x20;
/// What a peer that expected TLS sends first (RFC 8446 section 5.1).
const TLS_ALERT: u8 = 0x15;

/// A connection that the broker accepted, with what it sent right behind CONNACK.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    pub(crate) session_present: bool,
    pub(crate) input: ReadBuffer,
}

/// Dials and shakes hands, all within the options' timeout.
pub(crate) async fn connect(options: &ConnectOptions, limit: usize) -> Result<Accepted, Error> {
    let packet = convert::connect(options)?;
    let deadline = Instant::now() + options.timeout;
    let stream = tars_net::dial(options, deadline).await?;
    let mut bytes = BytesMut::new();
    packet
        .write(&mut bytes)
        .map_err(|cause| error::internal("CONNECT could not be encoded").with_source(cause))?;
    timeout_at(deadline, shake_hands(options, stream, &bytes, limit))
        .await
        .map_err(|_| connect_timeout(options, "waiting for CONNACK"))?
}

/// Sends CONNECT and reads CONNACK.
async fn shake_hands(
    options: &ConnectOptions,
    mut stream: Stream,
    connect: &[u8],
    limit: usize,
) -> Result<Accepted, Error> {
    let asked = stream.certificate_asked();
    let closed = |cause| closed_before("CONNACK", options, asked, cause);
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
            Some(TLS_ALERT) => return Err(error::no_connack(options, "TLS: use mqtts:// or wss://")),
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
                return Err(closed(written.err()));
            }
            Ok(_) => {}
            Err(cause) => return Err(closed(Some(cause))),
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
