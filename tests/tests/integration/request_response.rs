//! Requests, responders, streams and retained state on Mosquitto, with each adapter.

use std::future::IntoFuture;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tars_mqtt::{Adapter, Client, Context, Data, Envelope, Error, QoS, Request, State};
use tars_testkit::mosquitto::Mosquitto;

use crate::support::seen::Seen;
use crate::support::{ADAPTERS, PATIENCE, broker, config, connected_with, within};

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

#[tokio::test]
async fn requests_are_answered_through_a_restart_of_the_broker() {
    for (name, adapter) in ADAPTERS {
        let mut broker = broker().await;
        let (peer, client) = peers(&broker, *adapter).await;
        peer.respond("ask", "answer", "answered", double).await.unwrap();
        assert_eq!(ask(&client, 1).await.unwrap().data, Number { n: 2 });
        let seen = Seen::default();
        let requests: Vec<_> = (0..300)
            .map(|n| {
                let (client, seen) = (client.clone(), seen.clone());
                tokio::spawn(async move {
                    let answer = ask(&client, n).await;
                    seen.push(n);
                    answer
                })
            })
            .collect();
        seen.reach(50).await;
        broker.restart().await.unwrap();
        for (n, request) in (0..).zip(requests) {
            let answer = within("an answer", request).await.unwrap();
            let answer = answer.unwrap_or_else(|error| panic!("{name} {n}: {error}"));
            assert_eq!(answer.data, Number { n: 2 * n });
        }
        assert_eq!(client.stats().requests, 0);
        client.shutdown().await;
    }
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
