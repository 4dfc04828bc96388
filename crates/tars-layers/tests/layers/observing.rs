//! Observe: each message is seen once, with what became of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tars_layers::{LayerExt, Observe};
use tars_ports::{ErrorKind, Fate, PublisherExt, QoS};

use crate::flaky::Flaky;
use crate::flaky::Outcome::*;
use crate::message;

#[derive(Debug, PartialEq)]
struct Seen {
    topic: String,
    bytes: usize,
    elapsed: Duration,
    result: Result<(), (ErrorKind, Option<Fate>)>,
}

#[tokio::test(start_paused = true)]
async fn the_hook_sees_each_message_once_whoever_waits() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = seen.clone();
    let flaky = Flaky::new([Arrives, Arrives, Lost, TooLarge]);
    let publisher = flaky.clone().layer(Observe::new(move |published| {
        list.lock().unwrap().push(Seen {
            topic: published.topic.to_string(),
            bytes: published.bytes,
            elapsed: published.elapsed,
            result: published.result.map_err(|error| (error.kind(), error.fate())),
        });
    }));
    publisher
        .publish(message("best/effort", 1, QoS::AtMostOnce))
        .await
        .unwrap()
        .await
        .unwrap();
    // Nobody waits for these receipts.
    drop(publisher.publish(message("sure", 2, QoS::AtLeastOnce)).await.unwrap());
    drop(publisher.publish(message("lost", 3, QoS::AtLeastOnce)).await.unwrap());
    publisher
        .publish(message("large", 4, QoS::AtLeastOnce))
        .await
        .unwrap_err();
    publisher.shutdown().await;

    let entry = |topic: &str, millis, result| Seen {
        topic: topic.to_owned(),
        bytes: r#"{"n":1}"#.len(),
        elapsed: Duration::from_millis(millis),
        result,
    };
    let expected = [
        entry("best/effort", 0, Ok(())),
        entry("large", 0, Err((ErrorKind::TooLarge, None))),
        entry("sure", 20, Ok(())),
        entry("lost", 20, Err((ErrorKind::ConnectionLost, Some(Fate::Unknown)))),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    let error = publisher.publish(message("a", 5, QoS::AtMostOnce)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}
