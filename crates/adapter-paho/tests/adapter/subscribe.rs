//! SUBSCRIBE, UNSUBSCRIBE and their answers.

use std::time::Duration;

use tars_ports::{ErrorKind, PublisherExt, QoS, Refused, Subscriber};
use tars_testkit::scripted::packet::{self, leading_id};

use crate::{filter, message, pair, soon};

#[tokio::test]
async fn answers_come_in_the_order_of_the_filters() {
    let (connected, mut peer) = pair(|_| {}).await;
    let filters = [
        (filter("a/+"), QoS::ExactlyOnce),
        (filter("forbidden"), QoS::AtLeastOnce),
        (filter("日本/#"), QoS::AtMostOnce),
    ];
    let (granted, ()) = tokio::join!(soon(connected.connection.subscribe(&filters)), async {
        let (first, body) = peer.read_packet().await;
        assert_eq!(first, 0x82);
        let mut expected = Vec::new();
        for (text, qos) in [("a/+", 2), ("forbidden", 1), ("日本/#", 0)] {
            expected.extend(packet::text(text));
            expected.push(qos);
        }
        assert_eq!(body[2..], expected);
        peer.send(&packet::suback(leading_id(&body), &[1, 0x80, 0])).await;
    });
    assert_eq!(
        granted.unwrap(),
        [Ok(QoS::AtLeastOnce), Err(Refused::default()), Ok(QoS::AtMostOnce)]
    );
    assert_eq!(soon(connected.connection.subscribe(&[])).await.unwrap(), []);
    soon(connected.connection.unsubscribe(&[])).await.unwrap();
}

#[tokio::test]
async fn many_filters_go_in_several_packets_at_once_and_unsubscribe_too() {
    let (connected, mut peer) = pair(|options| options.max_packet_size = 600).await;
    let filters: Vec<_> = (0..250)
        .map(|n| (filter(&format!("room/{n}")), QoS::AtLeastOnce))
        .collect();
    let broker = async {
        // All packets come before the first answer, which comes last.
        let mut asked = Vec::new();
        let mut seen = 0;
        while seen < 250 {
            let (first, body) = peer.read_packet().await;
            assert_eq!(first, 0x82);
            assert!(body.len() + 3 <= 600);
            let mut at = 2;
            let mut codes = Vec::new();
            while at < body.len() {
                let len = usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
                assert_eq!(&body[at + 2..at + 2 + len], format!("room/{seen}").as_bytes());
                codes.push(if seen % 7 == 0 { 0x80 } else { 1 });
                seen += 1;
                at += 3 + len;
            }
            asked.push((leading_id(&body), codes));
        }
        for (id, codes) in asked.iter().rev() {
            peer.send(&packet::suback(*id, codes)).await;
        }
    };
    let (granted, ()) = tokio::join!(soon(connected.connection.subscribe(&filters)), broker);
    let granted = granted.unwrap();
    assert_eq!(granted.len(), 250);
    for (n, answer) in granted.iter().enumerate() {
        assert_eq!(answer.is_err(), n % 7 == 0, "filter {n}");
    }

    let filters: Vec<_> = filters.into_iter().map(|(filter, _)| filter).collect();
    let (done, ()) = tokio::join!(soon(connected.connection.unsubscribe(&filters)), async {
        let mut seen = 0;
        while seen < 250 {
            let (first, body) = peer.read_packet().await;
            assert_eq!(first, 0xa2);
            let mut at = 2;
            while at < body.len() {
                at += 2 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
                seen += 1;
            }
            peer.send(&packet::unsuback(leading_id(&body))).await;
        }
    });
    done.unwrap();
}

#[tokio::test]
async fn a_filter_that_fits_no_packet_harms_nothing() {
    let (connected, mut peer) = pair(|options| options.max_packet_size = 50).await;
    let filters = [
        (filter("ok"), QoS::AtMostOnce),
        (filter(&"x".repeat(60)), QoS::AtMostOnce),
    ];
    let error = soon(connected.connection.subscribe(&filters)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    soon(connected.connection.publish(message("t", "x", 0)))
        .await
        .unwrap()
        .await
        .unwrap();
    peer.expect(packet::PUBLISH).await;
}

#[tokio::test]
async fn no_answer_is_a_timeout_and_a_late_one_is_ignored() {
    let (connected, mut peer) = pair(|options| options.timeout = Duration::from_millis(200)).await;
    let filters = [(filter("a"), QoS::AtMostOnce)];
    let error = soon(connected.connection.subscribe(&filters)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let (_, late) = peer.expect(packet::SUBSCRIBE).await;
    let error = soon(connected.connection.unsubscribe(&[filter("a")]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    peer.expect(packet::UNSUBSCRIBE).await;
    peer.send(&packet::suback(leading_id(&late), &[0])).await;
    peer.send(&packet::suback(999, &[0])).await;
    peer.send(&packet::unsuback(998)).await;
    // The link is as good as before, and the ids of the two are not given out again.
    let (granted, ()) = tokio::join!(soon(connected.connection.subscribe(&filters)), async {
        let (_, body) = peer.expect(packet::SUBSCRIBE).await;
        assert_eq!(leading_id(&body), 3);
        peer.send(&packet::suback(leading_id(&body), &[0])).await;
    });
    assert_eq!(granted.unwrap(), [Ok(QoS::AtMostOnce)]);
}

#[tokio::test]
async fn a_dropped_subscribe_leaves_a_working_connection() {
    let (connected, mut peer) = pair(|_| {}).await;
    let filters = [(filter("a"), QoS::AtMostOnce)];
    for _ in 0..3 {
        let (_, body) = tokio::select! {
            biased;
            packet = peer.expect(packet::SUBSCRIBE) => packet,
            _ = connected.connection.subscribe(&filters) => panic!("nobody answered"),
        };
        peer.send(&packet::suback(leading_id(&body), &[0])).await;
    }
    // Dropped before it was polled once, too.
    drop(connected.connection.subscribe(&filters));
    let (granted, ()) = tokio::join!(soon(connected.connection.subscribe(&filters)), async {
        let (_, body) = peer.expect(packet::SUBSCRIBE).await;
        peer.send(&packet::suback(leading_id(&body), &[0])).await;
    });
    assert!(granted.is_ok());
}

#[tokio::test]
async fn subscribing_does_not_wait_behind_a_full_window() {
    let (connected, mut peer) = pair(|options| options.max_inflight = 1).await;
    let mut receipts = Vec::new();
    for _ in 0..5 {
        receipts.push(soon(connected.connection.publish(message("t", "x", 1))).await.unwrap());
    }
    peer.expect(packet::PUBLISH).await;
    let filters = [(filter("a"), QoS::AtMostOnce)];
    let (granted, ()) = tokio::join!(soon(connected.connection.subscribe(&filters)), async {
        let (_, body) = peer.expect(packet::SUBSCRIBE).await;
        peer.send(&packet::suback(leading_id(&body), &[0])).await;
    });
    assert!(granted.is_ok());
}

#[tokio::test]
async fn waiters_learn_of_the_end() {
    let (connected, mut peer) = pair(|_| {}).await;
    let filters = [(filter("a"), QoS::AtMostOnce)];
    let (answer, ()) = tokio::join!(soon(connected.connection.subscribe(&filters)), async {
        peer.expect(packet::SUBSCRIBE).await;
        peer.reset();
    });
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionLost);
    let error = soon(connected.connection.unsubscribe(&[filter("a")]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
}
