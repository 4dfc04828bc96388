//! SPEC 7, responders: every request is answered, with what it asked for or with why not.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tars_mqtt::{Client, Data, Envelope, Error, ErrorKind, ErrorReply, OnFailure, QoS, Route, State};
use tars_testkit::memory::MemoryBroker;
use tokio::sync::Notify;

use crate::{config, connected, connected_with, payload_text, secs, settle};

#[derive(Debug, Serialize, Deserialize)]
struct Number {
    n: u64,
}

async fn double(question: Envelope<Number>) -> Result<Number, Error> {
    Ok(Number { n: 2 * question.data.n })
}

fn ask(client: &Client, data: serde_json::Value) -> tars_mqtt::Request<Number> {
    client.request("ask", "asked", &data).reply_on("answer")
}

/// The replies the broker saw: type and payload.
fn replies(broker: &MemoryBroker) -> Vec<(QoS, String)> {
    let replies = broker
        .published()
        .into_iter()
        .filter(|message| message.topic.as_str() == "answer");
    replies
        .map(|message| (message.qos, payload_text(&message.payload)))
        .collect()
}

/// Counts its runs, and does with the number what `answer` says.
async fn counting<F, Run>(client: &Client, answer: F) -> Arc<AtomicU64>
where
    F: Fn(u64, u64) -> Run + Send + Sync + Clone + 'static,
    Run: Future<Output = Result<Number, ErrorReply>> + Send + 'static,
{
    let runs = Arc::<AtomicU64>::default();
    let counted = runs.clone();
    let responder = move |question: Envelope<Number>| {
        let run = counted.fetch_add(1, Ordering::SeqCst) + 1;
        answer(question.data.n, run)
    };
    client
        .respond("ask", "answer", "answered", responder)
        .timeout(secs(2))
        .on_failure(OnFailure::retry(1, Duration::from_millis(10)))
        .await
        .unwrap();
    runs
}

#[tokio::test(start_paused = true)]
async fn it_answers_with_the_request_s_id_at_qos_1() {
    let broker = MemoryBroker::new();
    let (peer, client) = (connected(&broker, "peer").await, connected(&broker, "svc").await);
    let subscription = peer.respond("ask", "answer", "answered", double).await.unwrap();
    assert_eq!(subscription.granted(), QoS::AtLeastOnce);
    let request = ask(&client, json!({"n": 21}));
    let id = request.id().to_owned();
    let answer = request.await.unwrap();
    assert_eq!((answer.data.n, answer.id), (42, id));
    assert_eq!(
        (answer.event_type.as_str(), answer.source.as_str()),
        ("answered", "peer")
    );
    assert_eq!(replies(&broker)[0].0, QoS::AtLeastOnce);
}

#[tokio::test(start_paused = true)]
async fn a_responder_given_to_the_builder_answers_from_the_first_packet() {
    let broker = MemoryBroker::new();
    let peer = Client::builder(config("peer").build().unwrap())
        .connector(broker.connector())
        .route(Route::respond("ask", "answer", "answered", double))
        .build()
        .unwrap();
    peer.connect().await.unwrap();
    let client = connected(&broker, "svc").await;
    assert_eq!(ask(&client, json!({"n": 2})).await.unwrap().data.n, 4);
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_becomes_one_error_reply_that_says_what() {
    let broker = MemoryBroker::new();
    let (peer, client) = (connected(&broker, "peer").await, connected(&broker, "svc").await);
    let runs = counting(&peer, async |n, _| match n {
        0 => Err(ErrorReply::new("not_found", "there is none")),
        1 => panic!("as the test wants"),
        2 => std::future::pending().await,
        n => Ok(Number { n }),
    })
    .await;
    for (data, kind, text, run) in [
        (json!({"n": 0}), "not_found", "there is none", 2),
        (json!({"n": 1}), "panic", "as the test wants", 2),
        (json!({"n": 2}), "timeout", "2s", 2),
        (json!({"n": "no number"}), "invalid", "", 0),
    ] {
        broker.clear_log();
        let before = runs.swap(0, Ordering::SeqCst);
        let error = ask(&client, data).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ErrorReply, "{error} {before}");
        let reply = ErrorReply::of(&error).unwrap();
        assert_eq!(reply.kind, kind);
        assert!(reply.error.contains(text), "{reply}");
        settle().await;
        assert_eq!(
            (runs.load(Ordering::SeqCst), replies(&broker).len()),
            (run, 1),
            "{kind}"
        );
    }
    assert_eq!((peer.stats().failed, peer.stats().invalid), (6, 1));
    assert_eq!(ask(&client, json!({"n": 3})).await.unwrap().data.n, 3);
}

