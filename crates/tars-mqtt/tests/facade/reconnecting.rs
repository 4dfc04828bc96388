use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tars_mqtt::ports::{Capabilities, ConnectOptions, Connected, Connector, SessionState};
use tars_mqtt::{Error, InboundMessage, LifecycleEvent, QoS, Refusal, State};
use tars_testkit::memory::{Arrived, Fault, MemoryBroker, PacketKind};
use tokio::time::Instant;

use crate::{Seen, config, connected, connected_with, payload_text, secs, settle};

async fn listen(client: &tars_mqtt::Client, filter: &str, seen: &Seen) {
    let seen = seen.clone();
    client
        .subscribe(filter, move |message: InboundMessage| {
            seen.push(payload_text(&message.payload));
            async {}
        })
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn subscriptions_come_back_in_one_packet_after_a_restart_without_sessions() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    for n in 0..100 {
        listen(&client, &format!("s/{n}"), &seen).await;
    }
    let mut events = client.lifecycle();
    let packets = broker.subscribe_packets("svc").len();
    broker.restart(false);
    client.state().until(State::Reconnecting).await;
    client.state().until(State::Connected).await;
    broker
        .wait_until(|broker| broker.subscriptions("svc").len() == 100)
        .await;
    assert_eq!(
        broker.subscribe_packets("svc").len(),
        packets + 1,
        "in one batch, not one round trip each"
    );
    client.publish("s/42", "back").qos(QoS::AtLeastOnce).await.unwrap();
    assert_eq!(seen.reach(1).await, ["back"]);
    let mut kinds = Vec::new();
    for _ in 0..4 {
        kinds.push(events.next().await.unwrap());
    }
    assert!(matches!(kinds[0], LifecycleEvent::ConnectionLost { .. }), "{kinds:?}");
    assert!(matches!(
        kinds[1],
        LifecycleEvent::ReconnectScheduled { attempt: 1, .. }
    ));
    assert!(matches!(kinds[2], LifecycleEvent::Connected { session_present: false }));
    assert!(matches!(kinds[3], LifecycleEvent::SubscriptionsRestored { .. }));
}

