//! One attempt: what CONNECT says, and every way in which it can fail.

use std::time::{Duration, Instant};

use adapter_rumqttc::RumqttcConnector;
use tars_ports::{Capabilities, Connector, Credentials, ErrorKind, ProtocolVersion, Refusal, SessionState};
use tars_testkit::scripted::{ScriptedBroker, packet};
use tokio::net::TcpListener;

use crate::{attempt, ended, failure, message, options, pair, soon, tasks};

#[test]
fn the_capabilities_are_these() {
    let mut expected = Capabilities::default();
    expected.manual_ack = true;
    expected.qos2 = true;
    expected.qos2_resume = true;
    expected.abrupt_close = true;
    expected.tls = true;
    expected.websocket = true;
    expected.versions = &[ProtocolVersion::V3_1_1];
    assert_eq!(RumqttcConnector::new().capabilities(), expected);
}

#[tokio::test]
async fn connect_carries_will_credentials_and_keep_alive() {
    let broker = ScriptedBroker::start().await;
    let mut options = options(broker.port());
    options.client_id = "sensor-é".into();
    options.keep_alive = Duration::from_secs(300);
    options.clean_session = false;
    options.credentials = Some(Credentials::new("me", Some("geheim".into())));
    options.last_will = Some(message("will/t", "gone", 1).with_retain(true));
    let body = tokio::join!(attempt(&options), async {
        broker.accept().await.expect_connect_and_accept(false).await
    })
    .1;
    let mut expected = packet::text("MQTT");
    // Level 4; flags: user name, password, will retained at QoS 1; 300 s.
    expected.extend([4, 0b1110_1100, 1, 44]);
    for text in ["sensor-é", "will/t", "gone", "me", "geheim"] {
        expected.extend(packet::text(text));
    }
    assert_eq!(body, expected);
}

#[tokio::test]
async fn every_refusal_has_its_name() {
    for (code, refusal) in [
        (1, Refusal::ProtocolVersion),
        (2, Refusal::ClientId),
        (3, Refusal::Unavailable),
        (4, Refusal::BadCredentials),
        (5, Refusal::NotAuthorized),
        (6, Refusal::Other(6)),
        (255, Refusal::Other(255)),
    ] {
        let broker = ScriptedBroker::start().await;
        let mut options = options(broker.port());
        options.credentials = Some(Credentials::new("me", Some("geheim".into())));
        let (error, ()) = tokio::join!(failure(&options), async {
            let mut peer = broker.accept().await;
            peer.expect(packet::CONNECT).await;
            peer.send(&packet::connack(false, code)).await;
            peer.expect_closed().await;
        });
        assert_eq!(error.kind(), ErrorKind::Refused(refusal));
        let text = format!("{error:?} {error}");
        assert!(
            text.contains(&options.port.to_string()) && !text.contains("geheim"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_is_no_mqtt_broker_is_told_at_once() {
    let started = Instant::now();
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"SSH-2.0-x\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        &packet::suback(1, &[0]),
        b"\x20\xff\xff\xff\xff\xff",
        b"\x20\x01\x00",
        b"\x20\x00",
        b"\x20\xff\xff\xff\x7f",
    ] {
        let broker = ScriptedBroker::start().await;
        let options = options(broker.port());
        let (error, ()) = tokio::join!(failure(&options), async {
            let mut peer = broker.accept().await;
            peer.send(answer).await;
            peer.expect_closed().await;
        });
        assert_eq!(error.kind(), ErrorKind::Protocol, "{answer:?}: {error}");
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(4), "it waited for more");
}

#[tokio::test]
async fn closed_before_connack() {
    let broker = ScriptedBroker::start().await;
    let options = options(broker.port());
    let (error, ()) = tokio::join!(failure(&options), async {
        broker.accept().await.expect(packet::CONNECT).await;
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert!(error.to_string().contains("before CONNACK"), "{error}");
}

#[tokio::test]
async fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = failure(&options(port)).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(
        error.to_string().contains(&format!("mqtt://127.0.0.1:{port}")),
        "{error}"
    );
}

#[tokio::test]
async fn the_host_is_not_known() {
    let mut options = options(1883);
    options.host = "no-such-host.invalid".into();
    assert_eq!(failure(&options).await.kind(), ErrorKind::HostNotFound);
}

#[tokio::test]
async fn all_addresses_of_a_name_are_tried() {
    // `localhost` is ::1 first on many machines; the broker listens on 127.0.0.1 only.
    let broker = ScriptedBroker::start().await;
    let mut options = options(broker.port());
    options.host = "localhost".into();
    let (connected, _peer) = tokio::join!(attempt(&options), async {
        let mut peer = broker.accept().await;
        peer.expect_connect_and_accept(false).await;
        peer
    });
    assert!(!connected.unwrap().session_present);
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let broker = ScriptedBroker::start().await;
    let mut options = options(broker.port());
    options.timeout = Duration::from_millis(200);
    let (error, ()) = tokio::join!(failure(&options), async {
        let mut peer = broker.accept().await;
        peer.expect(packet::CONNECT).await;
        peer.send(&packet::connack(false, 0)[..3]).await;
        peer.expect_closed().await;
    });
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("CONNACK"), "{error}");
}

#[tokio::test]
async fn a_dropped_attempt_closes_its_socket() {
    let broker = ScriptedBroker::start().await;
    let options = options(broker.port());
    let connector = RumqttcConnector::new();
    for after_connect in [false, true] {
        let mut peer = tokio::select! {
            _ = connector.connect(&options, SessionState::new()) => panic!("connected"),
            peer = async {
                let mut peer = broker.accept().await;
                if after_connect {
                    peer.expect(packet::CONNECT).await;
                    peer.send(&packet::connack(false, 0)[..2]).await;
                }
                peer
            } => peer,
        };
        peer.expect_closed().await;
    }
    assert_eq!(tasks(), 0);
}

#[tokio::test]
async fn what_comes_right_behind_connack_is_not_lost() {
    let broker = ScriptedBroker::start().await;
    let options = options(broker.port());
    let (connected, mut peer) = tokio::join!(attempt(&options), async {
        let mut peer = broker.accept().await;
        peer.expect(packet::CONNECT).await;
        let mut bytes = packet::connack(false, 0);
        bytes.extend(packet::publish("a", b"early", 1, Some(3), false, false));
        peer.send(&bytes).await;
        peer
    });
    let mut connected = connected.unwrap();
    let delivery = crate::delivery(&mut connected.inbound).await;
    assert_eq!(&delivery.payload[..], b"early");
    connected.connection.ack(delivery.token.unwrap(), Default::default());
    assert_eq!(packet::leading_id(&peer.expect(packet::PUBACK).await.1), 3);
}

#[tokio::test]
async fn connections_have_numbers_of_their_own() {
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let (mut connected, mut peer) = pair(|_| {}).await;
        peer.send(&packet::publish("a", b"", 1, Some(1), false, false)).await;
        numbers.push(
            crate::delivery(&mut connected.inbound)
                .await
                .token
                .unwrap()
                .connection(),
        );
        soon(connected.connection.disconnect()).await.unwrap();
        ended(&mut connected.inbound).await;
    }
    assert_ne!(numbers[0], numbers[1]);
}
