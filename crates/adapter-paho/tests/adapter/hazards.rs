//! What stops or corrupts a process that uses paho carelessly.

use std::time::Duration;

use adapter_paho::PahoConnector;
use tars_ports::{Connector, Credentials, ErrorKind, PublisherExt, QoS, SessionState, Subscriber};
use tars_testkit::mosquitto::Mosquitto;
use tars_testkit::scripted::{ScriptedBroker, packet};

use crate::{alone, attempt, ended, failure, filter, lost, message, options, pair, soon, tasks, until};

/// A naive client hangs after 3 to 20 rounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_and_dropping_again_and_again_never_hangs() {
    let broker = Mosquitto::builder()
        .password("me", "right")
        .start()
        .await
        .expect("Mosquitto starts");
    // Keeps the library's threads alive, so that a round takes milliseconds.
    let mut right = options(broker.port());
    right.credentials = Some(Credentials::new("me", Some("right".into())));
    right.client_id = "keeper".into();
    let keeper = attempt(&right).await.unwrap();
    let mut wrong = right.clone();
    right.client_id = "c".into();
    wrong.client_id = "d".into();
    wrong.credentials = None;
    for round in 0..100 {
        if round % 4 == 3 {
            assert!(matches!(failure(&wrong).await.kind(), ErrorKind::Refused(_)));
            continue;
        }
        let mut connected = attempt(&right).await.unwrap();
        match round % 3 {
            0 => drop(connected),
            1 => {
                connected.connection.close();
                ended(&mut connected.inbound).await;
            }
            _ => soon(connected.connection.disconnect()).await.unwrap(),
        }
    }
    soon(keeper.connection.disconnect()).await.unwrap();
    drop(keeper);
    until("all tasks end", || tasks() == 0).await;
}

/// The last client of the process ends the library's threads, the next starts them.
#[tokio::test]
async fn the_last_client_of_a_process_can_go_and_the_next_come() {
    let broker = Mosquitto::start().await.expect("Mosquitto starts");
    for _ in 0..8 {
        let mut connected = attempt(&options(broker.port())).await.unwrap();
        soon(soon(connected.connection.publish(message("t", "x", 1))).await.unwrap())
            .await
            .unwrap();
        connected.connection.close();
        ended(&mut connected.inbound).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_can_be_dropped_at_any_point() {
    let broker = Mosquitto::start().await.expect("Mosquitto starts");
    let options = options(broker.port());
    let connector = PahoConnector::new();
    for step in 0..100u64 {
        let connect = connector.connect(&options, SessionState::new());
        let _ = tokio::time::timeout(Duration::from_micros(step * step), connect).await;
    }
    // And everything still works.
    let mut connected = attempt(&options).await.unwrap();
    soon(soon(connected.connection.publish(message("t", "x", 2))).await.unwrap())
        .await
        .unwrap();
    soon(connected.connection.disconnect()).await.unwrap();
    ended(&mut connected.inbound).await;
    until("all tasks end", || tasks() == 0).await;
}

/// Attempts that run out of time leave clients behind that paho still holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_that_time_out_stop_nobody() {
    let silent = ScriptedBroker::start().await;
    let broker = Mosquitto::start().await.expect("Mosquitto starts");
    let mut slow = options(silent.port());
    slow.timeout = Duration::from_millis(50);
    for _ in 0..20 {
        assert_eq!(failure(&slow).await.kind(), ErrorKind::Timeout);
        let connected = attempt(&options(broker.port())).await.unwrap();
        soon(connected.connection.disconnect()).await.unwrap();
    }
}

/// A connection whose messages nobody takes must not slow another down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_stands_still_stops_nobody() {
    let broker = Mosquitto::start().await.expect("Mosquitto starts");
    let mut lazy = options(broker.port());
    lazy.client_id = "lazy".into();
    let lazy = attempt(&lazy).await.unwrap();
    soon(lazy.connection.subscribe(&[(filter("t"), QoS::AtMostOnce)]))
        .await
        .unwrap();
    let busy = attempt(&options(broker.port())).await.unwrap();
    let publish = async {
        for _ in 0..2_000 {
            let receipt = busy.connection.publish(message("t", "x", 1)).await.unwrap();
            drop(receipt);
        }
        let last = busy.connection.publish(message("t", "x", 1)).await.unwrap();
        last.await.unwrap();
    };
    soon(publish).await;
    until("all are read", || lazy.connection.activity().packets_read > 2_000).await;
}

/// Paho frees the payload of a QoS 1 or 2 PUBLISH twice when its write fails: without the
/// relay a few rounds end the process.
#[test]
fn a_link_that_breaks_under_load_does_not_take_the_process_along() {
    alone(
        "hazards::a_link_that_breaks_under_load_does_not_take_the_process_along",
        || async {
            // Keeps the library's threads alive, so that a round takes milliseconds.
            let (_keeper, _peer) = pair(|_| {}).await;
            for round in 0..40u64 {
                let (mut connected, mut peer) = pair(|options| options.max_inflight = 1_000).await;
                let publish = async {
                    while connected
                        .connection
                        .publish(message("t", vec![0; 100], 1 + (round % 2) as u8))
                        .await
                        .is_ok()
                    {}
                };
                let (_, _, end) = tokio::join!(
                    soon(publish),
                    async {
                        peer.expect(packet::PUBLISH).await;
                        tokio::time::sleep(Duration::from_micros(100 * round)).await;
                        peer.reset();
                    },
                    ended(&mut connected.inbound)
                );
                assert_eq!(lost(end).kind(), ErrorKind::ConnectionLost);
            }
        },
    );
}
