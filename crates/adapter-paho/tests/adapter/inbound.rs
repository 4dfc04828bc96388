//! Receiving: what is handed over, what paho acknowledges, and where it ends.

use std::time::Duration;

use futures_util::StreamExt;
use tars_ports::{ErrorKind, Incoming, PublisherExt};
use tars_testkit::scripted::packet::{self, leading_id};

use crate::{delivery, ended, lost, message, pair, soon, until};

#[tokio::test]
async fn everything_about_a_message_arrives_but_dup() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    let cases = [
        ("Grüße/日本", b"x".to_vec(), 0, false, false),
        ("é", Vec::new(), 1, true, false),
        ("$SYS/load", vec![1; 70_000], 2, false, true),
        ("big", vec![2; 1024 * 1024], 1, true, true),
    ];
    for (n, (topic, payload, qos, retain, dup)) in (1..).zip(&cases) {
        let id = (*qos > 0).then_some(n);
        peer.send(&packet::publish(topic, payload, *qos, id, *retain, *dup))
            .await;
        if *qos == 2 {
            // Paho delivers with the release.
            assert_eq!(leading_id(&peer.expect(packet::PUBREC).await.1), n);
            peer.send(&packet::pubrel(n)).await;
        }
        let got = delivery(&mut connected.inbound).await;
        assert_eq!((got.topic.as_str(), got.qos.as_u8()), (*topic, *qos));
        assert_eq!((got.retain, got.dup, got.token), (*retain, false, None));
        assert_eq!(&got.payload[..], &payload[..]);
        match qos {
            0 => {}
            1 => assert_eq!(leading_id(&peer.expect(packet::PUBACK).await.1), n),
            _ => assert_eq!(leading_id(&peer.expect(packet::PUBCOMP).await.1), n),
        }
    }
}

#[tokio::test]
async fn acknowledgements_leave_on_receipt_in_order() {
    let (connected, mut peer) = pair(|_| {}).await;
    for id in 1..=10 {
        peer.send(&packet::publish("a", b"", 1, Some(id), false, false)).await;
    }
    // Nobody has taken one.
    for id in 1..=10 {
        assert_eq!(leading_id(&peer.expect(packet::PUBACK).await.1), id);
    }
    assert_eq!(connected.connection.activity().packets_read, 10);
    assert!(!connected.connection.activity().reading_paused);
}

#[tokio::test]
async fn a_qos_2_message_that_comes_twice_is_delivered_once() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    for dup in [false, true] {
        peer.send(&packet::publish("a", b"x", 2, Some(4), false, dup)).await;
        peer.expect(packet::PUBREC).await;
    }
    peer.send(&packet::pubrel(4)).await;
    peer.expect(packet::PUBCOMP).await;
    peer.send(&packet::publish("a", b"y", 0, None, false, false)).await;
    assert_eq!(&delivery(&mut connected.inbound).await.payload[..], b"x");
    assert_eq!(&delivery(&mut connected.inbound).await.payload[..], b"y");
}

#[tokio::test]
async fn a_flood_that_nobody_takes_ends_as_lagging() {
    let (mut connected, mut peer) = pair(|options| options.inbound_messages = 10).await;
    let receipt = soon(connected.connection.publish(message("t", "x", 1))).await.unwrap();
    peer.expect(packet::PUBLISH).await;
    let flood = packet::publish("flood", &[0; 100], 0, None, false, false).repeat(100);
    while peer.try_send(&flood).await {}
    let mut delivered = 0;
    let end = loop {
        match soon(connected.inbound.next()).await.unwrap() {
            Incoming::Delivery(_) => delivered += 1,
            Incoming::Ended(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    // What fitted is handed over, and no more.
    assert_eq!(delivered, 80);
    let error = lost(end);
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert!(error.is_transient());
    assert!(
        error.to_string().starts_with("lagging: 81 messages of 8100 bytes"),
        "{error}"
    );
    assert!(soon(receipt).await.is_err());
}

#[tokio::test]
async fn the_byte_budget_counts_too_and_one_message_always_fits() {
    let (mut connected, mut peer) = pair(|options| options.inbound_bytes = 1_000).await;
    for n in 0..5u8 {
        peer.send(&packet::publish("a", &vec![n; 5_000], 0, None, false, false))
            .await;
        assert_eq!(delivery(&mut connected.inbound).await.payload[0], n);
    }
    for n in 0..2u8 {
        peer.send(&packet::publish("a", &[n; 600], 0, None, false, false)).await;
    }
    until("two are read", || connected.connection.activity().packets_read == 7).await;
    let error = lost(ended(&mut connected.inbound).await);
    assert!(
        error.to_string().starts_with("lagging: 2 messages of 1200 bytes"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_that_is_taken_stops_nothing() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    let connection = connected.connection.clone();
    let flood: Vec<u8> = packet::publish("flood", &[0; 100], 0, None, false, false).repeat(50);
    let publish = async {
        for _ in 0..200 {
            connection.publish(message("t", "x", 0)).await.unwrap().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let take = async {
        for _ in 0..200 * 50 {
            delivery(&mut connected.inbound).await;
        }
    };
    let broker = async {
        for _ in 0..200 {
            peer.send(&flood).await;
            peer.expect(packet::PUBLISH).await;
        }
    };
    soon(async { tokio::join!(publish, take, broker) }).await;
}

#[tokio::test]
async fn above_the_limit_ends_with_a_sentence_that_names_it() {
    let (mut connected, mut peer) = pair(|options| options.max_packet_size = 1_000).await;
    peer.send(&packet::publish("a", &[0; 980], 0, None, false, false)).await;
    assert_eq!(delivery(&mut connected.inbound).await.payload.len(), 980);
    peer.send(&packet::publish("a", &[0; 1_001], 0, None, false, false))
        .await;
    peer.send(&packet::publish("a", b"behind", 0, None, false, false)).await;
    match soon(connected.inbound.next()).await.unwrap() {
        Incoming::Ended(ended) => {
            let error = lost(ended);
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            let text = error.to_string();
            assert!(text.contains("1007") && text.contains("1000"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

/// Paho ignores what it does not know, and dies of some of it: it sees none of this.
#[tokio::test]
async fn what_is_not_mqtt_ends_the_connection() {
    for garbage in [
        packet::publish("", b"x", 0, None, false, false),
        packet::publish("a/#", b"x", 0, None, false, false),
        packet::publish("a\0b", b"x", 0, None, false, false),
        packet::raw(0x30, &[0, 2, 0xc3, 0x28]),
        packet::raw(0x36, &[0, 1, b'a', 0, 1]),
        packet::raw(0x32, &[0, 1, b'a', 0, 0]),
        packet::raw(0x30, &[0, 9, b'a']),
        packet::raw(0x40, &[]),
        packet::connack(false, 0),
        packet::raw(packet::DISCONNECT, &[]),
        packet::raw(packet::PINGREQ, &[]),
        vec![0x00, 0x00],
        vec![0xf0, 0x00],
        vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        let (mut connected, mut peer) = pair(|_| {}).await;
        peer.send(&garbage).await;
        let error = lost(ended(&mut connected.inbound).await);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{garbage:?}: {error}");
        peer.expect_closed().await;
    }
}

#[tokio::test]
async fn a_packet_may_come_byte_by_byte() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    for byte in packet::publish("a/b", &[5; 200], 1, Some(1), false, false) {
        peer.send(&[byte]).await;
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    assert_eq!(delivery(&mut connected.inbound).await.payload.len(), 200);
}
