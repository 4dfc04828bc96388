//! MQTT over WebSocket (MQTT 3.1.1 section 6): the frames as a stream of bytes.
//!
//! Frames and packets need not align in either direction. Pings are answered by the
//! library; a text frame is a breach of the protocol.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures_util::{Sink, Stream as _};
use http::HeaderValue;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use tars_ports::{ConnectOptions, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_websockets::upgrade::Error as UpgradeError;
use tokio_websockets::{ClientBuilder, Error as WsError, Limits, Message, Payload, WebSocketStream};

use crate::{Stream, error};

/// Section 6: the subprotocol of MQTT 3.1.1 and later.
const SUBPROTOCOL: HeaderValue = HeaderValue::from_static("mqtt");
/// The answer to the handshake must fit.
const ANSWER: usize = 16 * 1024;
/// A frame may be so much larger than the largest packet: some brokers put several in one.
const COALESCED: usize = 1024 * 1024;
/// Bytes of one frame out.
const FRAME: usize = 64 * 1024;

pub(crate) async fn upgrade(options: &ConnectOptions, stream: Stream) -> Result<Stream, Error> {
    let asked = stream.certificate_asked();
    let uri = options.address() + &options.path;
    // `address()` names the scheme, which is one of the library's own here.
    let builder = ClientBuilder::new()
        .uri(&uri)
        .map_err(|cause| {
            Error::new(
                tars_ports::ErrorKind::Config,
                format!("{uri} cannot be asked for over HTTP"),
            )
            .with_source(cause)
        })?
        .limits(Limits::default().max_payload_len(Some(options.max_packet_size.saturating_add(COALESCED))))
        .add_header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .map_err(|cause| Error::new(tars_ports::ErrorKind::Internal, "a header was refused").with_source(cause))?;
    let bounded = Bounded {
        stream,
        left: Some(ANSWER),
    };
    let (mut socket, answer) = builder
        .connect_on(bounded)
        .await
        .map_err(|cause| failed(options, asked, cause))?;
    if answer.headers().get(SEC_WEBSOCKET_PROTOCOL) != Some(&SUBPROTOCOL) {
        return Err(error::no_websocket(options, "another subprotocol than `mqtt`"));
    }
    socket.get_mut().left = None;
    let frames = Frames {
        socket,
        input: Payload::from(Vec::new()).into(),
        closing: false,
    };
    Ok(Stream::layered(frames, asked))
}

fn failed(options: &ConnectOptions, certificate_asked: bool, cause: WsError) -> Error {
    match cause {
        WsError::Io(cause) if cause.kind() == io::ErrorKind::InvalidData && is_endless(&cause) => {
            error::no_websocket(options, &format!("more than {ANSWER} bytes"))
        }
        WsError::Io(cause) => {
            let cause = (cause.kind() != io::ErrorKind::UnexpectedEof).then_some(cause);
            error::closed_before("the end of the WebSocket handshake", options, certificate_asked, cause)
        }
        WsError::Upgrade(UpgradeError::DidNotSwitchProtocols(status)) => {
            error::no_websocket(options, &format!("HTTP status {status}"))
        }
        cause => error::no_websocket(options, "something else").with_source(cause),
    }
}

fn is_endless(cause: &io::Error) -> bool {
    cause.get_ref().is_some_and(|cause| cause.is::<Endless>())
}

#[derive(Debug)]
struct Endless;

impl std::fmt::Display for Endless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer to the handshake has no end")
    }
}

impl std::error::Error for Endless {}

/// Reads no more than is left; without a bound, on.
struct Bounded {
    stream: Stream,
    left: Option<usize>,
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if let Some(left) = self.left {
            match left.checked_sub(buf.filled().len() - before) {
                Some(left) => self.left = Some(left),
                None => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, Endless))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

struct Frames {
    socket: WebSocketStream<Bounded>,
    /// What is left of the last frame that came.
    input: BytesMut,
    /// Close was queued.
    closing: bool,
}

fn io_error(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        WsError::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

impl AsyncRead for Frames {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.input.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                Some(Ok(message)) if message.is_binary() => self.input = message.into_payload().into(),
                Some(Ok(message)) if message.is_text() => {
                    let error = "a text frame, where MQTT allows binary frames only";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                // Ping and Pong are the library's; after Close comes the end.
                Some(Ok(_)) => {}
            }
        }
        let n = self.input.len().min(buf.remaining());
        buf.put_slice(&self.input[..n]);
        self.input.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    /// One frame; it leaves as far as the socket takes it, and the rest with a flush.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io_error)?;
        let n = buf.len().min(FRAME);
        let message = Message::binary(BytesMut::from(&buf[..n]));
        Pin::new(&mut self.socket).start_send(message).map_err(io_error)?;
        match self.as_mut().poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(n)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.closing, true) {
            // Where the broker has closed already, there is nobody to tell.
            let _ = Pin::new(&mut self.socket).start_send(Message::close(None, ""));
        }
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(self.socket.get_mut()).poll_shutdown(cx)
    }
}
