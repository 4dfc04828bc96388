//! SPEC 7, requests: matched by correlation id, across reconnects, inside handlers, and
//! nothing is left of them.

use std::future::IntoFuture;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tars_mqtt::{
    Client, Context, Data, Envelope, Error, ErrorKind, ErrorReply, Event, InboundMessage, Message, QoS, State,
};
use tars_testkit::memory::{Fault, MemoryBroker, PacketKind};

use crate::{Seen, config, connected, connected_with, payload_text, secs, settle};

#[derive(Debug, Deserialize)]
struct Answer {
    n: u64,
}

/// Answers `ask` on `answer`, with what it was asked.
async fn answering(broker: &MemoryBroker) -> Client {
    let client = connected(broker, "answering").await;
    client
        .subscribe("ask", async |question: Envelope, context: Context| {
            context.reply("answer", "answered", &question.data).await.map(drop)
        })
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    client
}

fn ask(client: &Client, n: u64) -> tars_mqtt::Request<Answer> {
    client.request("ask", "asked", &json!({"n": n})).reply_on("answer")
}

fn event(topic: &str, payload: &serde_json::Value) -> Message {
    Message::new(topic.parse().unwrap(), payload.to_string())
}

/// How often each question reached the broker.
fn asked(broker: &MemoryBroker) -> Vec<String> {
    let questions = broker
        .published()
        .into_iter()
        .filter(|message| message.topic.as_str() == "ask");
    questions.map(|message| payload_text(&message.payload)).collect()
}

fn nothing_is_left(client: &Client) {
    assert_eq!(client.stats().requests, 0);
    assert_eq!(client.stats().unsettled, 0);
}

#[tokio::test(start_paused = true)]
async fn each_request_gets_the_reply_that_carries_its_id() {
    let broker = MemoryBroker::new();
    let (_peer, client) = (answering(&broker).await, connected(&broker, "svc").await);
    let answers = join_all((0..500).map(|n| ask(&client, n).into_future())).await;
    for (n, answer) in (0..).zip(answers) {
        let answer = answer.unwrap();
        assert_eq!((answer.data.n, answer.event_type.as_str()), (n, "answered"));
    }
    nothing_is_left(&client);
    assert_eq!(
        broker.subscriptions("svc"),
        [("answer".parse().unwrap(), QoS::AtMostOnce)],
        "one filter for all of them"
    );
    assert_eq!(broker.subscribe_packets("svc").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_does_not_reach_the_next_request() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let first = ask(&client, 1).timeout(secs(1));
    let id = first.id().to_owned();
    let error = first.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.to_string().contains("asked") && error.to_string().contains("answer"),
        "{error}"
    );

    let second = tokio::spawn(ask(&client, 2).into_future());
    settle().await;
    broker.publish(event(
        "answer",
        &json!({"id": id, "type": "answered", "data": {"n": 1}}),
    ));
    broker.publish(event(
        "answer",
        &json!({"id": "foreign", "type": "answered", "data": {"n": 3}}),
    ));
    broker.publish(Message::new("answer".parse().unwrap(), "no envelope"));
    settle().await;
    assert!(!second.is_finished());
    assert_eq!(client.stats().replies_ignored, 3);
    second.abort();
    settle().await;
    nothing_is_left(&client);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_waits_for_a_reply_does_not_deadlock() {
    // The broker sends one unacknowledged message at a time, and that is the handler's.
    let broker = MemoryBroker::new().with_window(1);
    let (_peer, client, seen) = (
        answering(&broker).await,
        connected(&broker, "svc").await,
        Seen::default(),
    );
    let (noted, heard) = (seen.clone(), seen.clone());
    client
        .subscribe("work", move |context: Context| {
            let seen = noted.clone();
            async move {
                let answer: Envelope<Answer> = context
                    .request("ask", "asked", &json!({"n": 7}))
                    .reply_on("answer")
                    .await?;
                seen.push(format!("answer {}", answer.data.n));
                Ok::<_, Error>(())
            }
        })
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    // The very topic of the replies, with a handler that asks as well.
    client
        .subscribe("answer", move |heard_answer: Envelope<Answer>, context: Context| {
            let seen = heard.clone();
            async move {
                if heard_answer.data.n == 7 {
                    ask(&context.client().unwrap(), 8).await?;
                }
                seen.push(format!("heard {}", heard_answer.data.n));
                Ok::<_, Error>(())
            }
        })
        .await
        .unwrap();
    for _ in 0..3 {
        client.publish("work", "").qos(QoS::AtLeastOnce).await.unwrap();
    }
    let mut seen = seen.reach(9).await;
    seen.sort();
    assert_eq!(seen, ["answer 7", "heard 7", "heard 8"].map(|what| [what; 3]).concat());
    nothing_is_left(&client);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_timed_out_or_was_dropped_leaves_nothing() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    for _ in 0..10 {
        let timed_out = (0..1000).map(|n| ask(&client, n).timeout(Duration::from_millis(500)).into_future());
        for result in join_all(timed_out).await {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
        }
        let mut dropped = join_all((0..1000).map(|n| ask(&client, n).into_future()));
        assert!((&mut dropped).now_or_never().is_none());
        settle().await;
        assert!((&mut dropped).now_or_never().is_none());
        assert_eq!(client.stats().requests, 1000);
        drop(dropped);
        // Dropped before it was ever polled.
        (0..1000).for_each(|n| drop(ask(&client, n).into_future()));
        settle().await;
        nothing_is_left(&client);
    }
    assert_eq!(broker.subscriptions("svc").len(), 1);
    tokio::time::sleep(secs(61)).await;
    assert_eq!(
        broker.subscriptions("svc"),
        [],
        "a minute later the reply topic is given back"
    );
}

#[tokio::test(start_paused = true)]
async fn reply_topics_of_their_own_do_not_add_up() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    for n in 0..300 {
        let reply = client
            .request::<Answer>("ask", "asked", &json!({}))
            .reply_on(format!("answer/{n}"))
            .timeout(Duration::from_millis(10));
        reply.await.unwrap_err();
    }
    settle().await;
    let kept = broker.subscriptions("svc");
    assert_eq!(kept.len(), 64);
    assert!(kept.iter().any(|(filter, _)| filter.as_str() == "answer/299"));
    tokio::time::sleep(secs(61)).await;
    assert_eq!(broker.subscriptions("svc"), []);
}