#[tokio::test(start_paused = true)]
async fn with_the_session_kept_nothing_is_subscribed_again() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").clean_session(false)).await;
    let seen = Seen::default();
    listen(&client, "a", &seen).await;
    client
        .publish("a", "retained")
        .qos(QoS::AtLeastOnce)
        .retain(true)
        .await
        .unwrap();
    seen.reach(1).await;
    let packets = broker.subscribe_packets("svc").len();
    broker.cut("svc");
    client.state().until(State::Reconnecting).await;
    client.state().until(State::Connected).await;
    client.publish("a", "live").qos(QoS::AtLeastOnce).await.unwrap();
    assert_eq!(seen.reach(2).await, ["retained", "live"]);
    assert_eq!(broker.subscribe_packets("svc").len(), packets);
    // The session is lost at the broker: now they are made again.
    broker.restart(false);
    client.state().until(State::Reconnecting).await;
    broker
        .wait_until(|broker| !broker.subscriptions("svc").is_empty())
        .await;
    assert_eq!(broker.subscribe_packets("svc").len(), packets + 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_may_be_of_an_unanswered_connect_is_not_trusted() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").clean_session(false)).await;
    let seen = Seen::default();
    listen(&client, "a", &seen).await;
    // The broker has lost the session, makes a new one, and its CONNACK does not come.
    broker.inject(Fault::cut_before(PacketKind::Connack));
    let mut events = client.lifecycle();
    broker.restart(false);
    let session_present = loop {
        if let Some(LifecycleEvent::Connected { session_present }) = events.next().await {
            break session_present;
        }
    };
    assert!(session_present, "so says the second CONNACK");
    broker
        .wait_until(|broker| !broker.subscriptions("svc").is_empty())
        .await;
    client.publish("a", "back").qos(QoS::AtLeastOnce).await.unwrap();
    assert_eq!(seen.reach(1).await, ["back"]);
    // Answered in the ordinary way, it is trusted again.
    let packets = broker.subscribe_packets("svc").len();
    broker.cut("svc");
    client.state().until(State::Reconnecting).await;
    client.publish("a", "again").qos(QoS::AtLeastOnce).await.unwrap();
    assert_eq!(seen.reach(2).await, ["back", "again"]);
    assert_eq!(broker.subscribe_packets("svc").len(), packets);
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_for_ever_with_growing_delays() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let mut events = client.lifecycle();
    broker.stop();
    let mut delays = Vec::new();
    while delays.len() < 20 {
        if let Some(LifecycleEvent::ReconnectScheduled { delay, .. }) = events.next().await {
            delays.push(delay.as_secs_f64());
        }
    }
    for (delay, nominal) in delays
        .iter()
        .zip([0.5, 1.0, 2.0, 4.0].into_iter().chain(std::iter::repeat(5.0)))
    {
        assert!((nominal / 2.0..=nominal).contains(delay), "{delays:?}");
    }
    broker.start();
    client.state().until(State::Connected).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_accepts_and_drops_is_no_hot_loop() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let mut events = client.lifecycle();
    broker.accept_then_drop(true);
    broker.cut("svc");
    tokio::time::sleep(secs(60)).await;
    let connects = broker.connect_count("svc");
    assert!((5..=30).contains(&connects), "{connects} connects in a minute");
    let mut contested = false;
    while let Some(event) = events.next().await {
        if let LifecycleEvent::ClientIdContested { client_id } = event {
            assert_eq!(client_id, "svc");
            contested = true;
            break;
        }
    }
    assert!(contested);
    broker.accept_then_drop(false);
    client.state().until(State::Connected).await;
    // Only a connection that stays up resets the delay.
    tokio::time::sleep(secs(6)).await;
    let mut events = client.lifecycle();
    broker.cut("svc");
    loop {
        if let Some(LifecycleEvent::ReconnectScheduled { attempt, delay }) = events.next().await {
            assert_eq!(attempt, 1);
            assert!(delay <= Duration::from_millis(500));
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_does_not_heal_is_retried_at_the_longest_delay_and_reported() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let mut events = client.lifecycle();
    broker.refuse_connects(Refusal::BadCredentials);
    broker.cut("svc");
    let mut reported = 0;
    let mut delays = Vec::new();
    while delays.len() < 4 {
        match events.next().await.unwrap() {
            LifecycleEvent::ConnectFailed { .. } => reported += 1,
            LifecycleEvent::ReconnectScheduled { delay, .. } => delays.push(delay),
            _ => {}
        }
    }
    assert_eq!(reported, 3);
    assert!(
        delays[1..].iter().all(|delay| *delay >= Duration::from_millis(2500)),
        "{delays:?}"
    );
    broker.refuse_connects(None);
    client.state().until(State::Connected).await;
}

#[tokio::test(start_paused = true)]
async fn without_reconnect_a_lost_connection_ends_the_client_with_its_reason() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").reconnect(false)).await;
    broker.cut("svc");
    client.state().until(State::Disconnected).await;
    let error = client.publish("a", "x").await.unwrap_err();
    assert_eq!(error.kind(), tars_mqtt::ErrorKind::Closed);
    assert!(std::error::Error::source(&error).is_some(), "{error:?}");
    client.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn subscribing_while_reconnecting_waits_for_the_connection() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").publish_timeout(secs(20))).await;
    broker.stop();
    client.state().until(State::Reconnecting).await;
    let begin = Instant::now();
    let error = client
        .subscribe("never", async |_: InboundMessage| ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), tars_mqtt::ErrorKind::Timeout);
    assert!(begin.elapsed() >= secs(20));
    let subscribing = tokio::spawn({
        let client = client.clone();
        async move { client.subscribe("later", async |_: InboundMessage| ()).await }
    });
    settle().await;
    broker.start();
    let subscription = subscribing.await.unwrap().unwrap();
    assert_eq!(subscription.filter().as_str(), "later");
    settle().await;
    assert_eq!(broker.subscriptions("svc").len(), 1, "the one that timed out is undone");
}

