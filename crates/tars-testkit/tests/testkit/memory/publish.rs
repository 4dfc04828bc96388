//! Receipts, bounds and limits on the way out.

use std::time::Duration;

use tars_ports::{Connection, EndReason, ErrorKind, Fate, PublisherExt, Receipt, TryPublishError};
use tars_testkit::memory::MemoryBroker;
use tokio::time::{Instant, timeout};

use super::{Client, Q0, Q1, Q2, filter, message, options};

#[tokio::test(start_paused = true)]
async fn receipts_settle_for_every_qos_and_the_broker_has_the_messages() {
    let broker = MemoryBroker::new();
    let client = Client::new(&broker, "c").await;
    for qos in [Q0, Q1, Q2] {
        client.send(message("t", "x", qos)).await.expect("settled");
    }
    broker.wait_until(|broker| broker.published().len() == 3).await;
    let log = broker.log();
    assert_eq!(log[2].client_id.as_deref(), Some("c"));
    assert_eq!(log[2].message, message("t", "x", Q2));
}

#[tokio::test(start_paused = true)]
async fn latency_counts_both_ways() {
    let broker = MemoryBroker::new().with_latency(Duration::from_millis(100));
    let began = Instant::now();
    let client = Client::new(&broker, "c").await;
    assert_eq!(began.elapsed(), Duration::from_millis(200));
    client.send(message("t", "x", Q1)).await.expect("settled");
    assert_eq!(began.elapsed(), Duration::from_millis(400));
    client.send(message("t", "x", Q2)).await.expect("settled");
    assert_eq!(began.elapsed(), Duration::from_millis(800));
}

#[tokio::test(start_paused = true)]
async fn a_lost_link_settles_what_is_open_as_unknown() {
    let broker = MemoryBroker::new();
    let mut client = Client::new(&broker, "c").await;
    broker.freeze();
    let first = client.send(message("t", "1", Q1));
    let second = client.send(message("t", "2", Q2).with_key(7));
    client.silent().await;
    assert!(broker.cut("c"));
    for receipt in [first, second] {
        let error = receipt.await.expect_err("the link ended");
        assert_eq!(
            (error.kind(), error.fate()),
            (ErrorKind::ConnectionLost, Some(Fate::Unknown))
        );
    }
    let ended = client.ended().await;
    assert!(matches!(ended.reason, EndReason::Lost(error) if error.kind() == ErrorKind::ConnectionLost));
    let [flow] = &ended.session.outbound[..] else {
        panic!("one QoS 2 flow goes on")
    };
    assert_eq!((flow.released, flow.message.key), (false, 7));
}

#[tokio::test(start_paused = true)]
async fn what_was_never_written_settles_as_not_sent() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.max_inflight_qos2 = 1;
    let mut client = Client::with(&broker, &options).await;
    broker.freeze();
    let written = client.send(message("t", "1", Q2));
    let held_back = client.send(message("t", "2", Q2));
    client.silent().await;
    broker.cut("c");
    assert_eq!(written.await.expect_err("cut").fate(), Some(Fate::Unknown));
    assert_eq!(held_back.await.expect_err("cut").fate(), Some(Fate::NotSent));
    assert_eq!(client.ended().await.session.outbound.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_qos_2_window_holds_qos_2_back_and_nothing_else() {
    let broker = MemoryBroker::new().with_latency(Duration::from_millis(10));
    let mut options = options("c");
    options.max_inflight_qos2 = 1;
    let client = Client::with(&broker, &options).await;
    let mut receipts: Vec<Receipt> = Vec::new();
    for (payload, qos) in [("a", Q2), ("b", Q2), ("c", Q1), ("d", Q2)] {
        receipts.push(client.send(message("t", payload, qos)));
    }
    for receipt in receipts {
        receipt.await.expect("settled");
    }
    let order: Vec<_> = broker
        .published()
        .iter()
        .map(|message| message.payload.clone())
        .collect();
    assert_eq!(order, ["c", "a", "b", "d"]);
}

#[tokio::test(start_paused = true)]
async fn at_the_bound_the_message_comes_back_and_ready_waits() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.max_inflight = 2;
    let client = Client::with(&broker, &options).await;
    broker.freeze();
    let open = [client.send(message("t", "1", Q1)), client.send(message("t", "2", Q1))];
    let back = match client.connection.try_publish(message("t", "3", Q1)) {
        Err(TryPublishError::Full(message)) => message,
        other => panic!("awaited Full, got {other:?}"),
    };
    assert_eq!(&back.payload[..], b"3");
    // QoS 0 has its own bound.
    client.send(message("t", "0", Q0)).await.expect("taken over");
    let wait = timeout(Duration::from_secs(1), client.connection.ready(Q1)).await;
    assert!(wait.is_err(), "no room while the broker is frozen");
    broker.thaw();
    client
        .connection
        .publish(back)
        .await
        .expect("taken over")
        .await
        .expect("settled");
    for receipt in open {
        receipt.await.expect("settled");
    }
}

