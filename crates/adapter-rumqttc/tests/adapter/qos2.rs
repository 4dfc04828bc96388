//! QoS 2 in both directions, across connections.

use std::time::Duration;

use futures_util::FutureExt;
use tars_ports::{AckOutcome, OutboundQos2, PublisherExt, SessionState};
use tars_testkit::scripted::packet::{self, leading_id, parse_publish};

use crate::{delivery, ended, message, pair, pair_with, soon};

fn session() -> SessionState {
    let mut session = SessionState::new();
    let flow = |id, released, key| OutboundQos2::new(id, released, message("t", vec![7], 2).with_key(key));
    session.outbound = vec![flow(5, false, 50), flow(2, true, 20), flow(9, false, 90)];
    session.inbound = vec![11, 12];
    session
}

#[tokio::test]
async fn outbound_flows_go_on_where_they_were() {
    let (connected, mut peer) = pair_with(session(), true, |options| options.clean_session = false).await;
    assert!(connected.session_present);
    let keys: Vec<_> = connected.resumed.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [50, 20, 90]);
    for (id, released) in [(5, false), (2, true), (9, false)] {
        let (first, body) = peer.read_packet().await;
        if released {
            assert_eq!((first, leading_id(&body)), (0x62, id));
        } else {
            let sent = parse_publish(first, &body);
            assert_eq!(
                (sent.qos, sent.dup, sent.id, &sent.payload[..]),
                (2, true, Some(id), &[7][..])
            );
        }
    }
    // New publishes take other ids.
    let mut used = Vec::new();
    for _ in 0..8 {
        let _receipt = soon(connected.connection.publish(message("new", "", 1))).await.unwrap();
        let (first, body) = peer.expect(packet::PUBLISH).await;
        used.push(parse_publish(first, &body).id.unwrap());
    }
    assert_eq!(used, [1, 3, 4, 6, 7, 8, 10, 11]);
    for id in [5, 9] {
        peer.send(&packet::pubrec(id)).await;
        assert_eq!(peer.read_packet().await, (0x62, vec![0, id as u8]));
    }
    for id in [2, 9, 5] {
        peer.send(&packet::pubcomp(id)).await;
    }
    for (_, receipt) in connected.resumed {
        soon(receipt).await.unwrap();
    }
}

#[tokio::test]
async fn a_resumed_flow_that_is_cut_again_stays_in_the_session() {
    let (mut connected, peer) = pair_with(session(), true, |options| options.clean_session = false).await;
    drop(peer);
    let ended = ended(&mut connected.inbound).await;
    let flows: Vec<_> = ended
        .session
        .outbound
        .iter()
        .map(|flow| (flow.packet_id, flow.released))
        .collect();
    assert_eq!(flows, [(5, false), (2, true), (9, false)]);
    assert_eq!(ended.session.inbound, [11, 12]);
}

#[tokio::test]
async fn without_a_session_everything_is_forgotten() {
    let (mut connected, mut peer) = pair_with(session(), false, |options| options.clean_session = false).await;
    assert!(!connected.session_present && connected.resumed.is_empty());
    peer.send(&packet::publish("a", b"new", 2, Some(11), false, false))
        .await;
    assert_eq!(&delivery(&mut connected.inbound).await.payload[..], b"new");
    let _receipt = soon(connected.connection.publish(message("t", "", 2))).await.unwrap();
    let (first, body) = peer.read_packet().await;
    assert_eq!(parse_publish(first, &body).id, Some(1));
}