#[tokio::test(start_paused = true)]
async fn on_a_clean_session_what_waited_is_handled_and_on_a_kept_one_only_once_more() {
    for clean in [true, false] {
        let broker = MemoryBroker::new();
        let client = connected_with(&broker, config("svc").clean_session(clean)).await;
        let seen = Seen::default();
        let handled = seen.clone();
        client
            .subscribe("slow", move |message: InboundMessage| {
                let seen = handled.clone();
                async move {
                    tokio::time::sleep(secs(2)).await;
                    seen.push(payload_text(&message.payload));
                }
            })
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
        for n in 0..5 {
            client
                .publish("slow", n.to_string())
                .qos(QoS::AtLeastOnce)
                .await
                .unwrap();
        }
        settle().await;
        broker.cut("svc");
        seen.reach(5).await;
        tokio::time::sleep(secs(60)).await;
        assert_eq!(broker.backlog("svc"), (0, 0));
        let mut handled = seen.all();
        handled.sort();
        handled.dedup();
        assert_eq!(handled, ["0", "1", "2", "3", "4"]);
        // On a kept session the one that was running when the link went may run twice.
        assert!(seen.len() <= 6, "{:?}", seen.all());
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_subscriptions_are_restored() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    futures_util::future::join_all((0..1000).map(|n| {
        let (client, seen) = (client.clone(), seen.clone());
        async move { listen(&client, &format!("s/{n}/+"), &seen).await }
    }))
    .await;
    broker.restart(false);
    client.state().until(State::Reconnecting).await;
    broker
        .wait_until(|broker| broker.subscriptions("svc").len() == 1000)
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_confirmed_right_before_the_end_is_not_sent_again_however_much_it_is() {
    const MESSAGES: usize = 500;
    let broker = MemoryBroker::new().with_packet_record();
    let client = connected_with(&broker, config("svc").max_inflight(u16::MAX)).await;
    broker.freeze();
    let mut receipts = Vec::new();
    for n in 0..MESSAGES {
        let publish = client.publish("a", n.to_string()).qos(QoS::AtLeastOnce);
        receipts.push(publish.accepted().await.unwrap());
    }
    crate::settle().await;
    broker.thaw();
    // All of it has arrived, and the session has seen nothing of it.
    let confirmed = |packet: &Arrived| packet.kind == PacketKind::Puback;
    while broker.packets().iter().filter(|packet| confirmed(packet)).count() < MESSAGES {
        tokio::task::yield_now().await;
    }
    broker.cut("svc");
    for receipt in receipts {
        receipt.await.unwrap();
    }
    assert_eq!(client.stats().connects, 1, "nothing waited for the next connection");
    client.state().until(State::Reconnecting).await;
    client.state().until(State::Connected).await;
    crate::settle().await;
    assert_eq!(broker.published().len(), MESSAGES);
}

/// Were the filters asked for again and again on the connection that is given up, nothing else
/// would run on this thread, and the test would not end.
#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_answer_the_filters_is_left_for_a_new_connection() {
    let broker = MemoryBroker::new().with_latency(Duration::from_millis(100));
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    listen(&client, "a", &seen).await;
    let mut events = client.lifecycle();
    broker.restart(false);
    loop {
        if let Some(LifecycleEvent::Connected { .. }) = events.next().await {
            break;
        }
    }
    broker.freeze();
    client.state().until(State::Reconnecting).await;
    broker.thaw();
    broker
        .wait_until(|broker| !broker.subscriptions("svc").is_empty())
        .await;
    client.publish("a", "back").qos(QoS::AtLeastOnce).await.unwrap();
    assert_eq!(seen.reach(1).await, ["back"]);
}

/// Connects, and while it is told to, never says so.
struct Unanswered(tars_testkit::memory::MemoryConnector, Arc<AtomicBool>);

#[async_trait::async_trait]
impl Connector for Unanswered {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn connect(&self, options: &ConnectOptions, session: SessionState) -> Result<Connected, Error> {
        let connected = self.0.connect(options, session).await?;
        if self.1.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(connected)
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_may_be_of_an_attempt_cut_short_is_not_trusted() {
    let broker = MemoryBroker::new();
    let unanswered = Arc::new(AtomicBool::new(false));
    let client = tars_mqtt::Client::builder(config("svc").clean_session(false).build().unwrap())
        .connector(Unanswered(broker.connector(), unanswered.clone()))
        .build()
        .unwrap();
    client.connect().await.unwrap();
    let seen = Seen::default();
    listen(&client, "a", &seen).await;
    // The broker has lost the session and makes a new one, for an attempt that nobody waits out.
    unanswered.store(true, Ordering::SeqCst);
    broker.restart(false);
    client.state().until(State::Reconnecting).await;
    tokio::time::sleep(secs(2)).await;
    client.disconnect().await.unwrap();
    unanswered.store(false, Ordering::SeqCst);
    let mut events = client.lifecycle();
    client.connect().await.unwrap();
    assert!(matches!(
        events.next().await,
        Some(LifecycleEvent::Connected { session_present: true })
    ));
    client.publish("a", "back").qos(QoS::AtLeastOnce).await.unwrap();
    assert_eq!(seen.reach(1).await, ["back"]);
}
