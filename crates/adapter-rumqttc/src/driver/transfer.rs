//! One wait for the socket that reads and writes at once.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// How many bytes were read and written; `None` where the socket was not ready.
pub(super) type Moved = (Option<io::Result<usize>>, Option<io::Result<usize>>);

/// Reads into `input` (if given) and writes from `output` (if not empty), each
/// once, and resolves when at least one of them moved or failed.
///
/// Cancel-safe: what was moved was moved in the poll that resolved it.
pub(super) async fn transfer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mut input: Option<&mut BytesMut>,
    output: &[u8],
) -> Moved {
    poll_fn(|cx| {
        let moved = poll(stream, input.as_deref_mut(), output, cx);
        if moved.0.is_some() || moved.1.is_some() {
            Poll::Ready(moved)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// As [`transfer`], reading only, without waiting.
pub(super) async fn now<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, input: &mut BytesMut) -> Moved {
    poll_fn(|cx| Poll::Ready(poll(stream, Some(&mut *input), &[], cx))).await
}

fn poll<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    input: Option<&mut BytesMut>,
    output: &[u8],
    cx: &mut Context<'_>,
) -> Moved {
    let read = input.and_then(|input| ready(pin!(stream.read_buf(input)).poll(cx)));
    let written = if output.is_empty() {
        None
    } else {
        ready(Pin::new(stream).poll_write(cx, output))
    };
    (read, written)
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
