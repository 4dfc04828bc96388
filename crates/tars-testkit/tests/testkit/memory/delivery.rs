//! Who gets what: QoS, retained messages, overlap, shares, acknowledgements, budget.

use tars_ports::{AckOutcome, ErrorKind, Refused};
use tars_testkit::memory::{MemoryBroker, OverlapMode};

use super::{Client, Q0, Q1, Q2, filter, message, options, payload};

#[tokio::test(start_paused = true)]
async fn the_qos_is_the_lower_one_and_wildcards_match() {
    let broker = MemoryBroker::new();
    let mut client = Client::new(&broker, "c").await;
    client.subscribe("a/+/c", Q1).await;
    for (to, qos, expected) in [("a/b/c", Q0, Q0), ("a/x/c", Q1, Q1), ("a/b/c", Q2, Q1)] {
        drop(client.send(message(to, "x", qos)));
        let delivery = client.delivery().await;
        client.ack(&delivery);
        assert_eq!((delivery.topic.as_str(), delivery.qos), (to, expected));
        assert_eq!(delivery.token.is_some(), expected != Q0);
        assert!(!delivery.retain && !delivery.dup);
    }
    drop(client.send(message("a/b", "no", Q0)));
    client.subscribe("#", Q0).await;
    broker.publish(message("$SYS/uptime", "no", Q0));
    client.silent().await;
    client
        .connection
        .unsubscribe(&[filter("#"), filter("a/+/c")])
        .await
        .expect("confirmed");
    assert_eq!(broker.subscriptions("c"), []);
    drop(client.send(message("a/b/c", "no", Q0)));
    client.silent().await;
}

