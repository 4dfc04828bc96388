//! A handler that panics on every third message harms no other, and its messages follow the policy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tars_mqtt::{Client, InboundMessage, OnFailure, QoS};
use tars_testkit::memory::MemoryBroker;

use crate::{Seen, connected, payload_text, secs};

const MESSAGES: usize = 30;

/// A handler that panics on every third message, each time it gets it, and how often it got each.
async fn panicking(client: &Client, policy: OnFailure) -> Arc<Mutex<BTreeMap<usize, usize>>> {
    let runs = Arc::<Mutex<BTreeMap<usize, usize>>>::default();
    let counted = runs.clone();
    let handler = move |message: InboundMessage| {
        let runs = counted.clone();
        async move {
            let number = payload_text(&message.payload).parse().unwrap();
            *runs.lock().unwrap().entry(number).or_default() += 1;
            assert!(!number.is_multiple_of(3), "as the test wants");
        }
    };
    client
        .subscribe("job", handler)
        .qos(QoS::AtLeastOnce)
        .on_failure(policy)
        .await
        .unwrap();
    runs
}

async fn listen(client: &Client, filter: &str) -> Seen {
    let seen = Seen::default();
    let handled = seen.clone();
    let handler = move |message: InboundMessage| {
        handled.push(payload_text(&message.payload));
        async {}
    };
    client.subscribe(filter, handler).qos(QoS::AtLeastOnce).await.unwrap();
    seen
}

async fn every_third(policy: OnFailure, runs_of_a_third: usize, dead_letters: usize) {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let runs = panicking(&client, policy).await;
    // One that the same messages reach, and one that they do not.
    let (same, other) = (listen(&client, "+").await, listen(&client, "other/job").await);
    let dead = listen(&client, "dead/job").await;
    for number in 0..MESSAGES {
        for topic in ["job", "other/job"] {
            client
                .publish(topic, number.to_string())
                .qos(QoS::AtLeastOnce)
                .await
                .unwrap();
        }
    }
    let all: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(same.reach(MESSAGES).await, all);
    assert_eq!(other.reach(MESSAGES).await, all);
    broker.wait_until(|broker| broker.backlog("svc") == (0, 0)).await;
    tokio::time::sleep(secs(1)).await;

    let expected = (0..MESSAGES).map(|number| (number, if number.is_multiple_of(3) { runs_of_a_third } else { 1 }));
    assert_eq!(*runs.lock().unwrap(), expected.collect());
    let thirds: Vec<_> = all.iter().step_by(3).take(dead_letters).cloned().collect();
    assert_eq!(dead.reach(dead_letters).await, thirds);
    let stats = client.stats();
    assert_eq!(stats.failed as usize, MESSAGES / 3 * runs_of_a_third);
    assert_eq!((stats.dead_lettered as usize, stats.connects), (dead_letters, 1));
    assert!(client.shutdown().await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn acknowledged_by_default() {
    every_third(OnFailure::ack(), 1, 0).await;
}

#[tokio::test(start_paused = true)]
async fn run_again_as_often_as_the_policy_says() {
    every_third(OnFailure::retry(2, secs(1)), 3, 0).await;
}

#[tokio::test(start_paused = true)]
async fn handed_to_the_dead_letter_topic_in_the_end() {
    every_third(OnFailure::retry(1, secs(1)).dead_letter("dead/job"), 2, MESSAGES / 3).await;
}
