//! The same promises, kept with a real broker.

use std::time::Duration;

use tars_ports::{ConnectOptions, Connected, Credentials, ErrorKind, Fate, PublisherExt, QoS, Refusal, Subscriber};
use tars_testkit::mosquitto::Mosquitto;

use crate::{alone, attempt, delivery, ended, failure, filter, lost, message, options, soon, tasks, until};

async fn broker() -> Mosquitto {
    Mosquitto::start().await.expect("Mosquitto starts")
}

fn named(broker: &Mosquitto, client_id: &str) -> ConnectOptions {
    let mut options = options(broker.port());
    options.client_id = client_id.into();
    options
}

async fn connect(broker: &Mosquitto, client_id: &str) -> Connected {
    attempt(&named(broker, client_id)).await.expect("accepted")
}

async fn subscribe(connected: &Connected, topic_filter: &str, qos: QoS) {
    let granted = soon(connected.connection.subscribe(&[(filter(topic_filter), qos)]))
        .await
        .unwrap();
    assert_eq!(granted, [Ok(qos)]);
}

#[tokio::test]
async fn every_qos_makes_the_round() {
    let broker = broker().await;
    let mut listener = connect(&broker, "listener").await;
    subscribe(&listener, "round/#", QoS::ExactlyOnce).await;
    let sender = connect(&broker, "sender").await;
    for round in 0..50u16 {
        for qos in 0..3 {
            let topic = format!("round/é/{qos}");
            let payload = round.to_be_bytes().to_vec();
            let receipt = soon(sender.connection.publish(message(&topic, payload.clone(), qos)))
                .await
                .unwrap();
            soon(receipt).await.unwrap();
            let got = delivery(&mut listener.inbound).await;
            assert_eq!(
                (got.topic.as_str(), got.qos.as_u8(), got.retain),
                (topic.as_str(), qos, false)
            );
            assert_eq!(&got.payload[..], payload);
        }
    }
    soon(listener.connection.unsubscribe(&[filter("round/#")]))
        .await
        .unwrap();
    for connected in [sender, listener] {
        soon(connected.connection.disconnect()).await.unwrap();
    }
    until("all tasks end", || tasks() == 0).await;
    assert!(!broker.log().contains("error"), "{}", broker.log());
}

/// Mosquitto drops, and acknowledges, what exceeds its window of 20: QoS 1 too, while
/// QoS 2 fills it. (It also lets new messages overtake those that it queued for a
/// listener whose window was full, so their order is not looked at.)
#[tokio::test]
async fn a_pipeline_through_the_brokers_window_loses_nothing() {
    let broker = broker().await;
    let mut listener = connect(&broker, "listener").await;
    subscribe(&listener, "p", QoS::ExactlyOnce).await;
    let sender = connect(&broker, "sender").await;
    let total = 600u16;
    let send = async {
        let mut receipts = Vec::new();
        for n in 0..total {
            let qos = if n % 2 == 0 { 2 } else { 1 };
            let message = message("p", n.to_be_bytes().to_vec(), qos);
            receipts.push(sender.connection.publish(message).await.unwrap());
        }
        for receipt in receipts {
            receipt.await.unwrap();
        }
    };
    let receive = async {
        let mut seen = vec![false; usize::from(total)];
        for _ in 0..total {
            let got = delivery(&mut listener.inbound).await;
            let n = u16::from_be_bytes([got.payload[0], got.payload[1]]);
            assert_eq!(got.qos == QoS::ExactlyOnce, n % 2 == 0);
            assert!(!std::mem::replace(&mut seen[usize::from(n)], true), "{n} came twice");
        }
    };
    soon(async { tokio::join!(send, receive) }).await;
}

#[tokio::test]
async fn retained_messages_and_large_ones() {
    let broker = broker().await;
    let sender = connect(&broker, "sender").await;
    let payload: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    let receipt = soon(
        sender
            .connection
            .publish(message("keep", payload.clone(), 1).with_retain(true)),
    )
    .await
    .unwrap();
    soon(receipt).await.unwrap();
    let mut listener = connect(&broker, "listener").await;
    subscribe(&listener, "keep", QoS::AtLeastOnce).await;
    let got = delivery(&mut listener.inbound).await;
    assert!(got.retain);
    assert!(got.payload == payload);
}

/// Neither end lets the will speak: `abrupt_close` is false.
#[tokio::test]
async fn the_will_is_silent_after_disconnect_and_after_close() {
    let broker = broker().await;
    let mut listener = connect(&broker, "listener").await;
    subscribe(&listener, "will/+", QoS::AtLeastOnce).await;
    for clean in [true, false] {
        let mut options = named(&broker, "mortal");
        options.last_will = Some(message("will/spoken", "gone", 1));
        let mut mortal = attempt(&options).await.unwrap();
        if clean {
            soon(mortal.connection.disconnect()).await.unwrap();
        } else {
            mortal.connection.close();
        }
        ended(&mut mortal.inbound).await;
    }
    let last = soon(listener.connection.publish(message("will/none", "x", 1)))
        .await
        .unwrap();
    soon(last).await.unwrap();
    assert_eq!(delivery(&mut listener.inbound).await.topic.as_str(), "will/none");
}

