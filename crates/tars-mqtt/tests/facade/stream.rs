//! SPEC 7, streaming: items in order, to the end, within bounds.

use serde::Deserialize;
use serde_json::{Value, json};
use tars_mqtt::{Client, Context, Envelope, Error, ErrorKind, ErrorReply, Message, QoS, ReplyStream, State};
use tars_testkit::memory::MemoryBroker;

use crate::{connected, payload_text, secs, settle};

#[derive(Debug, Deserialize)]
struct Delta {
    delta: String,
}

fn request(client: &Client) -> tars_mqtt::StreamRequest<Delta> {
    let data = json!({"text": "hi"});
    client
        .request_stream("llm/request", "llm.request", &data)
        .reply_on("llm/stream")
        .correlation_id("req")
}

/// As a Python service publishes it: the envelope has an id of its own.
fn item(broker: &MemoryBroker, mut data: Value) {
    data["id"] = json!("req");
    let event_type = if data["done"] == json!(true) {
        "llm.stream.done"
    } else {
        "llm.stream.delta"
    };
    let envelope =
        json!({"id": tars_mqtt::contracts::fresh_id(), "type": event_type, "ts": 1.0, "source": "llm", "data": data});
    broker.publish(Message::new("llm/stream".parse().unwrap(), envelope.to_string()));
}

fn delta(broker: &MemoryBroker, seq: u64) {
    item(broker, json!({"seq": seq, "delta": seq.to_string(), "done": false}));
}

async fn next(items: &mut ReplyStream<Delta>) -> String {
    items.next().await.unwrap().unwrap().data.delta
}

async fn error(items: &mut ReplyStream<Delta>) -> ErrorKind {
    let error = items.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("llm/stream"), "{error}");
    assert!(items.next().await.is_none(), "an error is the last item");
    assert!(items.next().await.is_none());
    error.kind()
}