#[tokio::test(start_paused = true)]
async fn qos_0_is_bounded_too_while_the_broker_hangs() {
    let broker = MemoryBroker::new();
    let mut client = Client::new(&broker, "c").await;
    broker.freeze();
    let mut taken = 0u64;
    loop {
        match client.connection.try_publish(message("t", "x", Q0)) {
            Ok(receipt) => receipt.await.expect("settles when it is taken over"),
            Err(TryPublishError::Full(_)) => {
                // The driver may still write some of them.
                if timeout(Duration::from_secs(1), client.connection.ready(Q0))
                    .await
                    .is_err()
                {
                    break;
                }
                continue;
            }
            Err(error) => panic!("{error:?}"),
        };
        taken += 1;
    }
    assert!((1000..10_000).contains(&taken), "{taken}");
    broker.cut("c");
    let unsent = client.ended().await.unsent;
    assert!(unsent >= 1000, "{unsent} of {taken} were not written");
    assert!(client.connection.ready(Q0).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn too_large_fails_before_it_is_sent_and_harms_nothing() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.max_packet_size = 64;
    let client = Client::with(&broker, &options).await;
    match client.connection.try_publish(message("t", &"x".repeat(64), Q1)) {
        Err(TryPublishError::Failed(error)) => {
            assert_eq!((error.kind(), error.fate()), (ErrorKind::TooLarge, Some(Fate::NotSent)));
        }
        other => panic!("awaited a failure, got {other:?}"),
    }
    client.send(message("t", "small", Q1)).await.expect("settled");
    // Many filters go out in as many packets as the limit asks for.
    let filters: Vec<_> = (0..10).map(|n| (filter(&format!("some/topic/{n}")), Q1)).collect();
    let granted = client.connection.subscribe(&filters).await.expect("granted");
    assert_eq!(granted, vec![Ok(Q1); 10]);
    let packets = broker.subscribe_packets("c");
    assert!(packets.len() > 1 && packets.concat() == filters, "{packets:?}");
}

#[tokio::test(start_paused = true)]
async fn disconnect_writes_everything_out_first() {
    let broker = MemoryBroker::new().with_latency(Duration::from_millis(50));
    let mut options = options("c");
    options.last_will = Some(message("will", "gone", Q1));
    let mut client = Client::with(&broker, &options).await;
    for n in 0..50 {
        client.send(message("t", &n.to_string(), Q0)).await.expect("taken over");
    }
    client.connection.disconnect().await.expect("DISCONNECT was written");
    assert_eq!(broker.published().len(), 50);
    assert!(matches!(client.ended().await.reason, EndReason::Disconnected));
    client.connection.disconnect().await.expect("a second time is no error");
    match client.connection.try_publish(message("t", "x", Q0)) {
        Err(TryPublishError::Failed(error)) => assert_eq!(error.kind(), ErrorKind::NotConnected),
        other => panic!("awaited a failure, got {other:?}"),
    }
    let error = client
        .connection
        .subscribe(&[(filter("t"), Q0)])
        .await
        .expect_err("ended");
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(broker.connections(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_disconnect_goes_on_by_itself() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.last_will = Some(message("will", "gone", Q1));
    let client = Client::with(&broker, &options).await;
    let Client {
        connection,
        mut inbound,
        ..
    } = client;
    {
        let disconnect = connection.disconnect();
        tokio::pin!(disconnect);
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(disconnect.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    }
    drop::<std::sync::Arc<dyn Connection>>(connection);
    let next = std::future::poll_fn(|cx| inbound.as_mut().poll_next(cx)).await;
    let Some(tars_ports::Incoming::Ended(ended)) = next else {
        panic!("{next:?}")
    };
    assert!(matches!(ended.reason, EndReason::Disconnected));
    assert!(broker.published().is_empty(), "no will after DISCONNECT");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_publish_at_once_and_everything_arrives() {
    let broker = MemoryBroker::new();
    let mut subscriber = Client::new(&broker, "s").await;
    subscriber.subscribe("t", Q2).await;
    let mut publishers = Vec::new();
    for n in 0..4 {
        let mut options = options(&format!("p{n}"));
        options.max_inflight = 3;
        options.max_inflight_qos2 = 2;
        let client = Client::with(&broker, &options).await;
        publishers.push(tokio::spawn(async move {
            // All of it: a dropped stream would end the connection.
            let client = client;
            let mut receipts = Vec::new();
            for m in 0..500 {
                let qos = if m % 2 == 0 { Q1 } else { Q2 };
                receipts.push(
                    client
                        .connection
                        .publish(message("t", "x", qos))
                        .await
                        .expect("taken over"),
                );
            }
            for receipt in receipts {
                receipt.await.expect("settled");
            }
            client.connection.disconnect().await.expect("written");
        }));
    }
    let all = async {
        for _ in 0..2000 {
            subscriber.handled().await;
        }
    };
    timeout(Duration::from_secs(30), all).await.expect("nothing gets stuck");
    for publisher in publishers {
        publisher.await.expect("no panic");
    }
    broker.wait_until(|broker| broker.backlog("s") == (0, 0)).await;
    assert_eq!(broker.published().len(), 2000);
}
