//! PINGREQ, and the peer that stops answering. In real seconds: sockets have no paused time.

use std::time::{Duration, Instant};

use tars_ports::{ErrorKind, PublisherExt};
use tars_testkit::scripted::packet;

use crate::{ended, lost, message, pair, soon, until};

fn one_second(options: &mut tars_ports::ConnectOptions) {
    options.keep_alive = Duration::from_secs(1);
}

#[tokio::test]
async fn one_second_of_keep_alive_keeps_an_idle_link_up() {
    let (connected, mut peer) = pair(one_second).await;
    let mut last = Instant::now();
    for _ in 0..3 {
        assert_eq!(peer.read_packet().await, (packet::PINGREQ, Vec::new()));
        let gap = last.elapsed();
        assert!(
            gap > Duration::from_millis(900) && gap < Duration::from_millis(1_400),
            "{gap:?}"
        );
        last = Instant::now();
        peer.send(&packet::pingresp()).await;
    }
    assert_eq!(connected.connection.activity().packets_read, 2);
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let (mut connected, mut peer) = pair(one_second).await;
    let receipt = soon(connected.connection.publish(message("t", "x", 1))).await.unwrap();
    let started = Instant::now();
    peer.expect(packet::PUBLISH).await;
    let error = lost(ended(&mut connected.inbound).await);
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert!(error.to_string().contains("stopped answering"), "{error}");
    let waited = started.elapsed();
    assert!(
        waited > Duration::from_millis(1_800) && waited < Duration::from_secs(4),
        "{waited:?}"
    );
    assert_eq!(soon(receipt).await.unwrap_err().fate(), Some(tars_ports::Fate::Unknown));
    peer.expect_closed().await;
}

#[tokio::test]
async fn a_client_that_only_sends_notices_a_silent_peer() {
    let (mut connected, mut peer) = pair(one_second).await;
    let beat = async {
        while connected.connection.publish(message("beat", "x", 0)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (_, error) = tokio::join!(soon(beat), async { lost(ended(&mut connected.inbound).await) });
    assert!(error.to_string().contains("stopped answering"), "{error}");
    peer.expect_closed().await;
}

#[tokio::test]
async fn a_peer_that_does_not_even_read_is_given_up() {
    let (mut connected, peer) = pair(one_second).await;
    let flood = async {
        while connected
            .connection
            .publish(message("t", vec![0; 60_000], 0))
            .await
            .is_ok()
        {}
    };
    let (_, ended) = tokio::join!(soon(flood), ended(&mut connected.inbound));
    assert!(ended.unsent > 0);
    assert!(lost(ended).to_string().contains("stopped answering"));
    drop(peer);
}

#[tokio::test]
async fn pings_go_on_while_reading_is_paused_and_nobody_is_given_up() {
    let (mut connected, mut peer) = pair(|options| {
        one_second(options);
        options.inbound_messages = 2;
    })
    .await;
    for n in 0..10u8 {
        peer.send(&packet::publish("a", &[n], 0, None, false, false)).await;
    }
    let connection = &connected.connection;
    until("reading pauses", || connection.activity().reading_paused).await;
    for _ in 0..4 {
        peer.expect(packet::PINGREQ).await;
    }
    for n in 0..10u8 {
        assert_eq!(&crate::delivery(&mut connected.inbound).await.payload[..], &[n]);
    }
    peer.send(&packet::pingresp()).await;
    peer.expect(packet::PINGREQ).await;
    assert!(!connected.connection.activity().reading_paused);
}
