//! [`Stream`]: the bytes to and from a broker, whatever is below.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::socket::Socket;

/// A connection to a broker.
///
/// Bytes that were written may wait in it until it is flushed, where TLS or WebSocket
/// lies in between. Dropping it closes the socket.
pub struct Stream {
    io: Io,
    certificate_asked: bool,
}

enum Io {
    Tcp(Socket),
    #[cfg_attr(not(any(feature = "tls", feature = "websocket")), expect(dead_code))]
    Layered(Box<dyn Layer>),
}

/// What lies over a socket.
pub(crate) trait Layer: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Layer for T {}

impl Stream {
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self {
            io: Io::Tcp(Socket::Awake(stream)),
            certificate_asked: false,
        }
    }

    #[cfg(any(feature = "tls", feature = "websocket"))]
    pub(crate) fn layered(layer: impl Layer + 'static, certificate_asked: bool) -> Self {
        Self {
            io: Io::Layered(Box::new(layer)),
            certificate_asked,
        }
    }

    /// Whether the broker asked for a client certificate. In TLS 1.3 it says only after
    /// the handshake that it is missing or refused, or just closes: see
    /// [`error::closed_before`](crate::error::closed_before).
    #[must_use]
    pub fn certificate_asked(&self) -> bool {
        self.certificate_asked
    }

    /// Lets a plain TCP socket rest, until a read finds nothing in it or a write no room. Until then
    /// nothing that arrives wakes the process, and the peer does not pay for it: a task that reads by
    /// the clock gets much at once. Reading and writing go on as always, without a call to end it.
    ///
    /// `false` under TLS and WebSocket, which never rest.
    ///
    /// # Errors
    /// When the system does not let go of the socket; it is closed then.
    pub fn rest(&mut self) -> io::Result<bool> {
        match &mut self.io {
            Io::Tcp(socket) => socket.rest().map(|()| true),
            Io::Layered(_) => Ok(false),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::tcp(stream)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Layered(layer) => Pin::new(layer).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Layered(layer) => Pin::new(layer).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Io::Layered(layer) => Pin::new(layer).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Layered(layer) => Pin::new(layer).poll_shutdown(cx),
        }
    }
}
