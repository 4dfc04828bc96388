//! What a client says of itself is what docs/observability.md says.

mod document;
#[cfg(feature = "metrics")]
mod metrics;
pub(crate) mod recorded;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tars_mqtt::{Client, Context, Data, Envelope, InboundMessage, QoS};
use tars_testkit::memory::MemoryBroker;
use tracing::Level;

use self::recorded::{Item, Recorded};
use crate::{config, connected, connected_with, secs, settle};

/// Stands in every payload, and must stand in no line above TRACE.
const SECRET: &str = "whatIsSaidInConfidence";

async fn answer(question: Envelope<Data>, context: Context) -> Result<(), tars_mqtt::Error> {
    let heard = context.publish_event("asked", "asked", &json!({"secret": SECRET}));
    heard.qos(QoS::AtLeastOnce).await?;
    context.reply("answer", "answered", &question.data).await?;
    Ok(())
}

async fn ask(client: &Client) -> String {
    let secret = json!({"secret": SECRET});
    let request = client.request::<Data>("question", "asking", &secret).reply_on("answer");
    let id = request.id().to_owned();
    request.await.unwrap();
    settle().await;
    id
}

#[tokio::test(start_paused = true)]
async fn a_correlation_id_is_followed_from_the_request_to_the_reply() {
    let recorded = Recorded::begin(Level::DEBUG);
    let broker = MemoryBroker::new();
    let (asker, answerer) = (connected(&broker, "asker").await, connected(&broker, "answerer").await);
    answerer
        .subscribe("question", answer)
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let id = ask(&asker).await;

    let items = recorded.items();
    let spans = |name| -> Vec<Item> {
        items
            .iter()
            .filter(|item| item.is_span && item.name == name)
            .cloned()
            .collect()
    };
    let around = |item: &Item| -> Vec<String> {
        let outer = recorded.around(item);
        outer
            .iter()
            .map(|span| format!("{} {}", span.name, span.field("correlation_id")))
            .collect()
    };
    let topics = |spans: Vec<Item>| -> Vec<(String, String)> {
        let of = |item: &Item| (item.field("topic").to_owned(), item.field("correlation_id").to_owned());
        spans.iter().map(of).collect()
    };
    let with_id = |topic: &str| (topic.to_owned(), id.clone());
    assert_eq!(topics(spans("request")), [with_id("question")]);
    assert_eq!(topics(spans("handle")), [with_id("question")]);
    assert_eq!(topics(spans("receive")), [with_id("question"), with_id("answer")]);
    let published = spans("publish");
    assert_eq!(published[0].field("event_type"), "asking");
    assert_eq!(around(&published[0]), [format!("request {id}")]);
    let in_handler = [format!("handle {id}"), format!("receive {id}")];
    for (span, topic) in published[1..].iter().zip(["asked", "answer"]) {
        assert_eq!((span.field("topic"), around(span)), (topic, in_handler.to_vec()));
    }
    assert_eq!(published[2].field("correlation_id"), id, "the reply carries it");
    assert_ne!(
        published[1].field("envelope_id"),
        id,
        "another event has an id of its own"
    );
    assert!(spans("handle").iter().all(|span| span.target == "tars_mqtt::message"));
}

