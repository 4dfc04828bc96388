//! Receiving: what is handed over, what is acknowledged when, and where reading stops.

use std::time::Duration;

use futures_util::FutureExt;
use tars_ports::{AckOutcome, ErrorKind, PublisherExt, QoS, Subscriber};
use tars_testkit::scripted::packet::{self, leading_id};

use crate::{delivery, ended, filter, lost, message, pair, soon, until};

#[tokio::test]
async fn everything_about_a_message_arrives() {
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
    }
    for (topic, payload, qos, retain, dup) in &cases {
        let got = delivery(&mut connected.inbound).await;
        assert_eq!((got.topic.as_str(), got.qos.as_u8()), (*topic, *qos));
        assert_eq!((got.retain, got.dup, got.token.is_some()), (*retain, *dup, *qos > 0));
        assert_eq!(&got.payload[..], &payload[..]);
    }
}

#[tokio::test]
async fn acknowledgements_leave_in_the_order_of_arrival() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    let mut tokens = Vec::new();
    for id in 1..=4 {
        peer.send(&packet::publish("a", b"", 1, Some(id * 10), false, false))
            .await;
        tokens.push(delivery(&mut connected.inbound).await.token.unwrap());
    }
    for n in [3, 1, 1] {
        connected.connection.ack(tokens[n], AckOutcome::Done);
    }
    peer.expect_silence(Duration::from_millis(50)).await;
    connected.connection.ack(tokens[0], AckOutcome::Done);
    assert_eq!(leading_id(&peer.expect(packet::PUBACK).await.1), 10);
    assert_eq!(leading_id(&peer.expect(packet::PUBACK).await.1), 20);
    connected.connection.ack(tokens[2], AckOutcome::Done);
    assert_eq!(leading_id(&peer.expect(packet::PUBACK).await.1), 30);
    assert_eq!(leading_id(&peer.expect(packet::PUBACK).await.1), 40);
}

#[tokio::test]
async fn duplicates_of_qos_1_are_delivered() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    for dup in [false, true] {
        peer.send(&packet::publish("a", b"", 1, Some(1), false, dup)).await;
        assert_eq!(delivery(&mut connected.inbound).await.dup, dup);
    }
}

#[tokio::test]
async fn an_acknowledgement_does_not_wait_behind_a_full_window() {
    let (mut connected, mut peer) = pair(|options| options.max_inflight = 1).await;
    let mut receipts = Vec::new();
    for _ in 0..10 {
        receipts.push(soon(connected.connection.publish(message("t", "x", 1))).await.unwrap());
    }
    peer.expect(packet::PUBLISH).await;
    peer.send(&packet::publish("a", b"", 1, Some(42), false, false)).await;
    let token = delivery(&mut connected.inbound).await.token.unwrap();
    // From another thread: it needs no runtime.
    let connection = connected.connection.clone();
    std::thread::spawn(move || connection.ack(token, AckOutcome::Done))
        .join()
        .unwrap();
    assert_eq!(leading_id(&peer.expect(packet::PUBACK).await.1), 42);
}