#[tokio::test]
async fn refused_for_its_credentials() {
    let broker = Mosquitto::builder()
        .password("me", "right")
        .start()
        .await
        .expect("Mosquitto starts");
    let mut options = named(&broker, "c");
    assert_eq!(
        failure(&options).await.kind(),
        ErrorKind::Refused(Refusal::NotAuthorized)
    );
    options.credentials = Some(Credentials::new("me", Some("wrong".into())));
    let error = failure(&options).await;
    assert!(matches!(
        error.kind(),
        ErrorKind::Refused(Refusal::NotAuthorized | Refusal::BadCredentials)
    ));
    options.credentials = Some(Credentials::new("me", Some("right".into())));
    assert!(attempt(&options).await.is_ok());
}

#[tokio::test]
async fn a_killed_broker_settles_every_receipt() {
    let mut broker = broker().await;
    let mut sender = connect(&broker, "sender").await;
    let mut receipts = Vec::new();
    let traffic = async {
        for n in 0u32.. {
            match sender
                .connection
                .publish(message("t", n.to_be_bytes().to_vec(), (n % 3) as u8))
                .await
            {
                Ok(receipt) => receipts.push(receipt),
                Err(error) => return error,
            }
        }
        unreachable!()
    };
    let (refused, ()) = tokio::join!(soon(traffic), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        broker.kill().await.unwrap();
    });
    assert_eq!(refused.kind(), ErrorKind::NotConnected);
    let end = ended(&mut sender.inbound).await;
    let mut settled = 0;
    let mut unknown = 0;
    for receipt in receipts {
        match soon(receipt).await {
            Ok(_) => settled += 1,
            Err(error) if error.fate() == Some(Fate::Unknown) => unknown += 1,
            Err(error) => assert_eq!(error.fate(), Some(Fate::NotSent)),
        }
    }
    assert!(settled > 0);
    assert!(unknown > 0);
    assert!(end.session.outbound.is_empty());
    assert_eq!(lost(end).kind(), ErrorKind::ConnectionLost);
    assert_eq!(tasks(), 0);
}

#[test]
fn a_paused_broker_is_given_up() {
    alone("mosquitto::a_paused_broker_is_given_up", || async {
        let broker = broker().await;
        let mut options = named(&broker, "c");
        options.keep_alive = Duration::from_secs(1);
        let mut connected = attempt(&options).await.unwrap();
        broker.pause().unwrap();
        assert!(
            lost(ended(&mut connected.inbound).await)
                .to_string()
                .contains("PINGREQ stayed unanswered")
        );
        broker.resume().unwrap();
    });
}

/// SIGSTOP: bytes are accepted, nothing is answered, then everything is.
#[tokio::test]
async fn receipts_wait_for_a_paused_broker_and_disconnect_does_not() {
    let broker = broker().await;
    let mut options = named(&broker, "c");
    options.timeout = Duration::from_secs(1);
    let mut connected = attempt(&options).await.unwrap();
    broker.pause().unwrap();
    let filters = [(filter("a"), QoS::AtMostOnce)];
    let error = soon(connected.connection.subscribe(&filters)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let receipt = soon(connected.connection.publish(message("t", "x", 2))).await.unwrap();
    let mut settled = Box::pin(receipt);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut settled)
            .await
            .is_err()
    );
    broker.resume().unwrap();
    soon(settled).await.unwrap();
    broker.pause().unwrap();
    let receipt = soon(connected.connection.publish(message("t", "x", 1))).await.unwrap();
    soon(connected.connection.disconnect()).await.unwrap();
    assert_eq!(soon(receipt).await.unwrap_err().fate(), Some(Fate::Unknown));
    ended(&mut connected.inbound).await;
    broker.resume().unwrap();
}

#[tokio::test]
async fn a_persistent_session_comes_back_with_what_was_queued() {
    let broker = broker().await;
    let mut options = named(&broker, "sleeper");
    options.clean_session = false;
    let first = attempt(&options).await.unwrap();
    assert!(!first.session_present);
    subscribe(&first, "s", QoS::AtLeastOnce).await;
    soon(first.connection.disconnect()).await.unwrap();
    let sender = connect(&broker, "sender").await;
    soon(
        soon(sender.connection.publish(message("s", "while away", 1)))
            .await
            .unwrap(),
    )
    .await
    .unwrap();
    let mut second = attempt(&options).await.unwrap();
    assert!(second.session_present && second.resumed.is_empty());
    assert_eq!(&delivery(&mut second.inbound).await.payload[..], b"while away");
}
