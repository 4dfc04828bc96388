//! Every way in which a connection ends, and what is left afterwards: nothing.

use std::time::{Duration, Instant};

use tars_ports::{AckOutcome, EndReason, ErrorKind, Fate, PublisherExt, QoS, Subscriber};
use tars_testkit::scripted::packet::{self, parse_publish};

use crate::{delivery, ended, filter, lost, message, pair, soon, tasks, until};

/// All packets up to the end of the connection.
async fn rest(peer: &mut tars_testkit::scripted::ScriptedPeer) -> Vec<(u8, Vec<u8>)> {
    let mut packets = Vec::new();
    while let Some(packet) = peer.next_packet().await {
        packets.push(packet);
    }
    packets
}

#[tokio::test]
async fn disconnect_writes_everything_out_first() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    peer.send(&packet::publish("a", b"", 1, Some(9), false, false)).await;
    let token = delivery(&mut connected.inbound).await.token.unwrap();
    for n in 0..100u8 {
        let receipt = soon(connected.connection.publish(message("t", vec![n; 2_000], n % 2)))
            .await
            .unwrap();
        drop(receipt);
    }
    connected.connection.ack(token, AckOutcome::Done);
    let (done, packets) = tokio::join!(soon(connected.connection.disconnect()), rest(&mut peer));
    done.unwrap();
    let (last, packets) = packets.split_last().unwrap();
    assert_eq!(*last, (packet::DISCONNECT, Vec::new()));
    assert_eq!(packets.iter().filter(|(first, _)| *first == packet::PUBACK).count(), 1);
    let published = packets.iter().filter(|(first, _)| first & 0xf0 == packet::PUBLISH);
    let published: Vec<_> = published
        .map(|(first, body)| parse_publish(*first, body).payload[0])
        .collect();
    assert_eq!(published, (0..100).collect::<Vec<_>>());
    let end = ended(&mut connected.inbound).await;
    assert!(matches!(end.reason, EndReason::Disconnected));
    assert_eq!(end.unsent, 0);
    // Again is no error, anything else is.
    soon(connected.connection.disconnect()).await.unwrap();
    connected.connection.close();
    let error = soon(connected.connection.subscribe(&[(filter("a"), QoS::AtMostOnce)]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(tasks(), 0);
}

#[tokio::test]
async fn disconnect_waits_for_the_window_and_gives_it_up_in_time() {
    for answers in [true, false] {
        let (mut connected, mut peer) = pair(|options| {
            options.max_inflight = 1;
            options.timeout = Duration::from_millis(600);
        })
        .await;
        let mut receipts = Vec::new();
        for n in 0..3 {
            receipts.push(
                soon(connected.connection.publish(message("t", vec![n], 1)))
                    .await
                    .unwrap(),
            );
        }
        soon(connected.connection.publish(message("t", "last", 0)))
            .await
            .unwrap()
            .await
            .unwrap();
        let broker = async {
            let mut packets = Vec::new();
            while let Some((first, body)) = peer.next_packet().await {
                if first & 0xf0 == packet::PUBLISH
                    && answers
                    && let Some(id) = parse_publish(first, &body).id
                {
                    peer.send(&packet::puback(id)).await;
                }
                packets.push(first);
            }
            packets
        };
        let (done, packets) = tokio::join!(soon(connected.connection.disconnect()), broker);
        done.unwrap();
        assert_eq!(packets.last(), Some(&packet::DISCONNECT));
        assert_eq!(packets.len(), if answers { 5 } else { 3 });
        let end = ended(&mut connected.inbound).await;
        assert_eq!(end.unsent, 0);
        for (n, receipt) in receipts.into_iter().enumerate() {
            match (answers, n, soon(receipt).await) {
                // The very last one may be answered after DISCONNECT.
                (true, _, Ok(_)) | (true, 2, Err(_)) => {}
                (false, 0, Err(error)) => assert_eq!(error.fate(), Some(Fate::Unknown)),
                (false, _, Err(error)) => assert_eq!(error.fate(), Some(Fate::NotSent)),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn disconnect_from_a_peer_that_does_not_read_is_bounded() {
    let (mut connected, mut peer) = pair(|options| options.timeout = Duration::from_millis(500)).await;
    while tokio::time::timeout(
        Duration::from_millis(200),
        connected.connection.publish(message("t", vec![0; 50_000], 0)),
    )
    .await
    .is_ok()
    {}
    let started = Instant::now();
    let (one, two) = tokio::join!(
        soon(connected.connection.disconnect()),
        soon(connected.connection.disconnect())
    );
    assert_eq!(one.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(two.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(started.elapsed() < Duration::from_secs(2));
    let end = ended(&mut connected.inbound).await;
    assert!(end.unsent > 0);
    assert_eq!(lost(end).kind(), ErrorKind::Timeout);
    assert_eq!(tasks(), 0);
    peer.expect_closed().await;
}

#[tokio::test]
async fn a_dropped_disconnect_goes_on_by_itself() {
    let (connected, mut peer) = pair(|_| {}).await;
    let mut disconnect = Box::pin(connected.connection.disconnect());
    assert!(futures_util::FutureExt::now_or_never(&mut disconnect).is_none());
    drop(disconnect);
    drop(connected);
    assert_eq!(rest(&mut peer).await, [(packet::DISCONNECT, Vec::new())]);
    until("the task ends", || tasks() == 0).await;
}

#[tokio::test]
async fn close_is_abrupt() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    let receipt = soon(connected.connection.publish(message("t", "x", 1))).await.unwrap();
    peer.expect(packet::PUBLISH).await;
    connected.connection.close();
    connected.connection.close();
    assert_eq!(rest(&mut peer).await, []);
    let end = ended(&mut connected.inbound).await;
    assert!(matches!(end.reason, EndReason::Closed));
    assert_eq!(soon(receipt).await.unwrap_err().fate(), Some(Fate::Unknown));
    assert_eq!(
        soon(connected.connection.disconnect()).await.unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    assert_eq!(tasks(), 0);
}

#[tokio::test]
async fn dropping_the_last_handle_closes() {
    let (connected, mut peer) = pair(|_| {}).await;
    let mut inbound = connected.inbound;
    let other = connected.connection.clone();
    drop(connected.connection);
    peer.expect_silence(Duration::from_millis(50)).await;
    drop(other);
    assert_eq!(rest(&mut peer).await, []);
    assert!(matches!(ended(&mut inbound).await.reason, EndReason::Closed));
    assert_eq!(tasks(), 0);
}

#[tokio::test]
async fn dropping_the_inbound_stream_closes() {
    let (connected, mut peer) = pair(|_| {}).await;
    let receipt = soon(connected.connection.publish(message("t", "x", 1))).await.unwrap();
    peer.expect(packet::PUBLISH).await;
    drop(connected.inbound);
    assert_eq!(rest(&mut peer).await, []);
    assert!(soon(receipt).await.is_err());
    assert!(connected.connection.publish(message("t", "x", 0)).await.is_err());
    until("the task ends", || tasks() == 0).await;
}

#[tokio::test]
async fn dropping_everything_leaves_nothing() {
    for reads in [true, false] {
        let (connected, mut peer) = pair(|_| {}).await;
        if !reads {
            for _ in 0..100 {
                drop(connected.connection.try_publish(message("t", vec![0; 1_000_000], 0)));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(connected);
        until("the task ends", || tasks() == 0).await;
        assert!(
            rest(&mut peer)
                .await
                .iter()
                .all(|(first, _)| *first != packet::DISCONNECT)
        );
    }
}

#[tokio::test]
async fn a_closed_link_is_the_end_and_what_was_read_still_comes() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    for n in 0..3 {
        peer.send(&packet::publish("a", &[n], 0, None, false, false)).await;
    }
    drop(peer);
    for n in 0..3 {
        assert_eq!(&delivery(&mut connected.inbound).await.payload[..], &[n]);
    }
    let error = lost(ended(&mut connected.inbound).await);
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_runtime_that_ends_settles_everything() {
    let (handle, receipt, mut inbound) = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (connected, mut peer) = pair(|_| {}).await;
            let receipt = connected.connection.publish(message("t", "x", 1)).await.unwrap();
            peer.expect(packet::PUBLISH).await;
            (connected.connection, receipt, connected.inbound)
        })
    })
    .join()
    .unwrap();
    assert_eq!(soon(receipt).await.unwrap_err().fate(), Some(Fate::Unknown));
    assert!(handle.publish(message("t", "x", 0)).await.is_err());
    assert_eq!(lost(ended(&mut inbound).await).kind(), ErrorKind::Internal);
    assert!(soon(handle.disconnect()).await.is_err());
}
