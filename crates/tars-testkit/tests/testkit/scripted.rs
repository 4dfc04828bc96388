//! The byte-level broker, driven by a client that is a bare socket too.

use tars_testkit::scripted::{ScriptedBroker, packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn accepts_a_connect_and_exchanges_packets() {
    let broker = ScriptedBroker::start().await;
    assert!(broker.url().ends_with(&broker.port().to_string()));
    let mut client = TcpStream::connect(broker.address()).await.expect("it listens");
    let mut peer = broker.accept().await;

    let mut connect = packet::text("MQTT");
    connect.extend([4, 2, 0, 60]);
    connect.extend(packet::text("c"));
    client
        .write_all(&packet::raw(packet::CONNECT, &connect))
        .await
        .expect("written");
    assert_eq!(peer.expect_connect_and_accept(true).await, connect);
    let mut answer = [0; 4];
    client.read_exact(&mut answer).await.expect("a CONNACK");
    assert_eq!(answer, [0x20, 2, 1, 0]);

    // Two packets in one write, the second in two parts, with a PINGREQ in between.
    let publish = packet::publish("a/b", b"x", 1, Some(7), false, false);
    let mut bytes = packet::raw(packet::PINGREQ, &[]);
    bytes.extend(&publish);
    let (now, later) = bytes.split_at(5);
    client.write_all(now).await.expect("written");
    client.write_all(later).await.expect("written");
    let (first, body) = peer.expect(packet::PUBLISH).await;
    let publish = packet::parse_publish(first, &body);
    assert_eq!((publish.topic.as_str(), publish.id), ("a/b", Some(7)));
    peer.send(&packet::puback(7)).await;
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.expect("PINGRESP and PUBACK");
    assert_eq!(answer, [0xd0, 0, 0x40, 2, 0, 7]);

    drop(client);
    peer.expect_closed().await;
    assert_eq!(peer.next_packet().await, None);
}

#[tokio::test]
async fn a_reset_is_an_error_at_the_client() {
    let broker = ScriptedBroker::start().await;
    let mut client = TcpStream::connect(broker.address()).await.expect("it listens");
    broker.accept().await.reset();
    let error = client.read_u8().await.expect_err("the connection was reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
