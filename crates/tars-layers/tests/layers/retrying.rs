//! Retry: what is sent again, what is not, and what the error says in the end.

use tars_layers::{LayerExt, Retry, RetryPublisher};
use tars_ports::{ErrorKind, Fate, Publisher, PublisherExt, QoS, TryPublishError};

use crate::flaky::Flaky;
use crate::flaky::Outcome::*;
use crate::{message, secs};

fn retrying(flaky: &Flaky) -> RetryPublisher<Flaky> {
    flaky.clone().layer(Retry::new().attempts(3).seed(1))
}

#[tokio::test(start_paused = true)]
async fn what_was_certainly_not_sent_is_sent_again_at_any_qos() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let flaky = Flaky::new([NotConnected, NotSent]);
        let publisher = retrying(&flaky);
        publisher.publish(message("a", 1, qos)).await.unwrap().await.unwrap();
        assert_eq!((flaky.attempts(), flaky.arrived().len()), (3, 1), "QoS {qos}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_arrived_is_sent_again_at_qos_1_only() {
    for (qos, copies) in [(QoS::AtMostOnce, 1), (QoS::AtLeastOnce, 2), (QoS::ExactlyOnce, 1)] {
        let flaky = Flaky::new([LostButArrived]);
        let publisher = retrying(&flaky);
        let result = publisher.publish(message("a", 1, qos)).await.unwrap().await;
        assert_eq!(flaky.arrived().len(), copies, "QoS {qos}");
        assert_eq!(result.is_ok(), copies == 2);
        if let Err(error) = result {
            assert_eq!(error.fate(), Some(Fate::Unknown));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_limited_and_the_fate_is_that_of_all_together() {
    for (script, fate) in [
        ([NotConnected, NotSent, NotConnected], Fate::NotSent),
        ([LostButArrived, NotSent, NotConnected], Fate::Unknown),
    ] {
        let flaky = Flaky::new(script);
        let publisher = retrying(&flaky);
        let receipt = publisher
            .publish(message("lamp/on", 1, QoS::AtLeastOnce))
            .await
            .unwrap();
        let error = receipt.await.unwrap_err();
        assert_eq!(error.fate(), Some(fate), "{error}");
        assert!(error.to_string().contains("attempt 3 for lamp/on"), "{error}");
        assert_eq!(flaky.attempts(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_heal_by_waiting_fails_at_once() {
    let flaky = Flaky::new([TooLarge]);
    let error = retrying(&flaky)
        .publish(message("a", 1, QoS::AtLeastOnce))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(flaky.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn at_the_bound_the_message_comes_back_and_publish_waits() {
    let flaky = Flaky::new([NotSent, Arrives]);
    let publisher = flaky.clone().layer(Retry::new().pending(1));
    let first = publisher.publish(message("a", 1, QoS::AtLeastOnce)).await.unwrap();
    let second = message("a", 2, QoS::AtLeastOnce);
    let Err(TryPublishError::Full(back)) = publisher.try_publish(second.clone()) else {
        panic!("there is no room");
    };
    assert_eq!(back, second);
    let receipt = publisher.publish(back).await.unwrap();
    first.await.unwrap();
    receipt.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn delays_double_up_to_the_maximum() {
    let flaky = Flaky::new([NotConnected; 5]);
    let publisher = flaky
        .clone()
        .layer(Retry::new().attempts(6).backoff(secs(1), secs(4)).seed(3));
    let start = tokio::time::Instant::now();
    publisher
        .publish(message("a", 1, QoS::AtMostOnce))
        .await
        .unwrap()
        .await
        .unwrap();
    // 1 + 2 + 4 + 4 + 4, each drawn from its upper half.
    let elapsed = start.elapsed().as_secs_f64();
    assert!((7.5..=15.0).contains(&elapsed), "{elapsed}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_hurries_and_ends_with_what_never_settles() {
    let flaky = Flaky::new([NotConnected, Held, Held]);
    let publisher = flaky
        .clone()
        .layer(Retry::new().backoff(secs(600), secs(600)).shutdown_timeout(secs(5)));
    let later = publisher.publish(message("a", 1, QoS::AtLeastOnce)).await.unwrap();
    let held = publisher.publish(message("a", 2, QoS::AtLeastOnce)).await.unwrap();
    let start = tokio::time::Instant::now();
    publisher.shutdown().await;
    assert_eq!(start.elapsed(), secs(5));
    // It was never sent, since its delay is above the patience; the other one was.
    assert_eq!(later.await.unwrap_err().fate(), Some(Fate::NotSent));
    assert_eq!(held.await.unwrap_err().fate(), Some(Fate::Unknown));
    let error = publisher.publish(message("a", 3, QoS::AtLeastOnce)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn dropped_it_goes_on_by_itself() {
    let flaky = Flaky::new([NotConnected]);
    let publisher = retrying(&flaky);
    let receipt = publisher.publish(message("a", 1, QoS::AtMostOnce)).await.unwrap();
    drop(publisher);
    receipt.await.unwrap();
    assert_eq!(flaky.arrived().len(), 1);
}