#[tokio::test(start_paused = true)]
async fn a_reply_topic_in_use_is_kept_and_a_user_s_subscription_is_not_touched() {
    let broker = MemoryBroker::new();
    let (_peer, client) = (answering(&broker).await, connected(&broker, "svc").await);
    let seen = Seen::default();
    let noted = seen.clone();
    client
        .subscribe("answer", move |_: InboundMessage| {
            noted.push("heard");
            async {}
        })
        .await
        .unwrap();
    for n in 0..3 {
        ask(&client, n).await.unwrap();
        tokio::time::sleep(secs(40)).await;
    }
    tokio::time::sleep(secs(120)).await;
    client.publish("answer", "x").await.unwrap();
    assert_eq!(seen.reach(4).await.len(), 4, "each reply and the last one");
    // And the other way round: the user's word does not reach the reply route.
    let waiting = tokio::spawn(ask(&client, 9).into_future());
    client.unsubscribe("answer").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().data.n, 9);
}

#[tokio::test(start_paused = true)]
async fn unanswered_when_the_link_is_lost_it_is_sent_again_with_its_id() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let request = ask(&client, 1);
    let id = request.id().to_owned();
    let reply = tokio::spawn(request.into_future());
    settle().await;
    assert_eq!(asked(&broker).len(), 1);
    broker.cut("svc");
    client.state().until(State::Reconnecting).await;
    client.state().until(State::Connected).await;
    settle().await;
    let asked = asked(&broker);
    assert_eq!(asked.len(), 2);
    assert!(asked[0] == asked[1] && asked[0].contains(&id));
    broker.publish(event(
        "answer",
        &json!({"id": id, "type": "answered", "data": {"n": 1}}),
    ));
    assert_eq!(reply.await.unwrap().unwrap().data.n, 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_not_confirmed_is_not_sent_twice() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    ask(&client, 0).timeout(secs(1)).await.unwrap_err();
    broker.clear_log();
    broker.stop();
    client.state().until(State::Reconnecting).await;
    let waiting = tokio::spawn(ask(&client, 1).into_future());
    let best_effort = tokio::spawn(ask(&client, 2).qos(QoS::AtMostOnce).into_future());
    tokio::time::sleep(secs(10)).await;
    broker.start();
    client.state().until(State::Connected).await;
    settle().await;
    assert_eq!(asked(&broker).len(), 2, "each once: {:?}", asked(&broker));
    assert!(!waiting.is_finished() && !best_effort.is_finished());
}

