//! What is known of a message when its connection ends.

use std::time::Duration;

use futures_util::FutureExt;
use tars_ports::{ErrorKind, Fate, PublisherExt, TryPublishError};
use tars_testkit::scripted::packet;

use crate::{ended, lost, message, pair, soon};

#[tokio::test]
async fn when_the_link_ends_every_receipt_settles_with_its_fate() {
    let (mut connected, mut peer) = pair(|options| options.max_inflight = 3).await;
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
    assert_eq!(ended.session.outbound.len(), 1);
    let flow = &ended.session.outbound[0];
    assert_eq!((flow.packet_id, flow.released, flow.message.key), (2, false, 1));
    assert_eq!(lost(ended).kind(), ErrorKind::ConnectionLost);
    for (n, receipt) in receipts.into_iter().enumerate() {
        let error = receipt.now_or_never().expect("settled before the end").unwrap_err();
        let fate = if n < 3 { Fate::Unknown } else { Fate::NotSent };
        assert_eq!(error.fate(), Some(fate), "receipt {n}");
    }
    match connected.connection.try_publish(message("t", "x", 1)) {
        Err(TryPublishError::Failed(error)) => assert_eq!(error.kind(), ErrorKind::NotConnected),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        soon(connected.connection.ready(tars_ports::QoS::AtLeastOnce))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::NotConnected
    );
}

#[tokio::test]
async fn acks_that_came_before_a_broken_write_still_count() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    let receipt = soon(connected.connection.publish(message("t", "x", 1))).await.unwrap();
    peer.expect(packet::PUBLISH).await;
    peer.send(&packet::puback(1)).await;
    drop(peer);
    ended(&mut connected.inbound).await;
    soon(receipt).await.unwrap();
}

#[tokio::test]
async fn qos_0_that_was_taken_over_and_never_written_is_counted() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    let mut taken = 0u64;
    // The peer does not read: buffers fill, then nothing moves any more.
    while let Ok(receipt) = tokio::time::timeout(
        Duration::from_millis(300),
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
    let mut whole = 0;
    while let Some((first, _)) = peer.next_packet().await {
        assert_eq!(first, packet::PUBLISH);
        whole += 1;
    }
    assert_eq!(taken, whole + ended.unsent);
    assert!(ended.unsent > 128);
}
