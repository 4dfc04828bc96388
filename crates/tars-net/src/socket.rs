//! [`Socket`]: a TCP socket that can rest.
//!
//! At rest the runtime does not know of it, so nothing that arrives wakes anybody: not
//! this process, and not on behalf of the peer, whose `write` pays for each wake-up.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub(crate) enum Socket {
    Awake(TcpStream),
    Resting(std::net::TcpStream),
    /// It could not change from one to the other.
    Closed,
}

impl Socket {
    pub(crate) fn rest(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Self::Closed) {
            Self::Awake(stream) => Self::Resting(stream.into_std()?),
            other => other,
        };
        Ok(())
    }

    fn awake(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        *self = match std::mem::replace(self, Self::Closed) {
            Self::Resting(stream) => Self::Awake(TcpStream::from_std(stream)?),
            other => other,
        };
        match self {
            Self::Awake(stream) => Ok(Pin::new(stream)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        if let Self::Resting(stream) = socket
            && let Some(read) = moved(stream.read(buf.initialize_unfilled()))
        {
            buf.advance(read?);
            return Poll::Ready(Ok(()));
        }
        socket.awake()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        if let Self::Resting(stream) = socket
            && let Some(written) = moved(stream.write(buf))
        {
            return Poll::Ready(written);
        }
        socket.awake()?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Awake(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Resting(stream) => Poll::Ready(stream.shutdown(Shutdown::Write)),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

/// What the system did at once; `None` where it has to be waited for.
fn moved(result: io::Result<usize>) -> Option<io::Result<usize>> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
        result => Some(result),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let socket = TcpStream::connect(address).await.expect("connected");
        (Socket::Awake(socket), listener.accept().await.expect("accepted").0)
    }

    fn is_resting(socket: &Socket) -> bool {
        matches!(socket, Socket::Resting(_))
    }

    #[tokio::test]
    async fn at_rest_it_writes_and_reads_what_is_there() {
        let (mut socket, mut peer) = pair().await;
        let mut buf = [0; 4];
        socket.rest().expect("rests");
        socket.write_all(b"ping").await.expect("written");
        peer.read_exact(&mut buf).await.expect("read");
        peer.write_all(b"pong").await.expect("written");
        // Only a read that finds nothing wakes it, and that one waits.
        socket.read_exact(&mut buf).await.expect("read");
        assert_eq!(&buf, b"pong");
    }

    #[tokio::test]
    async fn a_read_that_finds_nothing_waits_awake() {
        let (mut socket, mut peer) = pair().await;
        socket.rest().expect("rests");
        assert!(is_resting(&socket));
        let late = async {
            tokio::task::yield_now().await;
            peer.write_all(b"late").await.expect("written");
        };
        let mut buf = [0; 4];
        let (read, ()) = tokio::join!(socket.read_exact(&mut buf), late);
        read.expect("read");
        assert_eq!(&buf, b"late");
        assert!(!is_resting(&socket));
    }

    #[tokio::test]
    async fn a_write_that_finds_no_room_waits_awake() {
        const MUCH: usize = 32 << 20;
        let (mut socket, mut peer) = pair().await;
        socket.rest().expect("rests");
        let read = async {
            let mut all = Vec::with_capacity(MUCH);
            peer.read_to_end(&mut all).await.expect("read");
            all.len()
        };
        let write = async {
            socket.write_all(&vec![7; MUCH]).await.expect("written");
            assert!(!is_resting(&socket));
            socket.rest().expect("rests");
            socket.shutdown().await.expect("shut down");
            assert!(is_resting(&socket));
        };
        assert_eq!(tokio::join!(read, write).0, MUCH);
    }
}
