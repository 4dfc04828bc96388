//! Every way in which a connection ends, what is known of each message then, and
//! what is left afterwards: nothing.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tars_ports::{EndReason, ErrorKind, Fate, Publisher, PublisherExt, QoS, Subscriber, TryPublishError};
use tars_testkit::scripted::ScriptedPeer;
use tars_testkit::scripted::packet::{self, parse_publish};

use crate::{delivery, ended, filter, lost, message, pair, soon, tasks, until};

/// All packets up to the end of the connection; publishes are acknowledged if asked for.
async fn rest(peer: &mut ScriptedPeer, answers: bool) -> Vec<(u8, Vec<u8>)> {
    let mut packets = Vec::new();
    while let Some((first, body)) = peer.next_packet().await {
        if answers
            && first & 0xf0 == packet::PUBLISH
            && let Some(id) = parse_publish(first, &body).id
        {
            peer.try_send(&packet::puback(id)).await;
        }
        packets.push((first, body));
    }
    packets
}

#[tokio::test]
async fn disconnect_writes_everything_out_first() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    for n in 0..100u8 {
        let receipt = soon(connected.connection.publish(message("t", vec![n; 2_000], n % 2)))
            .await
            .unwrap();
        drop(receipt);
    }
    let (done, packets) = tokio::join!(soon(connected.connection.disconnect()), rest(&mut peer, true));
    done.unwrap();
    let (last, packets) = packets.split_last().unwrap();
    assert_eq!(*last, (packet::DISCONNECT, Vec::new()));
    let published: Vec<_> = packets
        .iter()
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
            options.timeout = Duration::from_millis(1_000);
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
        let (done, packets) = tokio::join!(soon(connected.connection.disconnect()), rest(&mut peer, answers));
        done.unwrap();
        assert_eq!(packets.last().map(|(first, _)| *first), Some(packet::DISCONNECT));
        assert_eq!(packets.len(), if answers { 5 } else { 3 });
        let end = ended(&mut connected.inbound).await;
        assert_eq!(end.unsent, 0);
        for (n, receipt) in receipts.into_iter().enumerate() {
            let result = receipt.now_or_never().expect("settled before the end");
            match (answers, n, result) {
                (true, _, Ok(_)) => {}
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
    let mut taken = 0u64;
    while let Ok(receipt) = tokio::time::timeout(
        Duration::from_millis(500),
        connected.connection.publish(message("t", vec![0; 50_000], 0)),
    )
    .await
    {
        receipt.unwrap().await.unwrap();
        taken += 1;
        assert!(taken < 10_000, "it is not bounded");
    }
    let started = Instant::now();
    let (one, two) = tokio::join!(
        soon(connected.connection.disconnect()),
        soon(connected.connection.disconnect())
    );
    assert_eq!(one.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(two.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(started.elapsed() < Duration::from_secs(3));
    let end = ended(&mut connected.inbound).await;
    let unsent = end.unsent;
    assert_eq!(lost(end).kind(), ErrorKind::Timeout);
    assert_eq!(tasks(), 0);
    let whole = rest(&mut peer, false).await.len() as u64;
    // What lay in the buffers on the way is in neither.
    assert!(unsent > 128 && whole + unsent <= taken + 1, "{taken} {whole} {unsent}");
}

#[tokio::test]
async fn a_dropped_disconnect_goes_on_by_itself() {
    let (connected, mut peer) = pair(|_| {}).await;
    let mut disconnect = Box::pin(connected.connection.disconnect());
    assert!((&mut disconnect).now_or_never().is_none());
    drop(disconnect);
    drop(connected);
    assert_eq!(rest(&mut peer, false).await, [(packet::DISCONNECT, Vec::new())]);
    until("the task ends", || tasks() == 0).await;
}

/// It cannot be abrupt: DISCONNECT goes out, and nothing is waited for.
#[tokio::test]
async fn close_is_quick_and_says_disconnect() {
    let (mut connected, mut peer) = pair(|options| options.max_inflight = 1).await;
    let sent = soon(connected.connection.publish(message("t", "x", 1))).await.unwrap();
    let held = soon(connected.connection.publish(message("t", "x", 1))).await.unwrap();
    soon(connected.connection.publish(message("t", "x", 0)))
        .await
        .unwrap()
        .await
        .unwrap();
    peer.expect(packet::PUBLISH).await;
    let started = Instant::now();
    connected.connection.close();
    connected.connection.close();
    assert_eq!(rest(&mut peer, false).await, [(packet::DISCONNECT, Vec::new())]);
    let end = ended(&mut connected.inbound).await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(matches!(end.reason, EndReason::Closed));
    assert_eq!(end.unsent, 1);
    assert_eq!(soon(sent).await.unwrap_err().fate(), Some(Fate::Unknown));
    assert_eq!(soon(held).await.unwrap_err().fate(), Some(Fate::NotSent));
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
    peer.expect_closed().await;
    assert!(matches!(ended(&mut inbound).await.reason, EndReason::Closed));
    assert_eq!(tasks(), 0);
}

#[tokio::test]
async fn dropping_the_inbound_stream_closes() {
    let (connected, mut peer) = pair(|_| {}).await;
    let receipt = soon(connected.connection.publish(message("t", "x", 1))).await.unwrap();
    peer.expect(packet::PUBLISH).await;
    drop(connected.inbound);
    peer.expect_closed().await;
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
        peer.expect_closed().await;
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
async fn when_the_link_ends_every_receipt_settles_with_its_fate() {
    for clean in [true, false] {
        let (mut connected, mut peer) = pair(|options| {
            options.max_inflight = 3;
            options.clean_session = clean;
        })
        .await;
        let mut receipts = Vec::new();
        for (n, qos) in [1, 2, 1, 1, 2].into_iter().enumerate() {
            let message = message("t", vec![n as u8], qos).with_key(n as u64);
            receipts.push(soon(connected.connection.publish(message)).await.unwrap());
        }
        for n in 0..2 {
            soon(connected.connection.publish(message("t", vec![n], 0)))
                .await
                .unwrap()
                .await
                .unwrap();
        }
        for _ in 0..3 {
            peer.expect(packet::PUBLISH).await;
        }
        peer.reset();
        let ended = ended(&mut connected.inbound).await;
        assert_eq!(ended.unsent, 2, "QoS 0 behind the full window");
        assert!(ended.session.outbound.is_empty() && ended.session.inbound.is_empty());
        assert_eq!(lost(ended).kind(), ErrorKind::ConnectionLost);
        for (n, receipt) in receipts.into_iter().enumerate() {
            let error = receipt.now_or_never().expect("settled before the end").unwrap_err();
            let fate = if n < 3 { Fate::Unknown } else { Fate::NotSent };
            assert_eq!(error.fate(), Some(fate), "receipt {n}");
            assert_eq!(error.kind(), ErrorKind::ConnectionLost);
        }
        match connected.connection.try_publish(message("t", "x", 1)) {
            Err(TryPublishError::Failed(error)) => assert_eq!(error.kind(), ErrorKind::NotConnected),
            other => panic!("{other:?}"),
        }
        let error = soon(connected.connection.ready(QoS::AtLeastOnce)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    }
}

#[tokio::test]
async fn an_ack_that_came_together_with_the_end_counts_or_is_unknown() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    let receipt = soon(connected.connection.publish(message("t", "x", 1))).await.unwrap();
    peer.expect(packet::PUBLISH).await;
    peer.send(&packet::puback(1)).await;
    drop(peer);
    ended(&mut connected.inbound).await;
    // Rarely, paho sees the end before it has read the acknowledgement.
    if let Err(error) = soon(receipt).await {
        assert_eq!(error.fate(), Some(Fate::Unknown));
    }
}

#[tokio::test]
async fn qos_0_that_was_taken_over_and_never_written_is_counted() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    let mut taken = 0u64;
    // The peer does not read: buffers fill, then nothing moves any more.
    while let Ok(receipt) = tokio::time::timeout(
        Duration::from_millis(500),
        connected.connection.publish(message("t", vec![0; 50_000], 0)),
    )
    .await
    {
        receipt.unwrap().await.unwrap();
        taken += 1;
        assert!(taken < 10_000, "it is not bounded");
    }
    connected.connection.close();
    let ended = ended(&mut connected.inbound).await;
    let whole = rest(&mut peer, false).await.len() as u64;
    // What lay in the buffers on the way is in neither; one may have been written at
    // the end without paho saying so.
    assert!(whole + ended.unsent <= taken + 1);
    assert!(ended.unsent > 128);
}

#[test]
fn a_runtime_that_ends_settles_everything() {
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        assert_eq!(soon(receipt).await.unwrap_err().fate(), Some(Fate::Unknown));
        assert!(handle.publish(message("t", "x", 0)).await.is_err());
        assert_eq!(lost(ended(&mut inbound).await).kind(), ErrorKind::Internal);
        assert!(soon(handle.disconnect()).await.is_err());
    });
}
