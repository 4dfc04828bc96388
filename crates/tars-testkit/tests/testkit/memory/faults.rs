//! A broker that goes away, hangs, or slams the door; and what goes wrong with one packet.

use std::time::Duration;

use tars_ports::{EndReason, Ended, ErrorKind, Fate, Refusal, SessionState};
use tars_testkit::memory::{Fault, Faults, MemoryBroker, PacketKind, Way};
use tokio::time::Instant;

use super::{Client, Q0, Q1, Q2, message, options, payload, persistent, try_connect};

fn is_lost(reason: &EndReason) -> bool {
    matches!(reason, EndReason::Lost(error) if error.kind() == ErrorKind::ConnectionLost)
}

#[tokio::test(start_paused = true)]
async fn a_stopped_broker_ends_links_and_takes_nobody() {
    let broker = MemoryBroker::new();
    let mut options = persistent("p");
    options.last_will = Some(message("will", "gone", Q1));
    let mut client = Client::with(&broker, &options).await;
    client.subscribe("t", Q1).await;
    broker.publish(message("t", "kept", Q1).with_retain(true));
    broker.stop();
    assert!(is_lost(&client.ended().await.reason));
    let error = try_connect(&broker, &options, SessionState::new())
        .await
        .err()
        .expect("stopped");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    broker.start();
    let mut client = Client::with(&broker, &options).await;
    assert!(client.session_present);
    assert_eq!(client.handled().await, "kept");
    assert_eq!(broker.published().len(), 1, "no will of a broker that died");

    broker.restart(true);
    assert!(is_lost(&client.ended().await.reason));
    assert!(Client::with(&broker, &options).await.session_present);
    broker.restart(false);
    assert!(!Client::with(&broker, &options).await.session_present);
    assert_eq!(broker.retained("t"), None);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_broker_takes_and_answers_nothing_until_it_thaws() {
    let broker = MemoryBroker::new();
    let mut client = Client::new(&broker, "c").await;
    client.subscribe("t", Q1).await;
    broker.freeze();
    let mut receipt = client.send(message("t", "x", Q1));
    client
        .send(message("t", "zero", Q0))
        .await
        .expect("QoS 0 is taken over");
    client.silent().await;
    assert!(broker.published().is_empty());
    let began = Instant::now();
    let error = try_connect(&broker, &options("d"), SessionState::new())
        .await
        .err()
        .expect("no CONNACK");
    assert_eq!(
        (error.kind(), began.elapsed()),
        (ErrorKind::Timeout, Duration::from_secs(10))
    );
    let waits = tokio::time::timeout(Duration::from_secs(1), &mut receipt).await;
    assert!(waits.is_err(), "nothing settles");
    broker.thaw();
    receipt.await.expect("settled");
    assert_eq!(client.handled().await, "x");
    assert_eq!(client.handled().await, "zero");
}

#[tokio::test(start_paused = true)]
async fn keepalive_ends_a_connection_to_a_frozen_broker() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.keep_alive = Duration::from_secs(5);
    options.last_will = Some(message("will", "gone", Q0));
    let mut client = Client::with(&broker, &options).await;
    // Alive for a long time without anything to do.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(broker.connections(), ["c"]);
    assert!(client.connection.activity().packets_read > 100);
    broker.freeze();
    let receipt = client.send(message("t", "x", Q1));
    let began = Instant::now();
    assert!(is_lost(&client.ended().await.reason));
    assert!(began.elapsed() <= Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(receipt.await.expect_err("no answer").fate(), Some(Fate::Unknown));
    // The broker reads all of it when it goes on: the publish, then the end.
    assert!(broker.published().is_empty());
    broker.thaw();
    let topics: Vec<_> = broker
        .published()
        .iter()
        .map(|message| message.topic.to_string())
        .collect();
    assert_eq!(topics, ["t", "will"]);
}

#[tokio::test(start_paused = true)]
async fn a_clean_end_to_a_frozen_broker_is_seen_after_the_thaw() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.last_will = Some(message("will", "gone", Q0));
    let client = Client::with(&broker, &options).await;
    broker.freeze();
    client.send(message("t", "x", Q0)).await.expect("taken over");
    client.connection.disconnect().await.expect("the bytes are taken");
    broker.thaw();
    assert_eq!(broker.published().len(), 1, "the message, and no will");
}

#[tokio::test(start_paused = true)]
async fn accept_then_drop_accepts_and_drops() {
    let broker = MemoryBroker::new();
    broker.accept_then_drop(true);
    for n in 1..=3 {
        let mut client = Client::new(&broker, "c").await;
        assert!(is_lost(&client.ended().await.reason));
        assert_eq!(broker.connect_count("c"), n);
    }
    broker.accept_then_drop(false);
    Client::new(&broker, "c")
        .await
        .send(message("t", "x", Q1))
        .await
        .expect("settled");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_stays_unanswered_times_out_and_one_that_is_cut_is_lost() {
    let broker = MemoryBroker::new();
    let client = Client::new(&broker, "c").await;
    broker.freeze();
    let filters = [(super::filter("t"), Q1)];
    let error = client.connection.subscribe(&filters).await.expect_err("frozen");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let (error, ()) = tokio::join!(client.connection.subscribe(&filters), async {
        tokio::task::yield_now().await;
        broker.cut("c");
    });
    assert_eq!(error.expect_err("cut").kind(), ErrorKind::ConnectionLost);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "did not come within")]
