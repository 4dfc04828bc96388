//! A broker that goes away, hangs, or slams the door.

use std::time::Duration;

use tars_ports::{EndReason, ErrorKind, Fate, SessionState};
use tars_testkit::memory::MemoryBroker;
use tokio::time::Instant;

use super::{Client, Q0, Q1, message, options, persistent, try_connect};

fn is_lost(reason: &EndReason) -> bool {
    matches!(reason, EndReason::Lost(error) if error.kind() == ErrorKind::ConnectionLost)
}

#[tokio::test(start_paused = true)]
async fn a_stopped_broker_ends_links_and_takes_nobody() {
    let broker = MemoryBroker::new();
    let mut options = persistent("p");
    options.last_will = Some(message("will", "gone", Q1));
    let mut client = Client::with(&broker, &options).await;
    client.subscribe("t", Q1).await;
    broker.publish(message("t", "kept", Q1).with_retain(true));
    broker.stop();
    assert!(is_lost(&client.ended().await.reason));
    let error = try_connect(&broker, &options, SessionState::new())
        .await
        .err()
        .expect("stopped");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    broker.start();
    let mut client = Client::with(&broker, &options).await;
    assert!(client.session_present);
    assert_eq!(client.handled().await, "kept");
    assert_eq!(broker.published().len(), 1, "no will of a broker that died");

    broker.restart(true);
    assert!(is_lost(&client.ended().await.reason));
    assert!(Client::with(&broker, &options).await.session_present);
    broker.restart(false);
    assert!(!Client::with(&broker, &options).await.session_present);
    assert_eq!(broker.retained("t"), None);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_broker_takes_and_answers_nothing_until_it_thaws() {
    let broker = MemoryBroker::new();
    let mut client = Client::new(&broker, "c").await;
    client.subscribe("t", Q1).await;
    broker.freeze();
    let mut receipt = client.send(message("t", "x", Q1));
    client
        .send(message("t", "zero", Q0))
        .await
        .expect("QoS 0 is taken over");
    client.silent().await;
    assert!(broker.published().is_empty());
    let began = Instant::now();
    let error = try_connect(&broker, &options("d"), SessionState::new())
        .await
        .err()
        .expect("no CONNACK");
    assert_eq!(
        (error.kind(), began.elapsed()),
        (ErrorKind::Timeout, Duration::from_secs(10))
    );
    let waits = tokio::time::timeout(Duration::from_secs(1), &mut receipt).await;
    assert!(waits.is_err(), "nothing settles");
    broker.thaw();
    receipt.await.expect("settled");
    assert_eq!(client.handled().await, "x");
    assert_eq!(client.handled().await, "zero");
}

#[tokio::test(start_paused = true)]
async fn keepalive_ends_a_connection_to_a_frozen_broker() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.keep_alive = Duration::from_secs(5);
    options.last_will = Some(message("will", "gone", Q0));
    let mut client = Client::with(&broker, &options).await;
    // Alive for a long time without anything to do.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(broker.connections(), ["c"]);
    assert!(client.connection.activity().packets_read > 100);
    broker.freeze();
    let receipt = client.send(message("t", "x", Q1));
    let began = Instant::now();
    assert!(is_lost(&client.ended().await.reason));
    assert!(began.elapsed() <= Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(receipt.await.expect_err("no answer").fate(), Some(Fate::Unknown));
    // The broker reads all of it when it goes on: the publish, then the end.
    assert!(broker.published().is_empty());
    broker.thaw();
    let topics: Vec<_> = broker
        .published()
        .iter()
        .map(|message| message.topic.to_string())
        .collect();
    assert_eq!(topics, ["t", "will"]);
}

#[tokio::test(start_paused = true)]
async fn a_clean_end_to_a_frozen_broker_is_seen_after_the_thaw() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.last_will = Some(message("will", "gone", Q0));
    let client = Client::with(&broker, &options).await;
    broker.freeze();
    client.send(message("t", "x", Q0)).await.expect("taken over");
    client.connection.disconnect().await.expect("the bytes are taken");
    broker.thaw();
    assert_eq!(broker.published().len(), 1, "the message, and no will");
}

#[tokio::test(start_paused = true)]
async fn accept_then_drop_accepts_and_drops() {
    let broker = MemoryBroker::new();
    broker.accept_then_drop(true);
    for n in 1..=3 {
        let mut client = Client::new(&broker, "c").await;
        assert!(is_lost(&client.ended().await.reason));
        assert_eq!(broker.connect_count("c"), n);
    }
    broker.accept_then_drop(false);
    Client::new(&broker, "c")
        .await
        .send(message("t", "x", Q1))
        .await
        .expect("settled");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_stays_unanswered_times_out_and_one_that_is_cut_is_lost() {
    let broker = MemoryBroker::new();
    let client = Client::new(&broker, "c").await;
    broker.freeze();
    let filters = [(super::filter("t"), Q1)];
    let error = client.connection.subscribe(&filters).await.expect_err("frozen");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let (error, ()) = tokio::join!(client.connection.subscribe(&filters), async {
        tokio::task::yield_now().await;
        broker.cut("c");
    });
    assert_eq!(error.expect_err("cut").kind(), ErrorKind::ConnectionLost);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "did not come within")]
async fn waiting_for_what_never_comes_panics() {
    MemoryBroker::new()
        .wait_until(|broker| broker.connect_count("nobody") > 0)
        .await;
}