#[tokio::test(start_paused = true)]
async fn any_error_will_do_and_a_reply_that_is_no_object_is_one() {
    let broker = MemoryBroker::new();
    let (peer, client) = (connected(&broker, "peer").await, connected(&broker, "svc").await);
    peer.respond("ask", "answer", "answered", async |question: Envelope<Number>| {
        if question.data.n == 0 {
            return Err("a text");
        }
        Ok([question.data.n])
    })
    .await
    .unwrap();
    for (n, text) in [(0, "a text"), (1, "object")] {
        let error = ask(&client, json!({"n": n})).await.unwrap_err();
        let reply = ErrorReply::of(&error).unwrap();
        assert!(reply.kind == "error" && reply.error.contains(text), "{reply}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_id_is_invalid() {
    let broker = MemoryBroker::new();
    let peer = connected(&broker, "peer").await;
    peer.respond("ask", "answer", "answered", double).await.unwrap();
    for payload in [r#"{"type":"asked","data":{"n":1}}"#, "no json"] {
        peer.publish("ask", payload).await.unwrap();
    }
    settle().await;
    assert_eq!((peer.stats().invalid, replies(&broker).len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_request_is_acknowledged_when_the_broker_has_the_reply() {
    let broker = MemoryBroker::new();
    let config = config("peer").clean_session(false);
    let (peer, client) = (connected_with(&broker, config).await, connected(&broker, "svc").await);
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (noted, awaited) = (reached.clone(), go_on.clone());
    peer.respond("ask", "answer", "answered", move |question: Envelope<Number>| {
        let (reached, go_on) = (noted.clone(), awaited.clone());
        async move {
            reached.notify_one();
            go_on.notified().await;
            Ok::<_, Error>(question.data)
        }
    })
    .await
    .unwrap();
    let answer = tokio::spawn(ask(&client, json!({"n": 1})).timeout(secs(600)).into_future());
    reached.notified().await;
    // Nothing the peer sends gets through.
    broker.freeze();
    go_on.notify_one();
    tokio::time::sleep(secs(5)).await;
    assert!(
        peer.stats().oldest_unfinished.is_some(),
        "the reply is not at the broker yet"
    );
    broker.thaw();
    assert_eq!(answer.await.unwrap().unwrap().data.n, 1);
    settle().await;
    assert!(peer.stats().oldest_unfinished.is_none());
    assert_eq!(broker.backlog("peer"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn with_dedupe_a_repeated_request_is_answered_again_and_not_run_again() {
    let broker = MemoryBroker::new();
    let peer = connected_with(&broker, config("peer").dedupe_ttl(secs(600))).await;
    let client = connected(&broker, "svc").await;
    // The second and third run are those of a request that fails, and of its retry.
    let runs = counting(&peer, async |n, run| match n {
        7 if run < 4 => Err(ErrorReply::new("busy", "not now")),
        n => Ok(Number { n }),
    })
    .await;
    let ask = |n: u64| ask(&client, json!({"n": n})).correlation_id("same");
    for _ in 0..3 {
        assert_eq!(ask(1).await.unwrap().data.n, 1);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!((peer.stats().answered_again, peer.stats().duplicates), (2, 2));
    // The same id, another question.
    ask(7).await.unwrap_err();
    assert_eq!(ask(7).await.unwrap().data.n, 7, "what failed runs again");
    assert_eq!(runs.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn with_dedupe_a_lost_reply_comes_again_after_a_reconnect() {
    let broker = MemoryBroker::new();
    let peer = connected_with(&broker, config("peer").dedupe_ttl(secs(600))).await;
    let client = connected(&broker, "svc").await;
    let gate = Arc::new(Notify::new());
    let awaited = gate.clone();
    let runs = counting(&peer, move |n, _| {
        let gate = awaited.clone();
        async move {
            gate.notified().await;
            Ok(Number { n })
        }
    })
    .await;
    let answer = tokio::spawn(ask(&client, json!({"n": 5})).into_future());
    settle().await;
    // The reply finds nobody: its requester is away.
    broker.cut("svc");
    client.state().until(State::Reconnecting).await;
    gate.notify_one();
    assert_eq!(answer.await.unwrap().unwrap().data.n, 5);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(replies(&broker).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_would_answer_itself_is_refused() {
    let broker = MemoryBroker::new();
    let peer = connected(&broker, "peer").await;
    let error = peer.respond("a/#", "a/answer", "t", double).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFilter);
    let error = peer.respond("a", "a/+", "t", double).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTopic);
    let nothing = async |_: Envelope<Data>| Ok::<_, Error>(json!({}));
    peer.respond("a/+", "a", "t", nothing).await.unwrap();
}
