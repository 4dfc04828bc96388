//! Overlapping filters on Mosquitto, which sends one copy for each or one in all, as configured.

use serde_json::json;
use tars_mqtt::{InboundMessage, QoS};
use tars_testkit::mosquitto::Mosquitto;

use crate::support::seen::Seen;
use crate::support::{connected, started, within};

const EVENTS: usize = 50;

async fn each_subscription_runs_once_per_event(duplicates: bool) {
    let line = format!("allow_duplicate_messages {duplicates}");
    let broker = started(Mosquitto::builder().config_line(line)).await;
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let filters = [
        ("a/#", QoS::AtLeastOnce),
        ("a/b", QoS::AtMostOnce),
        ("a/+", QoS::ExactlyOnce),
        ("+/b", QoS::AtLeastOnce),
        ("#", QoS::AtMostOnce),
        ("z/#", QoS::AtLeastOnce),
    ];
    for (filter, qos) in filters {
        let seen = seen.clone();
        let handler = move |message: InboundMessage| {
            seen.push((message.topic.as_str().to_owned(), filter));
            async {}
        };
        client.subscribe(filter, handler).qos(qos).await.unwrap();
    }
    let levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    for qos in levels {
        for n in 0..EVENTS {
            let publish = client.publish_event("a/b", "t", &json!({"n": n})).qos(qos);
            within("a publish", publish.into_future()).await.unwrap();
        }
    }
    let expected = 5 * levels.len() * EVENTS;
    seen.reach(expected).await;
    // One that only the last two take: it comes after all copies of the others.
    client
        .publish_event("z/end", "t", &json!({}))
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let all = seen
        .until(|seen| seen.iter().filter(|(topic, _)| topic == "z/end").count() == 2)
        .await;
    for (filter, _) in &filters[..5] {
        let runs = all.iter().filter(|(topic, by)| topic == "a/b" && by == filter).count();
        assert_eq!(runs, levels.len() * EVENTS, "{filter}, duplicates: {duplicates}");
    }
    let report = client.shutdown().await;
    assert!(report.is_complete(), "{report:?}");
}

#[tokio::test]
async fn each_subscription_runs_once_per_event_where_the_broker_sends_a_copy_for_each_filter() {
    each_subscription_runs_once_per_event(true).await;
}

#[tokio::test]
async fn each_subscription_runs_once_per_event_where_the_broker_sends_one_copy_in_all() {
    each_subscription_runs_once_per_event(false).await;
}
