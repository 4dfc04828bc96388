//! A handler that panics on every third message, against Mosquitto: it harms no other, and its
//! messages follow the policy. What it does in detail is shown in paused time, in the facade's tests.

use std::time::Duration;

use tars_mqtt::{Adapter, Client, InboundMessage, OnFailure, QoS};

use crate::support::seen::Seen;
use crate::support::{broker, config, connected, connected_with, within};

const MESSAGES: usize = 30;

async fn listen(client: &Client, filter: &'static str, policy: OnFailure, panics: bool) -> Seen<usize> {
    let seen = Seen::default();
    let handled = seen.clone();
    let handler = move |message: InboundMessage| {
        let number: usize = String::from_utf8_lossy(&message.payload).parse().unwrap();
        handled.push(number);
        assert!(!panics || !number.is_multiple_of(3), "as the test wants");
        async {}
    };
    let subscribing = client
        .subscribe(filter, handler)
        .qos(QoS::AtLeastOnce)
        .on_failure(policy);
    within("subscribing", subscribing.into_future()).await.unwrap();
    seen
}

async fn every_third(adapter: Adapter) {
    let retry = || OnFailure::retry(1, Duration::from_millis(10));
    // The policy, how often it runs a message that panics, and how many dead letters it makes.
    for (policy, runs, letters) in [
        (OnFailure::ack(), 1, 0),
        (retry(), 2, 0),
        (retry().dead_letter("dead/job"), 2, MESSAGES / 3),
    ] {
        let broker = broker().await;
        let client = connected_with(config(&broker, "svc").adapter(adapter)).await;
        let job = listen(&client, "job", policy, true).await;
        let same = listen(&client, "+", OnFailure::ack(), false).await;
        let other = listen(&client, "other/job", OnFailure::ack(), false).await;
        let publisher = connected(&broker, "publisher").await;
        let dead = listen(&publisher, "dead/job", OnFailure::ack(), false).await;
        for number in 0..MESSAGES {
            for topic in ["job", "other/job"] {
                let publish = publisher.publish(topic, number.to_string()).qos(QoS::AtLeastOnce);
                within("a publish", publish.into_future()).await.unwrap();
            }
        }
        let sorted = |mut numbers: Vec<usize>| {
            numbers.sort_unstable();
            numbers
        };
        // One copy in all of what matches two filters, as Mosquitto does where it is not told otherwise.
        assert_eq!(sorted(same.reach(MESSAGES).await), Vec::from_iter(0..MESSAGES));
        assert_eq!(sorted(other.reach(MESSAGES).await), Vec::from_iter(0..MESSAGES));
        let times = |number: usize| if number.is_multiple_of(3) { runs } else { 1 };
        let expected: Vec<_> = (0..MESSAGES).flat_map(|number| vec![number; times(number)]).collect();
        assert_eq!(sorted(job.reach(expected.len()).await), expected);
        let thirds: Vec<_> = (0..MESSAGES).step_by(3).take(letters).collect();
        assert_eq!(sorted(dead.reach(letters).await), thirds);

        let report = client.shutdown().await;
        assert!(report.is_complete(), "{report:?}");
        let stats = client.stats();
        assert_eq!(stats.failed as usize, MESSAGES / 3 * runs);
        assert_eq!((stats.dead_lettered as usize, stats.connects), (letters, 1));
    }
}

#[tokio::test]
async fn it_harms_no_other_and_follows_the_policy_with_rumqttc() {
    every_third(Adapter::Rumqttc).await;
}

#[cfg(feature = "paho")]
#[tokio::test]
async fn it_harms_no_other_and_follows_the_policy_with_paho() {
    every_third(Adapter::Paho).await;
}
