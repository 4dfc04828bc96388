//! A broker that is nothing but a listening socket: the test reads and writes every
//! byte itself, so that it can be as slow, rude or broken as the test needs.
//!
//! It knows the framing of MQTT 3.1.1 (section 2.2) and no more: no sessions, no
//! checks, no answers of its own. [`packet`] builds packets by hand, [`hostile`] has the ways
//! in which a broker can misbehave.
//!
//! Invariant: nothing here waits longer than [`PATIENCE`]. What does not come in time
//! panics with a sentence that says what was awaited, so that a test fails instead of
//! hanging. It works on real sockets, hence not in tokio's paused time.
//!
//! ```no_run
//! use tars_testkit::scripted::{ScriptedBroker, packet};
//!
//! # async fn example() {
//! let broker = ScriptedBroker::start().await;
//! // … point an adapter at 127.0.0.1:{broker.port()} …
//! let mut peer = broker.accept().await;
//! peer.expect_connect_and_accept(false).await;
//! let (first, body) = peer.read_packet().await;
//! assert_eq!(first & 0xf0, packet::SUBSCRIBE);
//! peer.send(&packet::suback(packet::leading_id(&body), &[0])).await;
//! peer.send(&packet::publish("a/b", b"hi", 0, None, false, false)).await;
//! # }
//! ```

pub mod hostile;
pub mod packet;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The longest that any wait of this module lasts.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// A listening socket on loopback whose connections the test drives.
#[derive(Debug)]
pub struct ScriptedBroker {
    listener: TcpListener,
    address: SocketAddr,
}

impl ScriptedBroker {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When no socket can be opened.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a loopback socket can be opened");
        let address = listener.local_addr().expect("a bound socket has an address");
        Self { listener, address }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `mqtt://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// The next connection, before a byte of it was read.
    ///
    /// Cancel-safe.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`].
    pub async fn accept(&self) -> ScriptedPeer {
        let accepted = within("a connection", self.listener.accept()).await;
        let (stream, _) = accepted.expect("a listening socket accepts");
        // Without it a script's small packets would wait for each other's TCP ack.
        stream.set_nodelay(true).expect("an open socket takes TCP_NODELAY");
        ScriptedPeer {
            stream,
            read: Vec::new(),
        }
    }
}

/// One connection of a client, seen from the broker's end. Dropping it closes the socket.
#[derive(Debug)]
pub struct ScriptedPeer {
    stream: TcpStream,
    /// Read and not yet handed out: the start of at most a few packets.
    read: Vec<u8>,
}

impl ScriptedPeer {
    /// The next packet: its first byte (type and flags), and what follows the
    /// remaining length.
    ///
    /// Cancel-safe: a packet read in part stays for the next call.
    ///
    /// # Panics
    /// When the client closes, or sends none within [`PATIENCE`].
    pub async fn read_packet(&mut self) -> (u8, Vec<u8>) {
        self.next_packet()
            .await
            .expect("the client sends a packet, and does not close")
    }

    /// As [`read_packet`](Self::read_packet); `None` when the client closed or reset
    /// the connection.
    ///
    /// # Panics
    /// When nothing happens within [`PATIENCE`].
    pub async fn next_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        within("a packet of the client", self.packet()).await
    }

    /// Skips PINGREQ packets, answering them, up to the first packet of `kind` (one of
    /// the constants in [`packet`]). Any other packet is a failure.
    ///
    /// # Panics
    /// When another packet comes, the client closes, or [`PATIENCE`] runs out.
    pub async fn expect(&mut self, kind: u8) -> (u8, Vec<u8>) {
        loop {
            let (first, body) = self.read_packet().await;
            match first & 0xf0 {
                packet::PINGREQ if kind != packet::PINGREQ => self.send(&packet::pingresp()).await,
                seen if seen == kind => return (first, body),
                seen => panic!("awaited packet type {kind:#04x}, got {seen:#04x} with body {body:?}"),
            }
        }
    }

    /// Reads CONNECT and answers with a CONNACK that accepts. Returns the body of the
    /// CONNECT.
    ///
    /// # Panics
    /// When the first packet is no CONNECT, or [`PATIENCE`] runs out.
    pub async fn expect_connect_and_accept(&mut self, session_present: bool) -> Vec<u8> {
        let (_, body) = self.expect(packet::CONNECT).await;
        self.send(&packet::connack(session_present, 0)).await;
        body
    }

    /// Writes bytes as they are, be they a packet, a part of one, or garbage.
    ///
    /// # Panics
    /// When they cannot be written within [`PATIENCE`].
    pub async fn send(&mut self, bytes: &[u8]) {
        within("room to write", self.stream.write_all(bytes))
            .await
            .expect("the client reads, and did not close");
    }

    /// As [`send`](Self::send), for a client that may have closed already: `false` then.
    ///
    /// # Panics
    /// When they cannot be written within [`PATIENCE`].
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        within("room to write", self.stream.write_all(bytes)).await.is_ok()
    }

    /// Reads on until the client closes, ignoring what it still sends.
    ///
    /// # Panics
    /// When it does not close within [`PATIENCE`].
    pub async fn expect_closed(&mut self) {
        within("the client's end", async { while self.packet().await.is_some() {} }).await;
    }

    /// Watches for `quiet` that the client sends nothing. It is real time that passes:
    /// use it only where an absence is the point.
    ///
    /// # Panics
    /// When a packet or the end comes in that time.
    pub async fn expect_silence(&mut self, quiet: Duration) {
        if let Ok(seen) = tokio::time::timeout(quiet, self.packet()).await {
            panic!("awaited silence, got {seen:?}");
        }
    }

    /// Closes the writing half; what the client sends can still be read.
    pub async fn shut_writing(&mut self) {
        // A client that closed first leaves nothing to shut.
        let _ = self.stream.shutdown().await;
    }

    /// Closes with RST instead of FIN, so that the client's next read fails.
    pub fn reset(self) {
        // Failing means that the connection is gone already.
        let _ = self.stream.set_zero_linger();
    }

    async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = take_frame(&mut self.read) {
                return Some(frame);
            }
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// Cuts the first whole packet off `read`.
fn take_frame(read: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let first = *read.first()?;
    let mut length = 0usize;
    for at in 1..=4 {
        let byte = *read.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            let end = at + 1 + length;
            if read.len() < end {
                return None;
            }
            let body = read[at + 1..end].to_vec();
            read.drain(..end);
            return Some((first, body));
        }
    }
    panic!("the client sent a remaining length of more than four bytes");
}

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what} in vain"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_where_they_end() {
        let mut read = packet::publish("t", &[7; 200], 1, Some(3), false, false);
        let whole = read.len();
        read.extend(packet::pingresp());
        let mut partial = read[..whole - 1].to_vec();
        assert_eq!(take_frame(&mut partial), None);
        let (first, body) = take_frame(&mut read).expect("a whole packet");
        assert_eq!((first, body.len()), (0x32, 2 + 1 + 2 + 200));
        assert_eq!(take_frame(&mut read), Some((0xd0, Vec::new())));
        assert_eq!(take_frame(&mut read), None);
    }
}
