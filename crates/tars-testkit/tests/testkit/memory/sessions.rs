//! Sessions, takeover, wills, and who may connect.

use tars_ports::{Connector, Credentials, EndReason, ErrorKind, Refusal, SessionState, Transport};
use tars_testkit::memory::MemoryBroker;

use super::{Client, Q0, Q1, Q2, filter, message, options, payload, persistent, topic, try_connect};

#[tokio::test(start_paused = true)]
async fn a_clean_session_is_forgotten_and_a_persistent_one_kept() {
    let broker = MemoryBroker::new();
    for (options, kept) in [(options("c"), false), (persistent("p"), true)] {
        let mut client = Client::with(&broker, &options).await;
        assert!(!client.session_present);
        client.subscribe("t", Q1).await;
        client.connection.disconnect().await.expect("written");
        client.ended().await;
        let again = Client::with(&broker, &options).await;
        assert_eq!(again.session_present, kept);
        assert_eq!(!broker.subscriptions(&options.client_id).is_empty(), kept);
        assert_eq!(broker.connect_count(&options.client_id), 2);
    }
    assert_eq!(broker.sessions(), ["p"], "the clean one went with its link");
    // A clean connect wipes what was kept.
    assert!(!Client::new(&broker, "p").await.session_present);
    assert!(!Client::with(&broker, &persistent("p")).await.session_present);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_comes_again_with_dup_and_the_offline_queue_after_it() {
    let broker = MemoryBroker::new();
    let mut client = Client::with(&broker, &persistent("p")).await;
    client.subscribe("t", Q2).await;
    for (text, qos) in [("a", Q1), ("b", Q2), ("c", Q1)] {
        broker.publish(message("t", text, qos));
    }
    let first = client.delivery().await;
    client.ack(&first);
    broker.wait_until(|broker| broker.backlog("p") == (2, 0)).await;
    client.connection.close();
    let ended = client.ended().await;
    assert!(matches!(ended.reason, EndReason::Closed));
    broker.publish(message("t", "d", Q1));
    broker.publish(message("t", "lost", Q0));

    let mut client = try_connect(&broker, &persistent("p"), ended.session)
        .await
        .expect("accepted");
    assert!(client.session_present);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let delivery = client.delivery().await;
        client.ack(&delivery);
        seen.push((payload(&delivery), delivery.dup));
    }
    assert_eq!(
        seen,
        [("b".to_owned(), true), ("c".to_owned(), true), ("d".to_owned(), false)]
    );
    broker.wait_until(|broker| broker.backlog("p") == (0, 0)).await;
    client.silent().await;
    // The token of the first connection does nothing here.
    client.ack(&first);
}

#[tokio::test(start_paused = true)]
async fn the_newer_connection_takes_the_client_id_over() {
    let broker = MemoryBroker::new();
    let mut watcher = Client::new(&broker, "w").await;
    watcher.subscribe("will", Q0).await;
    let mut options = persistent("p");
    options.last_will = Some(message("will", "gone", Q0));
    let mut old = Client::with(&broker, &options).await;
    old.subscribe("t", Q1).await;
    let mut new = Client::with(&broker, &options).await;
    assert!(new.session_present);
    let reason = old.ended().await.reason;
    assert!(
        matches!(&reason, EndReason::Lost(error) if error.kind() == ErrorKind::ConnectionLost),
        "{reason:?}"
    );
    assert_eq!(watcher.handled().await, "gone");
    // The end of the old one does not touch the new one.
    drop(old);
    broker.publish(message("t", "x", Q1));
    assert_eq!(new.handled().await, "x");
    assert_eq!(broker.connections(), ["p", "w"]);
}