async fn waiting_for_what_never_comes_panics() {
    MemoryBroker::new()
        .wait_until(|broker| broker.connect_count("nobody") > 0)
        .await;
}

/// Publishes one message over a link that dies at this packet, then reconnects and, as
/// a facade does, sends it again unless its flow goes on.
async fn published_in_spite_of(fault: Fault, qos: tars_ports::QoS) -> (Ended, usize) {
    let broker = MemoryBroker::new();
    let mut client = Client::with(&broker, &persistent("c")).await;
    broker.inject(fault);
    let receipt = client.send(message("t", "x", qos).with_key(7));
    let ended = client.ended().await;
    assert!(is_lost(&ended.reason));
    let settled = receipt.await.is_ok();
    let client = try_connect(&broker, &persistent("c"), ended.session.clone())
        .await
        .expect("let in");
    for (key, receipt) in client.resumed {
        assert_eq!(key, 7);
        receipt.await.expect("settled");
    }
    if !settled && ended.session.outbound.is_empty() {
        let again = client.connection.try_publish(message("t", "x", qos));
        again.expect("taken over").await.expect("settled");
    }
    assert_eq!(broker.waiting_faults(), 0);
    let times = broker.published().len();
    (ended, times)
}

#[tokio::test(start_paused = true)]
async fn a_link_dies_at_any_packet_of_a_publish() {
    use PacketKind::{Puback, Pubcomp, Publish, Pubrec, Pubrel};
    for (fault, qos, times) in [
        (Fault::cut_before(Publish), Q1, 1),
        // The broker had it, and the publisher did not know: at least once.
        (Fault::cut_after(Publish), Q1, 2),
        (Fault::cut_before(Puback), Q1, 2),
        (Fault::cut_after(Puback), Q1, 1),
    ] {
        assert_eq!(published_in_spite_of(fault.clone(), qos).await.1, times, "{fault:?}");
    }
    for kind in [Publish, Pubrec, Pubrel, Pubcomp] {
        for fault in [Fault::cut_before(kind), Fault::cut_after(kind)] {
            let (ended, times) = published_in_spite_of(fault.clone(), Q2).await;
            assert_eq!(times, 1, "{fault:?}");
            let released = ended.session.outbound.first().map(|flow| flow.released);
            let expected = match kind {
                Publish => Some(false),
                Pubrec => Some(fault == Fault::cut_after(Pubrec)),
                Pubrel => Some(true),
                _ => (fault == Fault::cut_before(Pubcomp)).then_some(true),
            };
            assert_eq!(released, expected, "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_waits_for_its_packet_its_client_and_its_direction() {
    let broker = MemoryBroker::new();
    let mut receiver = Client::with(&broker, &persistent("r")).await;
    receiver.subscribe("t", Q1).await;
    let sender = Client::new(&broker, "s").await;
    let puback = Fault::cut_before(PacketKind::Puback).of("r");
    broker.inject(puback.clone().on_way(Way::ToClient));
    broker.inject(puback.on_way(Way::ToBroker).nth(3));
    for n in 0..3 {
        sender.send(message("t", &n.to_string(), Q1)).await.expect("settled");
        assert_eq!(receiver.handled().await, n.to_string());
    }
    assert!(is_lost(&receiver.ended().await.reason));
    assert_eq!(
        broker.connections(),
        ["s"],
        "whom the third acknowledgement was not from"
    );
    assert_eq!(broker.waiting_faults(), 1, "no PUBACK goes to a mere receiver");
    broker.clear_faults();
    let mut receiver = Client::with(&broker, &persistent("r")).await;
    let again = receiver.delivery().await;
    assert_eq!((payload(&again).as_str(), again.dup), ("2", true));
}

#[tokio::test(start_paused = true)]
async fn a_connect_may_be_cut_on_either_side_of_the_brokers_acceptance() {
    let broker = MemoryBroker::new();
    for (fault, let_in) in [
        (Fault::cut_before(PacketKind::Connect), 0),
        (Fault::cut_after(PacketKind::Connect), 1),
        (Fault::cut_before(PacketKind::Connack), 1),
    ] {
        let before = broker.connect_count("c");
        broker.inject(fault);
        let attempt = try_connect(&broker, &persistent("c"), SessionState::new()).await;
        let error = attempt.err().expect("no CONNACK");
        assert_eq!(error.kind(), ErrorKind::ConnectionLost);
        assert_eq!(broker.connect_count("c") - before, let_in);
        assert!(broker.connections().is_empty());
    }
    assert_eq!(broker.sessions(), ["c"], "made by a CONNECT without an answer");
    broker.inject(Fault::cut_after(PacketKind::Connack));
    let mut client = Client::with(&broker, &persistent("c")).await;
    assert!(client.session_present && is_lost(&client.ended().await.reason));
}

#[tokio::test(start_paused = true)]
async fn connect_and_subscribe_are_refused_once() {
    let broker = MemoryBroker::new();
    broker.inject(Fault::refuse_connect(Refusal::Unavailable).nth(2));
    let client = Client::new(&broker, "c").await;
    let refused = try_connect(&broker, &options("d"), SessionState::new()).await;
    let kind = refused.err().expect("refused").kind();
    assert_eq!(kind, ErrorKind::Refused(Refusal::Unavailable));
    Client::new(&broker, "d").await;

    broker.inject(Fault::refuse_subscribe());
    let filters = [(super::filter("a"), Q1), (super::filter("b"), Q0)];
    let answers = client.connection.subscribe(&filters).await.expect("a SUBACK");
    assert!(answers.iter().all(Result::is_err));
    assert!(broker.subscriptions("c").is_empty());
    client.subscribe("a", Q1).await;
}

#[tokio::test(start_paused = true)]
async fn only_qos_0_is_lost_and_only_qos_1_comes_twice() {
    let broker = MemoryBroker::new();
    let mut client = Client::new(&broker, "c").await;
    client.subscribe("t", Q2).await;
    let to_client = |fault: Fault| broker.inject(fault.on_way(Way::ToClient));
    to_client(Fault::lose());
    to_client(Fault::duplicate());
    for (text, qos) in [("two", Q2), ("one", Q1), ("zero", Q0), ("end", Q0)] {
        broker.publish(message("t", text, qos));
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        let delivery = client.delivery().await;
        client.ack(&delivery);
        seen.push((payload(&delivery), delivery.dup));
    }
    let expected = [("two", false), ("one", false), ("one", true), ("end", false)];
    assert_eq!(seen, expected.map(|(text, dup)| (text.to_owned(), dup)));
    client.silent().await;
    assert_eq!(broker.backlog("c"), (0, 0), "both copies may be acknowledged");

    // The other way it is the broker that has it twice.
    broker.clear_log();
    broker.inject(Fault::duplicate().on_way(Way::ToBroker));
    client.send(message("u", "x", Q1)).await.expect("settled");
    broker.wait_until(|broker| broker.published().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn what_overtakes_keeps_behind_its_own_topic_and_qos() {
    let broker = MemoryBroker::new().with_latency(Duration::from_millis(5));
    let mut client = Client::new(&broker, "c").await;
    client.subscribe("+", Q1).await;
    broker.inject(Fault::overtake());
    for (topic, text, qos) in [("a", "1", Q1), ("b", "2", Q1), ("a", "3", Q0), ("b", "4", Q1)] {
        broker.publish(message(topic, text, qos));
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(client.handled().await);
    }
    assert_eq!(seen, ["2", "1", "3", "4"], "the first that finds something to overtake");
    broker.inject(Fault::overtake());
    for text in ["5", "6", "7"] {
        broker.publish(message("a", text, Q1));
    }
    for text in ["5", "6", "7"] {
        assert_eq!(client.handled().await, text);
    }
    assert_eq!(broker.waiting_faults(), 1, "within a topic and a QoS nothing overtakes");
}

#[tokio::test(start_paused = true)]
async fn a_seed_makes_the_same_faults_and_every_one_of_them_can_happen() {
    let some = |seed| Faults::seeded(seed).take(500).collect::<Vec<_>>();
    assert_eq!(some(3), some(3));
    assert_ne!(some(3), some(4));
    // Whatever they are, a client that comes back gets through.
    let broker = MemoryBroker::new().with_packet_record();
    for fault in some(3).into_iter().take(60) {
        broker.inject(fault);
    }
    let mut done = 0;
    while done < 200 {
        let Ok(mut client) = try_connect(&broker, &options("c"), SessionState::new()).await else {
            continue;
        };
        let subscribed = client.connection.subscribe(&[(super::filter("t"), Q2)]).await;
        for qos in [Q1, Q2] {
            if let Ok(receipt) = client.connection.try_publish(message("t", "x", qos)) {
                done += u32::from(receipt.await.is_ok());
            }
        }
        if let Ok(Ok(_)) = subscribed.map(|answers| answers.into_iter().collect::<Result<Vec<_>, _>>())
            && let Ok(Some(tars_ports::Incoming::Delivery(delivery))) =
                tokio::time::timeout(Duration::from_secs(1), client.next()).await
        {
            client.ack(&delivery);
        }
        let _ = client.connection.unsubscribe(&[super::filter("t")]).await;
        let _ = client.connection.disconnect().await;
    }
    assert!(broker.waiting_faults() < 30, "{} are left", broker.waiting_faults());
    let kinds: std::collections::HashSet<_> = broker.packets().iter().map(|packet| packet.kind).collect();
    assert!(kinds.len() > 10, "{kinds:?}");
}
