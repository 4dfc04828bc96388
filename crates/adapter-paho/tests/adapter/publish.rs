//! Sending: what leaves, in which order, and when receipts settle.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tars_ports::{ErrorKind, Fate, Publisher, PublisherExt, TryPublishError};
use tars_testkit::scripted::packet::{self, parse_publish};

use crate::{message, pair, soon};

#[tokio::test]
async fn what_is_published_is_what_leaves() {
    let (connected, mut peer) = pair(|_| {}).await;
    let connection = &connected.connection;
    for (topic, payload, qos, retain) in [
        ("plain", b"x".to_vec(), 0, false),
        ("日本/Grüße", Vec::new(), 1, true),
        ("$SYS/x", vec![0, 255, 10], 2, true),
        ("großes", vec![7; 1024 * 1024], 1, false),
    ] {
        let message = message(topic, payload.clone(), qos).with_retain(retain);
        let size = message.packet_size();
        let receipt = soon(connection.publish(message)).await.unwrap();
        let (first, body) = peer.expect(packet::PUBLISH).await;
        let sent = parse_publish(first, &body);
        assert_eq!(
            (sent.topic.as_str(), sent.qos, sent.retain, sent.dup),
            (topic, qos, retain, false)
        );
        assert_eq!(sent.payload, payload);
        assert_eq!(packet::raw(first, &body).len(), size);
        match (qos, sent.id) {
            (1, Some(id)) => peer.send(&packet::puback(id)).await,
            (2, Some(id)) => {
                peer.send(&packet::pubrec(id)).await;
                assert_eq!(peer.read_packet().await, (0x62, id.to_be_bytes().to_vec()));
                peer.send(&packet::pubcomp(id)).await;
            }
            _ => assert_eq!(sent.id, None),
        }
        soon(receipt).await.unwrap();
    }
}

#[tokio::test]
async fn receipts_settle_with_their_own_ack_in_any_order() {
    let (connected, mut peer) = pair(|_| {}).await;
    let mut receipts = Vec::new();
    let mut ids = Vec::new();
    for n in 0..10u8 {
        receipts.push(
            soon(connected.connection.publish(message("t", vec![n], 1)))
                .await
                .unwrap(),
        );
        let (first, body) = peer.expect(packet::PUBLISH).await;
        let sent = parse_publish(first, &body);
        assert_eq!(sent.payload, [n]);
        ids.push(sent.id.unwrap());
    }
    for n in [9, 0, 5] {
        peer.send(&packet::puback(ids[n])).await;
        soon(&mut receipts[n]).await.unwrap();
    }
    assert!((&mut receipts[1]).now_or_never().is_none());
}

#[tokio::test]
async fn two_small_publishes_do_not_wait_for_nagle() {
    let (connected, mut peer) = pair(|_| {}).await;
    let mut worst = Duration::ZERO;
    for _ in 0..20 {
        let started = Instant::now();
        for _ in 0..2 {
            soon(connected.connection.publish(message("t", "x", 0)))
                .await
                .unwrap()
                .await
                .unwrap();
            // Two writes: the driver runs in between.
            tokio::task::yield_now().await;
        }
        peer.expect(packet::PUBLISH).await;
        peer.expect(packet::PUBLISH).await;
        worst = worst.max(started.elapsed());
    }
    assert!(worst < Duration::from_millis(35), "{worst:?}");
}