#[tokio::test(start_paused = true)]
async fn items_come_in_order_each_once_until_one_is_done() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let mut items = request(&client).await.unwrap();
    for seq in [2, 0, 0, 1, 3, 1, 5] {
        delta(&broker, seq);
    }
    item(&broker, json!({"seq": 6, "done": true}));
    delta(&broker, 4);
    delta(&broker, 7);
    for seq in 0..6 {
        assert_eq!(next(&mut items).await, seq.to_string());
    }
    assert!(items.next().await.is_none(), "the last one carries no delta");
    assert_eq!(client.stats().invalid, 0, "an end is no bad input");
    assert!(items.next().await.is_none());
    drop(items);
    delta(&broker, 8);
    settle().await;
    assert_eq!(client.stats().requests, 0);
    assert_eq!(
        client.stats().replies_ignored,
        3,
        "two came twice, and one after the end"
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_item_is_given_if_it_fits_and_items_without_a_number_as_they_come() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let mut items = request(&client).first_seq(1).await.unwrap();
    item(&broker, json!({"delta": "unnumbered"}));
    item(&broker, json!({"seq": 2, "delta": "last", "done": true}));
    delta(&broker, 1);
    assert_eq!(next(&mut items).await, "unnumbered");
    assert_eq!(next(&mut items).await, "1");
    assert_eq!(next(&mut items).await, "last");
    assert!(items.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_or_late_or_too_much_is_an_error() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let started = tokio::time::Instant::now();

    let mut items = request(&client).gap_timeout(secs(3)).await.unwrap();
    delta(&broker, 0);
    delta(&broker, 2);
    assert_eq!(next(&mut items).await, "0");
    assert_eq!(error(&mut items).await, ErrorKind::Gap);
    assert_eq!(started.elapsed().as_secs(), 3);
    drop(items);

    let mut items = request(&client).idle_timeout(secs(20)).await.unwrap();
    delta(&broker, 0);
    assert_eq!(next(&mut items).await, "0");
    assert_eq!(error(&mut items).await, ErrorKind::Timeout);
    assert_eq!(started.elapsed().as_secs(), 23);
    drop(items);

    // More than fits waits to be read: what fits is still given.
    let mut items = request(&client).buffer(4).await.unwrap();
    for seq in 0..10 {
        delta(&broker, seq);
    }
    settle().await;
    for seq in 0..4 {
        assert_eq!(next(&mut items).await, seq.to_string());
    }
    assert_eq!(error(&mut items).await, ErrorKind::Full);
    drop(items);

    // More than fits waits for one before it.
    let mut items = request(&client).buffer(4).await.unwrap();
    let reading = tokio::spawn(async move { error(&mut items).await });
    for seq in 1..10 {
        delta(&broker, seq);
        tokio::task::yield_now().await;
        settle().await;
    }
    assert_eq!(reading.await.unwrap(), ErrorKind::Gap);

    let mut items = request(&client).await.unwrap();
    item(&broker, json!({"seq": 0, "delta": 5}));
    assert_eq!(error(&mut items).await, ErrorKind::InvalidPayload);
    drop(items);
    settle().await;
    assert_eq!(client.stats().requests, 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_it_releases_everything_and_ending_the_client_ends_it() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let items = request(&client).await.unwrap();
    assert_eq!(client.stats().requests, 1);
    drop(items);
    drop(request(&client));
    assert_eq!(client.stats().requests, 0);
    tokio::time::sleep(secs(61)).await;
    assert_eq!(broker.subscriptions("svc"), []);
    broker.refuse_filter("llm/stream");
    let refused = request(&client).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::SubscriptionRefused);
    broker.allow_filter("llm/stream");

    let mut items = request(&client).await.unwrap();
    let reading = tokio::spawn(async move { error(&mut items).await });
    client.shutdown().await;
    assert_eq!(reading.await.unwrap(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn it_is_asked_for_again_after_a_reconnect_unless_it_has_begun() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let asked = || {
        let requests = broker
            .published()
            .into_iter()
            .filter(|message| message.topic.as_str() == "llm/request");
        requests.count()
    };
    let reconnect = async || {
        broker.cut("svc");
        client.state().until(State::Reconnecting).await;
        client.state().until(State::Connected).await;
        settle().await;
    };
    let mut items = request(&client).await.unwrap();
    let reading = tokio::spawn(async move {
        let first = next(&mut items).await;
        let second = next(&mut items).await;
        (first, second)
    });
    settle().await;
    assert_eq!(asked(), 1);
    reconnect().await;
    assert_eq!(asked(), 2);
    delta(&broker, 0);
    settle().await;
    reconnect().await;
    assert_eq!(asked(), 2);
    delta(&broker, 1);
    assert_eq!(reading.await.unwrap(), ("0".to_owned(), "1".to_owned()));
}

async fn streaming(broker: &MemoryBroker) -> Client {
    let client = connected(broker, "llm").await;
    client
        .subscribe("llm/request", async |prompt: Envelope, context: Context| {
            let mut deltas = context.stream_reply("llm/stream", "llm.stream")?;
            for word in ["one", "two", "three"] {
                // What the data says of these is not what counts.
                deltas.send(&json!({"seq": 77, "delta": word})).await?;
            }
            match prompt.data["text"].as_str() {
                Some("fail") => Err(Error::new(ErrorKind::Internal, "half-way")),
                Some("refuse") => deltas.fail(ErrorReply::new("busy", "not now")).await,
                Some("panic") => panic!("as the test wants"),
                _ => deltas.finish().await,
            }
        })
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    client
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_given_piece_by_piece_with_number_and_end() {
    let broker = MemoryBroker::new();
    let (_llm, client) = (streaming(&broker).await, connected(&broker, "svc").await);
    let mut items = request(&client).await.unwrap();
    for word in ["one", "two", "three"] {
        assert_eq!(next(&mut items).await, word);
    }
    assert!(items.next().await.is_none());
    let sent = broker
        .published()
        .into_iter()
        .filter(|message| message.topic.as_str() == "llm/stream");
    let sent: Vec<_> = sent
        .map(|message| (message.qos, payload_text(&message.payload)))
        .collect();
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|(qos, _)| *qos == QoS::AtMostOnce));
    let envelopes = sent
        .iter()
        .map(|(_, text)| serde_json::from_str::<Value>(text).unwrap());
    let parts: Vec<_> = envelopes
        .map(|e| (e["id"].clone(), e["type"].clone(), e["data"].clone()))
        .collect();
    let (id, of_type) = (json!("req"), |part: &str| json!(format!("llm.stream.{part}")));
    let first = json!({"seq": 0, "delta": "one", "id": "req", "done": false});
    assert_eq!(parts[0], (id.clone(), of_type("delta"), first));
    let end = json!({"id": "req", "seq": 3, "done": true});
    assert_eq!(parts[3], (id, of_type("done"), end));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_tells_the_requester() {
    let broker = MemoryBroker::new();
    let (_llm, client) = (streaming(&broker).await, connected(&broker, "svc").await);
    for (how, kind) in [("fail", "incomplete"), ("panic", "incomplete"), ("refuse", "busy")] {
        let asked = client.request_stream::<Delta>("llm/request", "llm.request", &json!({"text": how}));
        let mut items = asked.reply_on("llm/stream").await.unwrap();
        for word in ["one", "two", "three"] {
            assert_eq!(next(&mut items).await, word);
        }
        let error = items.next().await.unwrap().unwrap_err();
        assert_eq!(ErrorReply::of(&error).unwrap().kind, kind, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_are_asked_for_in_one_go_all_are_on_their_way() {
    const REQUESTS: usize = 300;
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let mut streams = Vec::new();
    for n in 0..REQUESTS {
        streams.push(request(&client).correlation_id(n.to_string()).await.unwrap());
    }
    settle().await;
    let asked = broker.published();
    let asked = asked.iter().filter(|message| message.topic.as_str() == "llm/request");
    assert_eq!(asked.count(), REQUESTS, "and nobody has read from a stream yet");
}
