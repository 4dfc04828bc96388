//! Whether the broker answers: a CONNECT by hand, and any CONNACK to it.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scripted::packet;

/// Connects as `client_id` and leaves again. A refusal is an answer too: the broker
/// may want a password. Returns the address that it connected from.
pub(super) async fn answers(port: u16) -> io::Result<SocketAddr> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let from = stream.local_addr()?;
    let mut connect = packet::text("MQTT");
    // Protocol level 4, clean session, keepalive 10 s.
    connect.extend([4, 2, 0, 10]);
    connect.extend(packet::text("testkit-probe"));
    stream.write_all(&packet::raw(packet::CONNECT, &connect)).await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    if connack[0] != packet::CONNACK {
        return Err(io::Error::other("something else than a broker listens there"));
    }
    // After a refusal the broker may have closed already.
    let _ = stream.write_all(&packet::raw(packet::DISCONNECT, &[])).await;
    Ok(from)
}