#[tokio::test]
async fn the_window_holds_and_opens_with_each_ack() {
    let (connected, mut peer) = pair(|options| {
        options.max_inflight = 3;
        options.max_inflight_qos2 = 1;
    })
    .await;
    let mut receipts = Vec::new();
    for n in 0..8u8 {
        receipts.push(
            soon(connected.connection.publish(message("t", vec![n], 1)))
                .await
                .unwrap(),
        );
    }
    let mut ids = Vec::new();
    for n in 0..3u8 {
        let (first, body) = peer.expect(packet::PUBLISH).await;
        let sent = parse_publish(first, &body);
        assert_eq!(sent.payload, [n]);
        ids.push(sent.id.unwrap());
    }
    peer.expect_silence(Duration::from_millis(100)).await;
    for n in 3..8u8 {
        peer.send(&packet::puback(ids.remove(0))).await;
        let (first, body) = peer.expect(packet::PUBLISH).await;
        let sent = parse_publish(first, &body);
        assert_eq!(sent.payload, [n]);
        ids.push(sent.id.unwrap());
    }
    for id in ids {
        peer.send(&packet::puback(id)).await;
    }
    for receipt in receipts {
        soon(receipt).await.unwrap();
    }
    // QoS 2 has a window of its own.
    let _one = soon(connected.connection.publish(message("t", "1", 2))).await.unwrap();
    // While it is full QoS 1 waits too; see `Outbox::take_publishes`.
    let _two = soon(connected.connection.publish(message("t", "2", 1))).await.unwrap();
    let _three = soon(connected.connection.publish(message("t", "3", 2))).await.unwrap();
    let (first, body) = peer.expect(packet::PUBLISH).await;
    peer.expect_silence(Duration::from_millis(100)).await;
    let id = parse_publish(first, &body).id.unwrap();
    peer.send(&packet::pubrec(id)).await;
    peer.expect(packet::PUBREL).await;
    peer.send(&packet::pubcomp(id)).await;
    peer.expect(packet::PUBLISH).await;
    peer.expect(packet::PUBLISH).await;
}

#[tokio::test]
async fn at_the_bound_the_message_comes_back_and_ready_tells_of_room() {
    let (connected, mut peer) = pair(|options| options.max_inflight = 1).await;
    let connection = &connected.connection;
    soon(connection.ready(tars_ports::QoS::AtLeastOnce)).await.unwrap();
    let mut taken = 0u32;
    let back = loop {
        match connection.try_publish(message("t", taken.to_be_bytes().to_vec(), 1)) {
            Ok(_) => taken += 1,
            Err(TryPublishError::Full(message)) => break message,
            Err(TryPublishError::Failed(error)) => panic!("{error}"),
            Err(_) => unreachable!(),
        }
        assert!(taken < 10_000, "the queue has no bound");
        tokio::task::yield_now().await;
    };
    assert_eq!(back.payload, taken.to_be_bytes().to_vec());
    assert!(connection.ready(tars_ports::QoS::AtLeastOnce).now_or_never().is_none());
    // Waits that were given up hold nothing.
    for _ in 0..500 {
        let _ = tokio::time::timeout(Duration::ZERO, connection.ready(tars_ports::QoS::AtLeastOnce)).await;
    }
    let (first, body) = peer.expect(packet::PUBLISH).await;
    let ready = connection.ready(tars_ports::QoS::AtLeastOnce);
    peer.send(&packet::puback(parse_publish(first, &body).id.unwrap()))
        .await;
    soon(ready).await.unwrap();
    assert!(connection.try_publish(back).is_ok());
}

#[tokio::test]
async fn too_large_is_refused_before_a_byte_leaves() {
    let (connected, mut peer) = pair(|options| options.max_packet_size = 100).await;
    let connection = &connected.connection;
    let fits = message("t", vec![1; 100 - 2 - 3], 0);
    assert_eq!(fits.packet_size(), 100);
    for qos in [0, 1, 2] {
        match connection.try_publish(message("t", vec![1; 96], qos)) {
            Err(TryPublishError::Failed(error)) => {
                assert_eq!((error.kind(), error.fate()), (ErrorKind::TooLarge, Some(Fate::NotSent)));
                assert!(error.to_string().contains("100"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    soon(connection.publish(fits)).await.unwrap().await.unwrap();
    assert_eq!(peer.expect(packet::PUBLISH).await.1.len(), 98);
}