#[tokio::test(start_paused = true)]
async fn an_error_reply_comes_back_as_an_error_with_the_peer_s_words() {
    let broker = MemoryBroker::new();
    let (peer, client) = (connected(&broker, "peer").await, connected(&broker, "svc").await);
    peer.subscribe("ask", async |context: Context| {
        let error = json!({"error": "there is no tea", "kind": "not_found"});
        context.reply("answer", "answered.error", &error).await.map(drop)
    })
    .await
    .unwrap();
    let error = ask(&client, 1).reply_type("answered").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ErrorReply);
    let reply = ErrorReply::of(&error).unwrap();
    assert_eq!(
        (reply.kind.as_str(), reply.error.as_str()),
        ("not_found", "there is no tea")
    );
    let text = error.to_string();
    assert!(
        text.contains("request asked to ask") && text.contains("no tea"),
        "{text}"
    );
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "asked", topic = "ask/{of}", qos = 1)]
struct Question {
    of: String,
    n: u64,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "answered", topic = "answer/{to}")]
struct TypedAnswer {
    to: String,
    n: u64,
}

#[tokio::test(start_paused = true)]
async fn events_are_asked_and_answered_without_strings() {
    let broker = MemoryBroker::new();
    let (peer, client) = (connected(&broker, "peer").await, connected(&broker, "svc").await);
    peer.on(async |question: Envelope<Question>, context: Context| {
        // Another event with the same id on the way: it is of another type.
        context
            .reply("answer/progress", "progress", &json!({"percent": 50}))
            .await?;
        let Question { of, n } = question.data;
        let answer = TypedAnswer { to: of, n };
        context.reply("answer/svc", TypedAnswer::TYPE, &answer).await.map(drop)
    })
    .await
    .unwrap();
    let question = Question { of: "me".into(), n: 3 };
    let answer = client.ask::<TypedAnswer>(&question).await.unwrap();
    assert_eq!((answer.data.n, answer.data.to.as_str()), (3, "me"));
    let asked = broker
        .published()
        .into_iter()
        .find(|message| message.topic.as_str() == "ask/me");
    assert_eq!(asked.unwrap().qos, QoS::AtLeastOnce);
    let misfit = Question { of: "a/b".into(), n: 3 };
    let error = client.ask::<TypedAnswer>(&misfit).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTopic);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_an_error_at_once_and_leaves_nothing() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let request = |reply_on: &str| client.request::<Data>("ask", "asked", &json!({})).reply_on(reply_on);
    assert_eq!(request("a/#/b").await.unwrap_err().kind(), ErrorKind::InvalidFilter);
    assert_eq!(
        request("$share/g/answer").await.unwrap_err().kind(),
        ErrorKind::InvalidFilter
    );
    broker.refuse_filter("refused");
    assert_eq!(
        request("refused").await.unwrap_err().kind(),
        ErrorKind::SubscriptionRefused
    );
    let wildcard = client.request::<Data>("ask/+", "asked", &json!({})).reply_on("answer");
    assert_eq!(wildcard.await.unwrap_err().kind(), ErrorKind::InvalidTopic);
    let no_object = client.request::<Data>("ask", "asked", &[1]).reply_on("answer");
    assert_eq!(no_object.await.unwrap_err().kind(), ErrorKind::InvalidPayload);

    let waiting = tokio::spawn(request("answer").correlation_id("mine").into_future());
    settle().await;
    let twin = request("answer").correlation_id("mine").await.unwrap_err();
    assert_eq!(twin.kind(), ErrorKind::InvalidPayload);
    assert!(!waiting.is_finished(), "the one that was there first is not disturbed");
    broker.publish(event("answer", &json!({"id": "mine", "type": "t", "data": {}})));
    waiting.await.unwrap().unwrap();
    nothing_is_left(&client);

    let unconnected = crate::client_with(&broker, config("new"));
    let error = ask(&unconnected, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_does_not_fit_is_an_error_and_the_request_itself_is_no_reply() {
    let broker = MemoryBroker::new();
    let (_peer, client) = (answering(&broker).await, connected(&broker, "svc").await);
    let misfit = client
        .request::<Answer>("ask", "asked", &json!({"n": "a word"}))
        .reply_on("answer");
    assert_eq!(misfit.await.unwrap_err().kind(), ErrorKind::InvalidPayload);
    assert_eq!(client.stats().invalid, 1);
    let everywhere = client.request::<Answer>("ask", "asked", &json!({"n": 5})).reply_on("#");
    assert_eq!(everywhere.await.unwrap().event_type, "answered");
}

#[tokio::test(start_paused = true)]
async fn ending_the_client_ends_its_requests_and_a_handler_may_still_get_its_reply() {
    let broker = MemoryBroker::new();
    let (_peer, client, seen) = (
        answering(&broker).await,
        connected(&broker, "svc").await,
        Seen::default(),
    );
    let noted = seen.clone();
    client
        .subscribe("work", move |context: Context| {
            let seen = noted.clone();
            async move {
                seen.push("begun");
                tokio::time::sleep(secs(1)).await;
                let asked = context.request::<Answer>("ask", "asked", &json!({"n": 3}));
                seen.push(asked.reply_on("answer").await?.data.n);
                Ok::<_, Error>(())
            }
        })
        .await
        .unwrap();
    client.publish("work", "").await.unwrap();
    seen.reach(1).await;
    let unanswered = client
        .request::<Answer>("void", "asked", &json!({}))
        .reply_on("elsewhere");
    let unanswered = tokio::spawn(unanswered.into_future());
    settle().await;
    let report = client.shutdown().await;
    assert_eq!(seen.all(), ["begun", "3"]);
    assert_eq!(report.handlers_cut_off, 0);
    assert_eq!(unanswered.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    nothing_is_left(&client);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_requests_through_a_restart_are_answered_or_fail_and_nothing_is_left() {
    let broker = MemoryBroker::new();
    let peer = connected_with(&broker, config("peer").clean_session(false)).await;
    let answer = async |question: Envelope<Answer>, context: Context| {
        let n = question.data.n;
        let reply = context.reply("answer", "answered", &json!({"n": n}));
        let reply = reply.qos(QoS::AtLeastOnce).into_future();
        match n % 100 {
            // One in a hundred is never answered, and one when nobody waits any more: not in the
            // handler, which would hold back the acknowledgements behind it.
            0 => {}
            1 => drop(tokio::spawn(async {
                tokio::time::sleep(secs(1)).await;
                reply.await
            })),
            _ => drop(reply.await?),
        }
        Ok::<_, Error>(())
    };
    let answering = peer.subscribe("ask", answer).qos(QoS::AtLeastOnce).concurrency(64);
    answering.await.unwrap();
    let client = connected_with(&broker, config("svc").publish_timeout(secs(120))).await;
    let requests: Vec<_> = (0..10_000)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                // They come by and by.
                tokio::time::sleep(Duration::from_millis(n)).await;
                let request = ask(&client, n).timeout(secs(60)).into_future();
                match n % 100 {
                    // Dropped when it is on its way.
                    1 => tokio::time::timeout(Duration::from_millis(500), request).await.ok(),
                    _ => Some(request.await),
                }
            })
        })
        .collect();
    tokio::time::sleep(secs(5)).await;
    assert!(client.stats().requests > 5, "in flight when the link is lost");
    broker.restart(true);
    let (mut answered, mut timed_out, mut cancelled) = (0, 0, 0);
    for (n, request) in (0..).zip(requests) {
        match request.await.unwrap() {
            Some(Ok(answer)) => {
                assert_eq!(answer.data.n, n);
                answered += 1;
            }
            Some(Err(error)) => {
                assert_eq!((n % 100, error.kind()), (0, ErrorKind::Timeout), "{n}: {error}");
                timed_out += 1;
            }
            None => cancelled += 1,
        }
    }
    assert_eq!((answered, timed_out, cancelled), (9_800, 100, 100));
    settle().await;
    nothing_is_left(&client);
    nothing_is_left(&peer);
    assert_eq!((client.stats().unfinished, peer.stats().unfinished), (0, 0));
    assert!(client.stats().replies_ignored >= 90, "those that came too late");
    tokio::time::sleep(secs(61)).await;
    assert_eq!(broker.subscriptions("svc"), [], "the reply route too");
}

#[tokio::test(start_paused = true)]
async fn a_reply_topic_whose_unsubscribe_was_not_confirmed_is_subscribed_again() {
    let broker = MemoryBroker::new();
    let (_peer, client) = (
        answering(&broker).await,
        connected_with(&broker, config("svc").clean_session(false)).await,
    );
    ask(&client, 1).await.unwrap();
    // Unused for long it leaves; the broker lets it go, keeps the session, and its UNSUBACK is lost.
    broker.inject(Fault::cut_before(PacketKind::Unsuback).of("svc"));
    client.state().until(State::Reconnecting).await;
    assert_eq!(broker.subscriptions("svc"), []);
    let answer = ask(&client, 2).timeout(secs(10)).await.unwrap();
    assert_eq!(answer.data.n, 2);
}