#[tokio::test(start_paused = true)]
async fn qos_2_comes_once_and_the_flow_completes() {
    let broker = MemoryBroker::new();
    let mut client = Client::new(&broker, "c").await;
    client.subscribe("t", Q2).await;
    client.send(message("t", "x", Q2)).await.expect("PUBCOMP");
    assert_eq!(client.handled().await, "x");
    broker.wait_until(|broker| broker.backlog("c") == (0, 0)).await;
    client.silent().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_filter_is_an_answer() {
    let broker = MemoryBroker::new();
    broker.refuse_filter("secret/#");
    let client = Client::new(&broker, "c").await;
    let filters = [(filter("a"), Q2), (filter("secret/#"), Q1), (filter("b"), Q0)];
    let granted = client.connection.subscribe(&filters).await.expect("a SUBACK");
    assert_eq!(granted, [Ok(Q2), Err(Refused::default()), Ok(Q0)]);
    assert_eq!(broker.subscriptions("c"), [(filter("a"), Q2), (filter("b"), Q0)]);
    assert_eq!(broker.subscribe_packets("c"), [filters.to_vec()]);
    broker.allow_filter("secret/#");
    client.subscribe("secret/#", Q1).await;
    assert_eq!(client.connection.subscribe(&[]).await.expect("nothing to ask"), []);
}

#[tokio::test(start_paused = true)]
async fn retained_messages_are_kept_replaced_replayed_and_cleared() {
    let broker = MemoryBroker::new();
    let mut client = Client::new(&broker, "c").await;
    client.subscribe("h/1", Q1).await;
    for text in ["old", "new"] {
        drop(client.send(message("h/1", text, Q1).with_retain(true)));
        let live = client.delivery().await;
        client.ack(&live);
        assert!(!live.retain, "to those who were there it is an ordinary message");
    }
    broker.publish(message("h/2", "two", Q0).with_retain(true));
    for _ in 0..2 {
        client.subscribe("h/#", Q2).await;
        let first = client.delivery().await;
        client.ack(&first);
        assert_eq!((payload(&first).as_str(), first.retain, first.qos), ("new", true, Q1));
        let second = client.delivery().await;
        assert_eq!(
            (payload(&second).as_str(), second.retain, second.qos),
            ("two", true, Q0)
        );
    }
    // A share gets none.
    client.subscribe("$share/g/h/#", Q1).await;
    client
        .connection
        .unsubscribe(&[filter("h/#"), filter("h/1"), filter("$share/g/h/#")])
        .await
        .expect("confirmed");
    broker.publish(message("h/1", "", Q0).with_retain(true));
    assert_eq!(broker.retained("h/1"), None);
    assert_eq!(
        broker.retained("h/2").map(|message| message.payload),
        Some("two".into())
    );
    client.subscribe("h/1", Q1).await;
    client.silent().await;
}

#[tokio::test(start_paused = true)]
async fn overlapping_filters_give_one_copy_or_one_each() {
    for (mode, expected) in [
        (OverlapMode::OneCopy, vec![Q2]),
        (OverlapMode::CopyPerFilter, vec![Q0, Q2]),
    ] {
        let broker = MemoryBroker::new().with_overlap(mode);
        let mut client = Client::new(&broker, "c").await;
        client.subscribe("a/+", Q0).await;
        client.subscribe("a/#", Q2).await;
        client.send(message("a/b", "x", Q2)).await.expect("settled");
        let mut seen = Vec::new();
        for _ in &expected {
            let delivery = client.delivery().await;
            client.ack(&delivery);
            seen.push(delivery.qos);
        }
        assert_eq!(seen, expected);
        client.silent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_goes_round_among_those_who_are_there() {
    let broker = MemoryBroker::new();
    let mut first = Client::new(&broker, "m1").await;
    let mut second = Client::with(&broker, &super::persistent("m2")).await;
    let mut whole = Client::new(&broker, "w").await;
    for client in [&first, &second] {
        client.subscribe("$share/g/t/+", Q1).await;
    }
    whole.subscribe("t/#", Q1).await;
    for n in 0..4 {
        broker.publish(message("t/x", &n.to_string(), Q1));
    }
    assert_eq!([first.handled().await, first.handled().await], ["0", "2"]);
    assert_eq!([second.handled().await, second.handled().await], ["1", "3"]);
    for n in 0..4 {
        assert_eq!(whole.handled().await, n.to_string());
    }
    second.connection.close();
    second.ended().await;
    broker.publish(message("t/x", "4", Q1));
    broker.publish(message("t/x", "5", Q1));
    assert_eq!([first.handled().await, first.handled().await], ["4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn the_window_bounds_what_is_unacknowledged() {
    let broker = MemoryBroker::new().with_window(2);
    let mut client = Client::new(&broker, "c").await;
    client.subscribe("t", Q1).await;
    for n in 0..5 {
        broker.publish(message("t", &n.to_string(), Q1));
    }
    let first = client.delivery().await;
    let second = client.delivery().await;
    client.silent().await;
    assert_eq!(broker.backlog("c"), (2, 3));
    // QoS 0 goes on.
    broker.publish(message("t", "zero", Q0));
    assert_eq!(client.handled().await, "zero");
    // Out of order: the acknowledgement waits for the earlier one.
    client.ack(&second);
    client.silent().await;
    client.ack(&first);
    assert_eq!(client.handled().await, "2");
    assert_eq!(client.handled().await, "3");
    // A second use, and a token of another connection, do nothing.
    client.ack(&first);
    let other = Client::new(&broker, "other").await;
    let fourth = client.delivery().await;
    other.ack(&fourth);
    broker.wait_until(|broker| broker.backlog("c") == (1, 0)).await;
    client.connection.ack(fourth.token.expect("QoS 1"), AckOutcome::Done);
    broker.wait_until(|broker| broker.backlog("c") == (0, 0)).await;
}

#[tokio::test(start_paused = true)]
async fn at_the_inbound_budget_reading_pauses_and_writing_goes_on() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.inbound_messages = 2;
    let mut client = Client::with(&broker, &options).await;
    client.subscribe("t", Q1).await;
    for n in 0..3 {
        broker.publish(message("t", &n.to_string(), Q1));
    }
    let first = client.delivery().await;
    let second = client.delivery().await;
    client.silent().await;
    let activity = client.connection.activity();
    assert!(activity.reading_paused);
    // Published and acknowledged, but the acknowledgement stands behind the third message.
    let receipt = client.send(message("other", "x", Q1));
    broker.wait_until(|broker| broker.published().len() == 4).await;
    assert_eq!(client.connection.activity().packets_read, activity.packets_read);
    client.ack(&first);
    client.ack(&second);
    assert_eq!(client.handled().await, "2");
    receipt.await.expect("settled");
}

#[tokio::test(start_paused = true)]
async fn the_budget_counts_bytes_and_one_message_always_fits() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.inbound_bytes = 10;
    let mut client = Client::with(&broker, &options).await;
    client.subscribe("t", Q1).await;
    for _ in 0..2 {
        broker.publish(message("t", &"x".repeat(100), Q1));
    }
    let first = client.delivery().await;
    client.silent().await;
    client.ack(&first);
    client.delivery().await;
}

#[tokio::test(start_paused = true)]
async fn keepalive_goes_on_while_reading_is_paused() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.inbound_messages = 1;
    options.keep_alive = std::time::Duration::from_secs(5);
    let mut client = Client::with(&broker, &options).await;
    client.subscribe("t", Q1).await;
    broker.publish(message("t", "x", Q1));
    let delivery = client.delivery().await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(
        broker.connections(),
        ["c"],
        "an answer that could not be read is not missing"
    );
    client.ack(&delivery);
    broker.publish(message("t", "y", Q1));
    assert_eq!(client.handled().await, "y");
}

#[tokio::test(start_paused = true)]
async fn qos_0_for_a_client_that_does_not_read_is_dropped_and_counted() {
    let broker = MemoryBroker::new();
    let client = Client::new(&broker, "c").await;
    client.subscribe("t", Q0).await;
    for _ in 0..20_000 {
        broker.publish(message("t", "x", Q0));
    }
    assert!(broker.dropped() >= 9_000, "{}", broker.dropped());
}

#[tokio::test(start_paused = true)]
async fn a_message_above_the_limit_ends_the_connection() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.max_packet_size = 64;
    let mut client = Client::with(&broker, &options).await;
    client.subscribe("t", Q0).await;
    broker.publish(message("t", &"x".repeat(100), Q0));
    let reason = client.ended().await.reason;
    assert!(matches!(&reason, tars_ports::EndReason::Lost(error) if error.kind() == ErrorKind::TooLarge));
}
