//! One attempt: what CONNECT says, and every way in which it can fail.

use std::time::{Duration, Instant};

use adapter_paho::PahoConnector;
use tars_ports::{Capabilities, Connector, Credentials, ErrorKind, ProtocolVersion, Refusal, SessionState};
use tars_testkit::scripted::{ScriptedBroker, packet};
use tokio::net::TcpListener;

use crate::{attempt, failure, message, options, pair, tasks, until};

#[test]
fn the_capabilities_are_these() {
    let mut expected = Capabilities::default();
    expected.qos2 = true;
    expected.tls = true;
    expected.websocket = true;
    expected.versions = &[ProtocolVersion::V3_1_1];
    assert_eq!(PahoConnector::new().capabilities(), expected);
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
    let (connected, body) = tokio::join!(attempt(&options), async {
        let mut peer = broker.accept().await;
        let body = peer.expect_connect_and_accept(true).await;
        (peer, body)
    });
    let mut expected = packet::text("MQTT");
    // Level 4; flags: user name, password, will retained at QoS 1; 300 s.
    expected.extend([4, 0b1110_1100, 1, 44]);
    for text in ["sensor-é", "will/t", "gone", "me", "geheim"] {
        expected.extend(packet::text(text));
    }
    assert_eq!(body.1, expected);
    assert!(connected.unwrap().session_present);
}

#[tokio::test]
async fn a_plain_connect_carries_nothing_else() {
    let broker = ScriptedBroker::start().await;
    let mut options = options(broker.port());
    options.keep_alive = Duration::ZERO;
    let (connected, (_peer, body)) = tokio::join!(attempt(&options), async {
        let mut peer = broker.accept().await;
        // A session where a clean one was asked for: it is not believed.
        let body = peer.expect_connect_and_accept(true).await;
        (peer, body)
    });
    let mut expected = packet::text("MQTT");
    expected.extend([4, 0b0000_0010, 0xff, 0xff]);
    expected.extend(packet::text("client"));
    assert_eq!(body, expected);
    assert!(!connected.unwrap().session_present);
}

#[tokio::test]
async fn every_refusal_has_its_name() {
    for (code, kind) in [
        (1, ErrorKind::Refused(Refusal::ProtocolVersion)),
        (2, ErrorKind::Refused(Refusal::ClientId)),
        (3, ErrorKind::Refused(Refusal::Unavailable)),
        (4, ErrorKind::Refused(Refusal::BadCredentials)),
        (5, ErrorKind::Refused(Refusal::NotAuthorized)),
        // Paho hides the number of a code that it does not know.
        (6, ErrorKind::Protocol),
        (255, ErrorKind::Protocol),
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
        assert_eq!(error.kind(), kind, "{code}");
        let text = format!("{error:?} {error}");
        assert!(
            text.contains(&options.port.to_string()) && !text.contains("geheim"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_is_no_mqtt_broker_is_told_at_once() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\x15\x03\x01\x00\x02\x02\x46",
        &packet::suback(1, &[0]),
        b"\x20\xff\xff\xff\xff\xff",
        b"\x20\x01\x00",
        b"\x20\xff\xff\xff\x7f",
    ] {
        let broker = ScriptedBroker::start().await;
        let options = options(broker.port());
        let (error, ()) = tokio::join!(failure(&options), async {
            let mut peer = broker.accept().await;
            peer.expect(packet::CONNECT).await;
            peer.send(answer).await;
            peer.expect_closed().await;
        });
        assert_eq!(error.kind(), ErrorKind::Protocol, "{answer:?}: {error}");
        assert!(error.to_string().contains("answered CONNECT with"), "{error}");
    }
}

#[tokio::test]
async fn closed_before_connack() {
    let broker = ScriptedBroker::start().await;
    let options = options(broker.port());
    let (error, ()) = tokio::join!(failure(&options), async {
        broker.accept().await.expect(packet::CONNECT).await;
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error:?}");
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
    let started = Instant::now();
    let (error, mut peer) = tokio::join!(failure(&options), async {
        let mut peer = broker.accept().await;
        peer.expect(packet::CONNECT).await;
        peer.send(&packet::connack(false, 0)[..3]).await;
        peer
    });
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("CONNACK"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
    peer.expect_closed().await;
}

#[tokio::test]
async fn a_dropped_attempt_closes_its_socket() {
    let broker = ScriptedBroker::start().await;
    let options = options(broker.port());
    let connector = PahoConnector::new();
    // Never polled.
    drop(connector.connect(&options, SessionState::new()));
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
        let started = Instant::now();
        peer.expect_closed().await;
        assert!(started.elapsed() < Duration::from_secs(1));
    }
    until("all tasks end", || tasks() == 0).await;
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
    assert_eq!(packet::leading_id(&peer.expect(packet::PUBACK).await.1), 3);
}

#[tokio::test]
async fn an_end_leaves_no_task() {
    let (connected, mut peer) = pair(|_| {}).await;
    drop(connected);
    peer.expect_closed().await;
    until("the task ends", || tasks() == 0).await;
}
