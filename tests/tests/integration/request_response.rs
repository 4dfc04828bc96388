//! Requests, responders, streams and retained state on Mosquitto, with each adapter.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tars_mqtt::{Adapter, Client, Context, Data, Envelope, Error, ErrorKind, QoS, Request, State};
use tars_testkit::mosquitto::Mosquitto;
use tokio::sync::Semaphore;

use crate::support::seen::Seen;
use crate::support::{ADAPTERS, PATIENCE, broker, config, connected_with, started, within};

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Number {
    n: u64,
}

async fn double(question: Envelope<Number>) -> Result<Number, Error> {
    Ok(Number { n: 2 * question.data.n })
}

async fn peers(broker: &Mosquitto, adapter: Adapter) -> (Client, Client) {
    let of = |client_id| config(broker, client_id).adapter(adapter);
    let peer = connected_with(of("peer").dedupe_ttl(PATIENCE)).await;
    (peer, connected_with(of("svc")).await)
}

fn ask(client: &Client, n: u64) -> Request<Number> {
    client
        .request("ask", "asked", &Number { n })
        .reply_on("answer")
        .timeout(PATIENCE)
}

/// How many requests may be on their way at one time.
const IN_FLIGHT: usize = 200;

#[tokio::test]
async fn ten_thousand_requests_through_a_restart_are_answered_or_fail_and_nothing_is_left() {
    for (name, adapter) in ADAPTERS {
        let mut broker = started(Mosquitto::builder().persistence(true)).await;
        let peer = config(&broker, "peer").adapter(*adapter).clean_session(false);
        let peer = connected_with(peer.dedupe_ttl(PATIENCE)).await;
        let client = connected_with(config(&broker, "svc").adapter(*adapter)).await;
        let answering = peer.respond("ask", "answer", "answered", double_or_late);
        answering.concurrency(64).await.unwrap();
        let (seen, room) = (Seen::default(), Arc::new(Semaphore::new(IN_FLIGHT)));
        let requests: Vec<_> = (0..10_000)
            .map(|n| {
                let (client, seen, room) = (client.clone(), seen.clone(), room.clone());
                tokio::spawn(async move {
                    let _permit = room.acquire().await.unwrap();
                    let outcome = one_of_many(&client, n).await;
                    seen.push(n);
                    outcome
                })
            })
            .collect();
        seen.reach(3_000).await;
        broker.restart().await.unwrap();
        let (mut answered, mut timed_out, mut cancelled) = (0, 0, 0);
        for (n, request) in (0..).zip(requests) {
            match within("an answer", request).await.unwrap() {
                Some(Ok(answer)) => {
                    assert_eq!(answer.data, Number { n: 2 * n }, "{name}");
                    answered += 1;
                }
                Some(Err(error)) => {
                    let is = (n % 100, error.kind());
                    assert_eq!(is, (0, ErrorKind::Timeout), "{name} {n}: {error}");
                    timed_out += 1;
                }
                None => cancelled += 1,
            }
        }
        assert_eq!((answered, timed_out, cancelled), (9_800, 100, 100), "{name}");
        assert_eq!(client.stats().requests, 0, "{name}");
        // What is settled after all others says that they are.
        client.publish("end", "").qos(QoS::AtLeastOnce).await.unwrap();
        assert_eq!(client.stats().unsettled, 0, "{name}");
        assert_eq!(peer.shutdown().await.handlers_cut_off, 0, "{name}");
        assert_eq!((peer.stats().unsettled, peer.stats().unfinished), (0, 0), "{name}");
        assert!(client.stats().replies_ignored >= 50, "{name}: those that came too late");
        client.shutdown().await;
    }
}