#[tokio::test]
async fn at_the_budget_reading_pauses_and_everything_else_goes_on() {
    let (mut connected, mut peer) = pair(|options| options.inbound_messages = 3).await;
    for id in 1..=10 {
        peer.send(&packet::publish("a", &[id as u8], 1, Some(id), false, false))
            .await;
    }
    let connection = connected.connection.clone();
    until("reading pauses", || connection.activity().reading_paused).await;
    assert_eq!(connection.activity().packets_read, 3);
    // Taking messages frees nothing, acknowledging does.
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(delivery(&mut connected.inbound).await.token.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(connection.activity().reading_paused);
    soon(connection.publish(message("t", "x", 0)))
        .await
        .unwrap()
        .await
        .unwrap();
    peer.expect(packet::PUBLISH).await;
    connection.ack(tokens[0], AckOutcome::Done);
    peer.expect(packet::PUBACK).await;
    assert_eq!(&delivery(&mut connected.inbound).await.payload[..], &[4]);
    until("reading pauses again", || connection.activity().reading_paused).await;
    assert_eq!(connection.activity().packets_read, 4);
}

#[tokio::test]
async fn the_byte_budget_pauses_too_and_one_message_always_fits() {
    let (mut connected, mut peer) = pair(|options| options.inbound_bytes = 1_000).await;
    for n in 0..5u8 {
        peer.send(&packet::publish("a", &vec![n; 5_000], 0, None, false, false))
            .await;
    }
    let connection = connected.connection.clone();
    for n in 0..5u8 {
        until("one is read", || connection.activity().packets_read == u64::from(n) + 1).await;
        assert!(connection.activity().reading_paused);
        assert_eq!(delivery(&mut connected.inbound).await.payload[0], n);
    }
    until("reading goes on", || !connection.activity().reading_paused).await;
}

#[tokio::test]
async fn an_answer_behind_messages_above_the_budget_is_found() {
    let (mut connected, mut peer) = pair(|options| options.inbound_messages = 4).await;
    for id in 1..=6 {
        peer.send(&packet::publish("a", &[id as u8], 1, Some(id), false, false))
            .await;
    }
    let connection = connected.connection.clone();
    until("reading pauses", || connection.activity().reading_paused).await;
    // No handler finishes: they all wait for these.
    let receipt = soon(connection.publish(message("t", "x", 1))).await.unwrap();
    peer.expect(packet::PUBLISH).await;
    let filters = [(filter("f"), QoS::AtMostOnce)];
    let (granted, ()) = tokio::join!(soon(connection.subscribe(&filters)), async {
        let (_, body) = peer.expect(packet::SUBSCRIBE).await;
        let mut answers = packet::publish("a", &[7], 1, Some(7), false, false);
        answers.extend(packet::puback(1));
        answers.extend(packet::suback(leading_id(&body), &[0]));
        peer.send(&answers).await;
    });
    granted.unwrap();
    soon(receipt).await.unwrap();
    // But it has an end: twice the budget.
    let mut receipt = soon(connection.publish(message("t", "x", 1))).await.unwrap();
    let (_, body) = peer.expect(packet::PUBLISH).await;
    for id in 8..=9 {
        peer.send(&packet::publish("a", &[id as u8], 1, Some(id), false, false))
            .await;
    }
    peer.send(&packet::puback(leading_id(&body[3..]))).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(connection.activity().reading_paused);
    assert!((&mut receipt).now_or_never().is_none());
    let token = delivery(&mut connected.inbound).await.token.unwrap();
    connection.ack(token, AckOutcome::Done);
    soon(receipt).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_read_does_not_stop_our_reading() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    // Fill everything on the way to the peer.
    while tokio::time::timeout(
        Duration::from_millis(200),
        connected.connection.publish(message("t", vec![0; 50_000], 0)),
    )
    .await
    .is_ok()
    {}
    for id in 1..=100 {
        peer.send(&packet::publish("a", &[id as u8], 1, Some(id), false, false))
            .await;
        let got = delivery(&mut connected.inbound).await;
        connected.connection.ack(got.token.unwrap(), AckOutcome::Done);
    }
    // And once it reads, all of it comes.
    loop {
        if peer.read_packet().await == (packet::PUBACK, vec![0, 100]) {
            break;
        }
    }
}

#[tokio::test]
async fn a_flood_does_not_stop_our_writing() {
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
    // The header is enough.
    peer.send(&[0x30, 0xff, 0xff, 0xff, 0x7f]).await;
    let error = lost(ended(&mut connected.inbound).await);
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let text = error.to_string();
    assert!(text.contains("268435455") && text.contains("1000"), "{text}");
}

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
        packet::raw(0x90, &[0, 1, 3]),
        packet::raw(0xa2, &[0, 1, 0, 9, 1]),
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
        tokio::task::yield_now().await;
    }
    assert_eq!(delivery(&mut connected.inbound).await.payload.len(), 200);
}
