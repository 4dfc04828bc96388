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
/// once, and resolves when at least one of them moved or failed. What TLS or WebSocket
/// kept of earlier writes is flushed; it resolves as well when nothing is kept any more.
///
/// Cancel-safe: what was moved was moved in the poll that resolved it.
pub(super) async fn transfer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mut input: Option<&mut BytesMut>,
    output: &[u8],
    flushed: &mut bool,
) -> Moved {
    poll_fn(|cx| {
        let was_flushed = *flushed;
        let moved = poll(stream, input.as_deref_mut(), output, flushed, cx);
        if moved.0.is_some() || moved.1.is_some() || *flushed && !was_flushed {
            Poll::Ready(moved)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// As [`transfer`], reading only, without waiting.
pub(super) async fn now<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, input: &mut BytesMut) -> Moved {
    poll_fn(|cx| Poll::Ready(poll(stream, Some(&mut *input), &[], &mut true, cx))).await
}

fn poll<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    input: Option<&mut BytesMut>,
    output: &[u8],
    flushed: &mut bool,
    cx: &mut Context<'_>,
) -> Moved {
    let read = input.and_then(|input| ready(pin!(stream.read_buf(input)).poll(cx)));
    let mut stream = Pin::new(stream);
    let mut written = None;
    if !output.is_empty() {
        written = ready(stream.as_mut().poll_write(cx, output));
        *flushed = false;
    }
    let all_is_written = match &written {
        None => output.is_empty(),
        Some(moved) => moved.as_ref().is_ok_and(|n| *n == output.len()),
    };
    if all_is_written && !*flushed {
        match stream.poll_flush(cx) {
            Poll::Ready(Ok(())) => *flushed = true,
            Poll::Ready(Err(error)) => written = Some(Err(error)),
            Poll::Pending => {}
        }
    }
    (read, written)
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
