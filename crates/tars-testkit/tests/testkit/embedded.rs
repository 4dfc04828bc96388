//! The broker inside the process, seen through a bare socket.

use std::time::Duration;

use tars_testkit::embedded::EmbeddedBroker;
use tars_testkit::scripted::packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(10);

async fn connect(broker: &EmbeddedBroker) -> TcpStream {
    let mut client = TcpStream::connect(broker.address()).await.expect("it listens");
    let mut body = packet::text("MQTT");
    body.extend([4, 2, 0, 60]);
    body.extend(packet::text("c"));
    client
        .write_all(&packet::raw(packet::CONNECT, &body))
        .await
        .expect("written");
    let mut connack = [0; 4];
    let read = timeout(WITHIN, client.read_exact(&mut connack)).await;
    read.expect("in time").expect("a CONNACK");
    assert_eq!(connack, [packet::CONNACK, 2, 0, 0]);
    client
}

#[tokio::test]
async fn starts_stops_and_starts_again_on_the_same_port() {
    let mut broker = EmbeddedBroker::start().await.expect("it starts");
    let address = broker.address();
    assert_eq!(broker.url(), format!("mqtt://127.0.0.1:{}", broker.port()));
    for _ in 0..3 {
        let mut client = connect(&broker).await;
        client
            .write_all(&packet::publish("t", b"x", 1, Some(7), false, false))
            .await
            .expect("written");
        let mut puback = [0; 4];
        let read = timeout(WITHIN, client.read_exact(&mut puback)).await;
        read.expect("in time").expect("a PUBACK");
        assert_eq!(puback, [packet::PUBACK, 2, 0, 7]);

        broker.stop().await.expect("it ends");
        broker.stop().await.expect("a second time is no error");
        let end = timeout(WITHIN, client.read_u8()).await.expect("in time");
        assert!(end.is_err(), "the socket is closed");
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
        broker.start_again().await.expect("the port is free");
        broker.start_again().await.expect("a running one is left alone");
        assert_eq!(broker.address(), address);
    }
    drop(broker);
}