#[tokio::test]
async fn a_flow_carries_its_phase_into_the_session() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    let mut receipts = Vec::new();
    for n in 0..3 {
        receipts.push(
            soon(
                connected
                    .connection
                    .publish(message("t", vec![n], 2).with_key(n.into())),
            )
            .await
            .unwrap(),
        );
        peer.expect(packet::PUBLISH).await;
    }
    peer.send(&packet::pubrec(2)).await;
    peer.expect(packet::PUBREL).await;
    peer.send(&packet::pubrec(1)).await;
    peer.expect(packet::PUBREL).await;
    peer.send(&packet::pubcomp(1)).await;
    soon(receipts.remove(0)).await.unwrap();
    drop(peer);
    let ended = ended(&mut connected.inbound).await;
    let flows: Vec<_> = ended
        .session
        .outbound
        .iter()
        .map(|flow| (flow.packet_id, flow.released, flow.message.key))
        .collect();
    assert_eq!(flows, [(2, true, 1), (3, false, 2)]);
}

#[tokio::test]
async fn pubrel_is_answered_also_for_an_unknown_id() {
    let (_connected, mut peer) = pair(|_| {}).await;
    for id in [1, 77] {
        peer.send(&packet::pubrel(id)).await;
        assert_eq!(peer.read_packet().await, (packet::PUBCOMP, id.to_be_bytes().to_vec()));
    }
}

#[tokio::test]
async fn a_message_is_delivered_once_in_every_phase() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    let again = packet::publish("a", b"x", 2, Some(4), false, true);
    peer.send(&packet::publish("a", b"x", 2, Some(4), false, false)).await;
    let first = delivery(&mut connected.inbound).await;
    // Not yet acknowledged: nothing, and no second delivery.
    peer.send(&again).await;
    peer.expect_silence(Duration::from_millis(50)).await;
    connected.connection.ack(first.token.unwrap(), AckOutcome::Done);
    assert_eq!(leading_id(&peer.expect(packet::PUBREC).await.1), 4);
    // Acknowledged: PUBREC again.
    peer.send(&again).await;
    assert_eq!(leading_id(&peer.expect(packet::PUBREC).await.1), 4);
    assert!(crate::StreamExt::next(&mut connected.inbound).now_or_never().is_none());
    peer.send(&packet::pubrel(4)).await;
    peer.expect(packet::PUBCOMP).await;
    // Released: the id stands for a new message.
    peer.send(&packet::publish("a", b"y", 2, Some(4), false, false)).await;
    assert_eq!(&delivery(&mut connected.inbound).await.payload[..], b"y");
}

#[tokio::test]
async fn what_was_acknowledged_before_is_not_delivered_after_a_resume() {
    let (mut connected, mut peer) = pair(|options| options.clean_session = false).await;
    for id in 1..=4 {
        peer.send(&packet::publish("a", &[id as u8], 2, Some(id), false, false))
            .await;
    }
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(delivery(&mut connected.inbound).await.token.unwrap());
    }
    // 1 is acknowledged and released, 2 acknowledged, 4 done behind the unfinished 3.
    for n in [0, 1, 3] {
        connected.connection.ack(tokens[n], AckOutcome::Done);
    }
    peer.expect(packet::PUBREC).await;
    peer.expect(packet::PUBREC).await;
    peer.send(&packet::pubrel(1)).await;
    peer.expect(packet::PUBCOMP).await;
    drop(peer);
    let ended = ended(&mut connected.inbound).await;
    assert_eq!(ended.session.inbound, [2, 4]);

    let (mut connected, mut peer) = pair_with(ended.session, true, |options| options.clean_session = false).await;
    // The old connection's token means nothing here.
    connected.connection.ack(tokens[2], AckOutcome::Done);
    for id in 2..=4 {
        peer.send(&packet::publish("a", &[id as u8], 2, Some(id), false, true))
            .await;
    }
    for id in [2, 4] {
        assert_eq!(leading_id(&peer.expect(packet::PUBREC).await.1), id);
    }
    let third = delivery(&mut connected.inbound).await;
    assert_eq!(&third.payload[..], &[3]);
    assert!(third.dup);
    peer.send(&packet::pubrel(2)).await;
    peer.expect(packet::PUBCOMP).await;
    peer.expect_silence(Duration::from_millis(50)).await;
    assert!(crate::StreamExt::next(&mut connected.inbound).now_or_never().is_none());
}