/// `None` for one in a hundred, whose caller goes away while it is on its way.
async fn one_of_many(client: &Client, n: u64) -> Option<Result<Envelope<Number>, Error>> {
    match n % 100 {
        // Nobody is there.
        0 => {
            let request = client.request("void", "asked", &Number { n }).reply_on("answer");
            Some(request.timeout(Duration::from_secs(2)).await)
        }
        1 => {
            let request = ask(client, n).into_future();
            tokio::time::timeout(Duration::from_millis(50), request).await.ok()
        }
        _ => Some(ask(client, n).await),
    }
}

/// One in a hundred is answered when nobody waits any more.
async fn double_or_late(question: Envelope<Number>) -> Result<Number, Error> {
    if question.data.n % 100 == 1 {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    double(question).await
}

#[tokio::test]
async fn handlers_that_fill_the_broker_s_window_get_their_replies() {
    for (name, adapter) in ADAPTERS {
        let broker = broker().await;
        let (peer, client) = peers(&broker, *adapter).await;
        peer.respond("ask", "answer", "answered", double).await.unwrap();
        let seen = Seen::default();
        let noted = seen.clone();
        client
            .subscribe("work", move |context: Context| {
                let seen = noted.clone();
                async move {
                    let data = json!({"n": 4});
                    let reply = context
                        .request::<Number>("ask", "asked", &data)
                        .reply_on("answer")
                        .await?;
                    seen.push(reply.data.n);
                    Ok::<_, Error>(())
                }
            })
            .qos(QoS::AtLeastOnce)
            .concurrency(64)
            .await
            .unwrap();
        for _ in 0..100 {
            peer.publish("work", "").qos(QoS::AtLeastOnce).await.unwrap();
        }
        assert_eq!(seen.reach(100).await, [8; 100], "{name}");
        client.shutdown().await;
    }
}

#[tokio::test]
async fn a_stream_comes_whole_and_in_order() {
    for (name, adapter) in ADAPTERS {
        let broker = broker().await;
        let (peer, client) = peers(&broker, *adapter).await;
        peer.subscribe("llm/request", async |_: Envelope, context: Context| {
            let mut numbers = context.stream_reply("llm/stream", "llm.stream")?;
            for n in 0..200 {
                numbers.send(&Number { n }).await?;
            }
            numbers.finish().await
        })
        .await
        .unwrap();
        let stream = client.request_stream::<Number>("llm/request", "llm.request", &json!({}));
        let mut stream = within("the stream", stream.reply_on("llm/stream").into_future())
            .await
            .unwrap();
        for n in 0..200 {
            let item = within("an item", stream.next()).await.unwrap();
            assert_eq!(item.unwrap().data, Number { n }, "{name}");
        }
        assert!(within("the end", stream.next()).await.is_none());
        client.shutdown().await;
    }
}

#[tokio::test]
async fn what_the_broker_keeps_is_known_and_what_it_does_not_keep_too() {
    for (name, adapter) in ADAPTERS {
        let broker = broker().await;
        let health = config(&broker, "stt").adapter(*adapter).enable_health(true);
        let client = connected_with(config(&broker, "svc").adapter(*adapter)).await;
        let nothing = within("no state", client.retained::<Data>("system/config").into_future()).await;
        assert!(nothing.unwrap().is_none(), "{name}");
        let state = json!({"n": 5});
        let publish = client.publish_event("system/config", "config", &state).retain(true);
        publish.qos(QoS::AtLeastOnce).await.unwrap();
        let state = within("the state", client.retained::<Number>("system/config").into_future()).await;
        assert_eq!(state.unwrap().unwrap().data, Number { n: 5 }, "{name}");

        let waiting = tokio::spawn(client.wait_for_peer("stt").timeout(PATIENCE).into_future());
        let stt = connected_with(health).await;
        assert!(within("the peer", waiting).await.unwrap().unwrap().ok, "{name}");
        stt.shutdown().await;
        let gone = client.wait_for_peer("stt").timeout(Duration::from_millis(500)).await;
        assert!(gone.unwrap_err().to_string().contains("shutdown"), "{name}");
        client.shutdown().await;
        client.state().until(State::Disconnected).await;
    }
}
