//! What a peer may do in the handshakes, each played by a socket of the test's own.
#![cfg(all(feature = "tls", feature = "websocket"))]
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tars_net::{Stream, dial};
use tars_ports::{ConnectOptions, Error, ErrorKind, TlsFault, Transport};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(10);

async fn listening() -> (TcpListener, ConnectOptions) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, ConnectOptions::new("127.0.0.1", port, "c"))
}

async fn dialled(options: &ConnectOptions) -> Result<Stream, Error> {
    dial(options, Instant::now() + options.timeout).await
}

/// A file with an authority, so that nobody asks the system for its own.
fn authority() -> (TempDir, ConnectOptions) {
    let folder = TempDir::new().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, certificate.pem()).unwrap();
    let mut options = ConnectOptions::new("127.0.0.1", 1, "c");
    options.tls.ca = Some(file);
    (folder, options)
}

/// Reads what the client says first, and answers with these bytes.
async fn answer(listener: &TcpListener, bytes: &[u8]) -> TcpStream {
    let (mut peer, _) = listener.accept().await.unwrap();
    let mut first = [0; 4096];
    assert!(peer.read(&mut first).await.unwrap() > 0);
    // A client that has seen enough may have closed.
    let _ = peer.write_all(bytes).await;
    peer
}

#[tokio::test]
async fn peers_without_tls_or_websocket_are_told_apart() {
    let not_tls = ErrorKind::Tls(TlsFault::NotTls);
    let (_folder, with_authority) = authority();
    let endless = "HTTP/1.1 101 Switching Protocols\r\nX: ".to_owned() + &"x".repeat(100_000);
    for (transport, bytes, kind, says) in [
        (Transport::Tls, "hello hello", not_tls, "in TLS"),
        (Transport::Tls, "", not_tls, "speaks TLS"),
        (Transport::WebSocketTls, "", not_tls, "speaks TLS"),
        (
            Transport::WebSocket,
            "HTTP/1.1 404 Not Found\r\n\r\n",
            ErrorKind::Protocol,
            "HTTP status 404",
        ),
        (
            Transport::WebSocket,
            "\x20\x02\0\0",
            ErrorKind::Protocol,
            "path `/mqtt`",
        ),
        (
            Transport::WebSocket,
            &endless,
            ErrorKind::Protocol,
            "more than 16384 bytes",
        ),
        (Transport::WebSocket, "", ErrorKind::ConnectionLost, "over WebSocket"),
    ] {
        let (listener, mut options) = listening().await;
        options.transport = transport;
        options.tls = with_authority.tls.clone();
        let peer = async { drop(answer(&listener, bytes.as_bytes()).await) };
        let (error, ()) = timeout(PATIENCE, async { tokio::join!(dialled(&options), peer) })
            .await
            .unwrap();
        let error = error.unwrap_err();
        assert_eq!(error.kind(), kind, "{transport:?} {bytes:.20}: {error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains(&options.address()), "{error}");
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let (_folder, with_authority) = authority();
    for (transport, stage) in [
        (Transport::Tls, "the TLS handshake"),
        (Transport::WebSocket, "the WebSocket handshake"),
    ] {
        let (listener, mut options) = listening().await;
        options.transport = transport;
        options.tls = with_authority.tls.clone();
        options.timeout = Duration::from_millis(300);
        let (error, _peer) = tokio::join!(dialled(&options), answer(&listener, b""));
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains(stage), "{error}");
    }
}

#[tokio::test]
async fn another_subprotocol_is_refused() {
    use tokio_websockets::ServerBuilder;
    let (listener, mut options) = listening().await;
    options.transport = Transport::WebSocket;
    let (error, _) = tokio::join!(dialled(&options), async {
        let (peer, _) = listener.accept().await.unwrap();
        ServerBuilder::new().accept(peer).await.unwrap()
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("subprotocol"), "{error}");
}

/// Frames and reads need not align, in either direction; a ping is answered in between.
#[tokio::test]
async fn frames_are_a_stream_of_bytes() {
    use futures_util::{SinkExt, StreamExt};
    use http::{HeaderValue, header};
    use tokio_websockets::{Message, ServerBuilder};
    let (listener, mut options) = listening().await;
    options.transport = Transport::WebSocket;
    let (stream, socket) = tokio::join!(dialled(&options), async {
        let (peer, _) = listener.accept().await.unwrap();
        let protocol = HeaderValue::from_static("mqtt");
        let server = ServerBuilder::new()
            .add_header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
            .unwrap();
        let (request, socket) = server.accept(peer).await.unwrap();
        assert_eq!(request.uri().path(), "/mqtt");
        assert_eq!(request.headers()[header::SEC_WEBSOCKET_PROTOCOL], "mqtt");
        socket
    });
    let (mut stream, mut socket) = (stream.unwrap(), socket);
    // Out: more than one frame and more than the buffers of the socket.
    let sent: Vec<u8> = (0..2_000_000u32).map(|at| at.to_le_bytes()[0] ^ 7).collect();
    let received = async {
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let message = socket.next().await.unwrap().unwrap();
            if message.is_binary() {
                received.extend_from_slice(message.as_payload());
            }
        }
        socket.send(Message::ping(&b"are you there"[..])).await.unwrap();
        for part in [&b"ab"[..], b"", b"cdef", b"g"] {
            socket.send(Message::binary(part)).await.unwrap();
        }
        let pong = socket.next().await.unwrap().unwrap();
        assert!(pong.is_pong());
        (received, socket)
    };
    let (back, (received, mut socket)) = timeout(PATIENCE, async {
        tokio::join!(
            async {
                stream.write_all(&sent).await.unwrap();
                stream.flush().await.unwrap();
                let mut back = [0; 7];
                for byte in &mut back {
                    *byte = stream.read_u8().await.unwrap();
                }
                stream.flush().await.unwrap();
                // The pong leaves with the next turn of the stream.
                let _ = timeout(Duration::from_millis(50), stream.read_u8()).await;
                back
            },
            received
        )
    })
    .await
    .unwrap();
    assert!(received == sent, "what was written came out changed");
    assert_eq!(&back, b"abcdefg");
    // Shut down, the peer sees a close frame, and its own ends the stream.
    stream.shutdown().await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_close());
    let _ = socket.close().await;
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_text_frame_is_a_breach() {
    use futures_util::SinkExt;
    use http::{HeaderValue, header};
    use tokio_websockets::{Message, ServerBuilder};
    let (listener, mut options) = listening().await;
    options.transport = Transport::WebSocket;
    let (stream, _socket) = tokio::join!(dialled(&options), async {
        let (peer, _) = listener.accept().await.unwrap();
        let protocol = HeaderValue::from_static("mqtt");
        let server = ServerBuilder::new()
            .add_header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
            .unwrap();
        let (_, mut socket) = server.accept(peer).await.unwrap();
        socket.send(Message::text("hello")).await.unwrap();
        socket
    });
    let error = stream.unwrap().read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_told_before_anybody_is_asked() {
    let (listener, mut options) = listening().await;
    drop(listener);
    options.transport = Transport::Tls;
    options.tls.ca = Some("/nowhere/ca.pem".into());
    let error = dialled(&options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls(TlsFault::File));
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}