/// Everything that a client says of itself while all goes well, and of an outage.
async fn a_full_life(broker: &MemoryBroker) {
    let asker = connected(broker, "asker").await;
    let deduplicating = config("answerer").dedupe_ttl(secs(60)).enable_health(true);
    let answerer = connected_with(broker, deduplicating).await;
    answerer
        .subscribe("question", answer)
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    #[derive(serde::Deserialize, tars_mqtt::Event)]
    #[event(type = "expected", topic = "events")]
    struct Expected {}
    answerer.on(async |_: Expected| ()).await.unwrap();
    answerer.subscribe("picky", async |_: Envelope<Data>| ()).await.unwrap();
    answerer
        .subscribe("failing", async |_: InboundMessage| Err::<(), _>("no"))
        .await
        .unwrap();

    let secret = json!({"secret": SECRET});
    let id = ask(&asker).await;
    let again = asker.publish_event("question", "asking", &secret).qos(QoS::AtLeastOnce);
    again.correlation_id(id).await.unwrap();
    asker.publish_event("events", "other", &secret).await.unwrap();
    asker.publish("failing", SECRET).await.unwrap();
    asker.publish("answer", SECRET).await.unwrap();
    let no_answer = asker.request::<Data>("nobody", "asking", &secret).reply_on("answer");
    no_answer.timeout(secs(1)).await.unwrap_err();
    let too_large = asker.publish("large", vec![0; 300 << 20]);
    too_large.await.unwrap_err();

    broker.stop();
    tokio::time::sleep(secs(3)).await;
    let delayed = asker.publish_event("question", "asking", &secret).qos(QoS::AtLeastOnce);
    let delayed = delayed.accepted().await.unwrap();
    let late = asker.publish("late", SECRET).qos(QoS::AtLeastOnce).timeout(secs(1));
    late.await.unwrap_err();
    broker.start();
    delayed.await.unwrap();
    tokio::time::sleep(secs(10)).await;
    asker.disconnect().await.unwrap();
    answerer.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_document_names_all_that_is_said_and_nothing_else() {
    let recorded = Recorded::begin(Level::DEBUG);
    a_full_life(&MemoryBroker::new()).await;

    let rows = document::rows();
    assert!(rows.len() > 40, "the tables are read");
    let items = recorded.items();
    for item in &items {
        let row = rows
            .iter()
            .find(|row| (row.is_span, &row.name) == (item.is_span, &item.name));
        let row = row.unwrap_or_else(|| panic!("not in the document: {item:?}"));
        // What is not said aloud is said at DEBUG.
        assert!(
            [row.level.as_str(), "DEBUG"].contains(&item.level.as_str()),
            "{row:?}: {item:?}"
        );
        let unknown: Vec<_> = item.names.iter().filter(|name| !row.fields.contains(**name)).collect();
        assert!(unknown.is_empty(), "{unknown:?} of {item:?} is not in the document");
    }
    for row in rows.iter().filter(|row| !row.is_trouble) {
        let said = items
            .iter()
            .filter(|item| (item.is_span, &item.name) == (row.is_span, &row.name));
        let at_level: Vec<_> = said.filter(|item| item.level.as_str() == row.level).collect();
        assert!(!at_level.is_empty(), "never said: {row:?}");
        let with_a_value: BTreeSet<String> = at_level
            .iter()
            .flat_map(|item| item.fields.keys())
            .map(|name| (*name).to_owned())
            .collect();
        let empty: Vec<_> = row.fields.difference(&with_a_value).collect();
        assert!(empty.is_empty(), "{empty:?} of {:?} never had a value", row.name);
    }
    // Trouble is hard to make all at once; but what can be said is in the document, and the reverse.
    let documented: BTreeSet<String> = rows
        .into_iter()
        .filter(|row| !row.is_span)
        .map(|row| row.name)
        .collect();
    assert_eq!(documented, document::messages_in_source());
}

#[tokio::test(start_paused = true)]
async fn at_info_the_story_of_a_connection_is_a_few_lines() {
    let recorded = Recorded::begin(Level::INFO);
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client
        .subscribe("a", async |_: InboundMessage| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    for _ in 0..100 {
        client.publish("a", "x").qos(QoS::AtLeastOnce).await.unwrap();
    }
    broker.stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let delayed = client.publish("a", "x").qos(QoS::AtLeastOnce).accepted().await.unwrap();
    tokio::time::sleep(secs(9)).await;
    broker.start();
    delayed.await.unwrap();
    client.shutdown().await;
    let story: Vec<String> = recorded.events().into_iter().map(|event| event.name).collect();
    assert_eq!(
        story,
        [
            "connecting",
            "connected",
            "the connection was lost",
            "the next attempt to connect is set",
            "could not connect",
            "the next attempt to connect is set",
            "reconnected",
            "subscriptions restored",
            "what waited for the connection is settled",
            "finishing what is under way",
            "disconnected",
        ]
    );
    let settled = &recorded.events()[8];
    assert_eq!((settled.field("publishes"), settled.field("failed")), ("1", "0"));
}

#[tokio::test(start_paused = true)]
async fn nothing_per_message_is_above_debug_and_no_payload_above_trace() {
    let recorded = Recorded::begin(Level::DEBUG);
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").dedupe_ttl(secs(60))).await;
    client
        .subscribe("good", async |_: Envelope<Data>| ())
        .qos(QoS::ExactlyOnce)
        .await
        .unwrap();
    client
        .subscribe("failing", async |_: InboundMessage| Err::<(), _>("no"))
        .await
        .unwrap();
    client.subscribe("picky", async |_: Envelope<Data>| ()).await.unwrap();
    let secret = json!({"secret": SECRET});
    for number in 0..200 {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let event = client.publish_event("good", "t", &secret).qos(qos);
            event.correlation_id(format!("{}", number / 2)).await.unwrap();
        }
        client.publish("failing", SECRET).await.unwrap();
        client.publish("picky", SECRET).await.unwrap();
        client.publish("nobody", SECRET).await.unwrap();
        client.publish("{}", vec![0; 300 << 20]).await.unwrap_err();
    }
    settle().await;
    let stats = client.stats();
    assert!(
        stats.duplicates > 0 && stats.failed == 200 && stats.invalid == 200,
        "{stats:?}"
    );
    let items = recorded.items();
    assert!(items.len() > 5000, "messages are at DEBUG: {}", items.len());
    let aloud = items.iter().filter(|item| item.level < Level::DEBUG).count();
    assert!(aloud < 10, "{aloud}");
    let betrayed = items
        .iter()
        .find(|item| item.fields.values().any(|value| value.contains(SECRET)));
    assert!(betrayed.is_none(), "{betrayed:?}");
}
