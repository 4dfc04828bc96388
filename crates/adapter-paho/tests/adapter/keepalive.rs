//! PINGREQ, and the peer that stops answering. In real seconds, with paho's own clock.

use std::time::{Duration, Instant};

use tars_ports::{ErrorKind, Fate, PublisherExt};
use tars_testkit::scripted::packet;

use crate::{alone, ended, lost, message, pair, soon};

fn one_second(options: &mut tars_ports::ConnectOptions) {
    options.keep_alive = Duration::from_secs(1);
}

#[test]
fn one_second_of_keep_alive_keeps_an_idle_link_up() {
    alone("keepalive::one_second_of_keep_alive_keeps_an_idle_link_up", || async {
        let (connected, mut peer) = pair(one_second).await;
        let mut last = Instant::now();
        for _ in 0..3 {
            assert_eq!(peer.read_packet().await, (packet::PINGREQ, Vec::new()));
            let gap = last.elapsed();
            // The broker gives a client up after 1.5 s.
            assert!(gap < Duration::from_millis(1_450), "{gap:?}");
            last = Instant::now();
            peer.send(&packet::pingresp()).await;
        }
        // Paho keeps PINGRESP to itself.
        assert_eq!(connected.connection.activity().packets_read, 0);
    });
}

#[test]
fn a_silent_peer_is_given_up() {
    alone("keepalive::a_silent_peer_is_given_up", || async {
        let (mut connected, mut peer) = pair(one_second).await;
        let receipt = soon(connected.connection.publish(message("t", "x", 1))).await.unwrap();
        let started = Instant::now();
        peer.expect(packet::PUBLISH).await;
        let error = lost(ended(&mut connected.inbound).await);
        assert_eq!(error.kind(), ErrorKind::ConnectionLost);
        assert!(error.to_string().contains("PINGREQ stayed unanswered"), "{error}");
        let waited = started.elapsed();
        assert!(
            waited > Duration::from_millis(1_800) && waited < Duration::from_secs(7),
            "{waited:?}"
        );
        assert_eq!(soon(receipt).await.unwrap_err().fate(), Some(Fate::Unknown));
    });
}

#[test]
fn a_client_that_only_sends_notices_a_silent_peer() {
    alone("keepalive::a_client_that_only_sends_notices_a_silent_peer", || async {
        let (mut connected, mut peer) = pair(one_second).await;
        let beat = async {
            while connected.connection.publish(message("beat", "x", 0)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let (_, error) = tokio::join!(soon(beat), async { lost(ended(&mut connected.inbound).await) });
        assert_eq!(error.kind(), ErrorKind::ConnectionLost);
        peer.expect_closed().await;
    });
}

#[test]
fn a_peer_that_does_not_even_read_is_given_up() {
    alone("keepalive::a_peer_that_does_not_even_read_is_given_up", || async {
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
        assert_eq!(lost(ended).kind(), ErrorKind::ConnectionLost);
        drop(peer);
    });
}