#[tokio::test(start_paused = true)]
async fn the_will_speaks_at_every_end_without_disconnect() {
    let broker = MemoryBroker::new();
    let mut options = options("c");
    options.last_will = Some(message("will/c", "gone", Q1).with_retain(true));
    let count = |broker: &MemoryBroker| broker.published().len();
    type End = fn(&MemoryBroker, Client);
    let ends: [(&str, End); 4] = [
        ("close", |_, client| client.connection.close()),
        ("cut", |broker, _client| assert!(broker.cut("c"))),
        ("handle dropped", |_, client| {
            // The stream lives on.
            tokio::spawn(async move {
                let Client {
                    connection,
                    mut inbound,
                    ..
                } = client;
                drop(connection);
                std::future::poll_fn(|cx| inbound.as_mut().poll_next(cx)).await;
            });
        }),
        ("stream dropped", |_, client| {
            let Client {
                connection, inbound, ..
            } = client;
            drop(inbound);
            tokio::spawn(async move {
                // The handle lives on until the connection ends by itself.
                while connection.ready(tars_ports::QoS::AtMostOnce).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            });
        }),
    ];
    for (n, (name, end)) in ends.into_iter().enumerate() {
        end(&broker, Client::with(&broker, &options).await);
        broker
            .wait_until(|broker| count(broker) == n + 1 && broker.connections().is_empty())
            .await;
        assert_eq!(broker.log()[n].client_id.as_deref(), Some("c"), "{name}");
    }
    assert_eq!(broker.retained("will/c").map(|will| will.payload), Some("gone".into()));
    let client = Client::with(&broker, &options).await;
    client.connection.disconnect().await.expect("written");
    assert_eq!(count(&broker), 4, "and not after DISCONNECT");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_goes_away_is_a_killed_process() {
    let broker = MemoryBroker::new();
    let inner = broker.clone();
    let kept = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut options = options("c");
            options.last_will = Some(message("will", "gone", Q1));
            let client = Client::with(&inner, &options).await;
            inner.freeze();
            let receipt = client.send(message("t", "x", Q1));
            (client, receipt)
        })
    });
    let (client, receipt) = kept.join().expect("no panic");
    broker.thaw();
    receipt.await.expect_err("it settles all the same");
    broker
        .wait_until(|broker| broker.published().iter().any(|m| m.topic == topic("will")))
        .await;
    assert!(client.connection.try_publish(message("t", "x", Q0)).is_err());
}

#[tokio::test(start_paused = true)]
async fn who_may_not_connect_is_told_why() {
    let broker = MemoryBroker::new().with_credentials("user", "secret");
    let refused = |error: Option<tars_ports::Error>| error.map(|error| error.kind());
    let connect = |options| {
        let broker = broker.clone();
        async move { try_connect(&broker, &options, SessionState::new()).await.err() }
    };
    let bad = Some(ErrorKind::Refused(Refusal::BadCredentials));
    assert_eq!(refused(connect(options("c")).await), bad);
    let mut wrong = options("c");
    wrong.credentials = Some(Credentials::new("user", Some("wrong".to_owned().into())));
    assert_eq!(refused(connect(wrong).await), bad);
    let mut right = options("c");
    right.credentials = Some(Credentials::new("user", Some("secret".to_owned().into())));
    assert_eq!(refused(connect(right.clone()).await), None);
    broker.refuse_connects(Refusal::NotAuthorized);
    assert_eq!(
        refused(connect(right.clone()).await),
        Some(ErrorKind::Refused(Refusal::NotAuthorized))
    );
    broker.refuse_connects(None);
    assert_eq!(refused(connect(right.clone()).await), None);
    right.transport = Transport::Tls;
    assert_eq!(refused(connect(right).await), Some(ErrorKind::Unsupported));
    assert_eq!((broker.connect_count("c"), broker.connect_attempts("c")), (2, 5));
    let capabilities = broker.connector().capabilities();
    assert!(capabilities.manual_ack && capabilities.qos2 && capabilities.qos2_resume && capabilities.abrupt_close);
    assert!(!capabilities.tls && !capabilities.websocket);
}

#[tokio::test(start_paused = true)]
async fn what_is_subscribed_can_be_seen() {
    let broker = MemoryBroker::new();
    let client = Client::with(&broker, &persistent("p")).await;
    client.subscribe("a", Q1).await;
    client.subscribe("b", Q0).await;
    client.subscribe("a", Q2).await;
    assert_eq!(broker.subscriptions("p"), [(filter("a"), Q2), (filter("b"), Q0)]);
    assert_eq!(broker.subscribe_packets("p").len(), 3);
    assert_eq!(broker.subscribe_packets("nobody").len(), 0);
}
