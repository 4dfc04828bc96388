//! Corner cases that a review found or feared: combinations of replacing, refusing,
//! reconnecting, draining and giving up.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use tars_mqtt::ports::{
    AckOutcome, AckToken, Activity, ConnectOptions, Connected, Connection, Connector, Incoming, Publisher, Refused,
    SessionState, Subscriber, TryPublishError,
};
use tars_mqtt::{
    Acknowledge, Capabilities, Client, Context, Envelope, Error, ErrorKind, Fate, InboundMessage, LifecycleEvent,
    Message, OnFailure, QoS, Receipt, Route, State, TopicFilter,
};
use tars_testkit::memory::{MemoryBroker, MemoryConnector};

use crate::{Seen, client_with, config, connected, connected_with, payload_text, secs, settle};

fn listener(seen: &Seen, name: &'static str) -> impl tars_mqtt::Handler<(InboundMessage,)> + use<> {
    let seen = seen.clone();
    move |message: InboundMessage| {
        seen.push(format!("{name} {}", payload_text(&message.payload)));
        async {}
    }
}

// ---- subscriptions: replace, refuse, give up ----

/// A handler that notes how many of its kind run at once.
fn counting(running: &Arc<AtomicUsize>, peak: &Arc<AtomicUsize>) -> impl tars_mqtt::Handler<(InboundMessage,)> + use<> {
    let (running, peak) = (running.clone(), peak.clone());
    move |_: InboundMessage| {
        let (running, peak) = (running.clone(), peak.clone());
        async move {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(secs(1)).await;
            running.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_comes_back_after_a_refused_replacement_still_runs_one_at_a_time() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let (running, peak) = (Arc::default(), Arc::default());
    client.subscribe("a", counting(&running, &peak)).await.unwrap();
    client.publish("a", "0").await.unwrap();
    settle().await;
    broker.refuse_filter("a");
    client.subscribe("a", async |_: InboundMessage| ()).await.unwrap_err();
    for _ in 0..5 {
        client.publish("a", "x").await.unwrap();
    }
    tokio::time::sleep(secs(10)).await;
    assert_eq!(client.stats().handled, 6);
    assert_eq!(
        peak.load(Ordering::SeqCst),
        1,
        "messages of one subscription run in order"
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_subscribes_refused_together_neither_handler_stays() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.refuse_filter("a");
    broker.freeze();
    let seen = Seen::default();
    let first = tokio::spawn(client.subscribe("a", listener(&seen, "first")).into_future());
    settle().await;
    let second = tokio::spawn(client.subscribe("a", listener(&seen, "second")).into_future());
    settle().await;
    broker.thaw();
    for refused in [first, second] {
        assert_eq!(
            refused.await.unwrap().unwrap_err().kind(),
            ErrorKind::SubscriptionRefused
        );
    }
    broker.allow_filter("a");
    broker.restart(false);
    client.state().until(State::Reconnecting).await;
    client.state().until(State::Connected).await;
    settle().await;
    assert!(broker.subscriptions("svc").is_empty(), "nobody wants it any more");
}

#[tokio::test(start_paused = true)]
async fn of_two_subscribes_given_up_together_neither_handler_stays() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.freeze();
    let seen = Seen::default();
    let first = tokio::spawn(client.subscribe("a", listener(&seen, "first")).into_future());
    settle().await;
    let second = tokio::spawn(client.subscribe("a", listener(&seen, "second")).into_future());
    settle().await;
    first.abort();
    second.abort();
    settle().await;
    broker.thaw();
    settle().await;
    assert!(broker.subscriptions("svc").is_empty(), "nobody wants it any more");
}

#[tokio::test(start_paused = true)]
async fn a_subscribe_is_answered_by_its_own_suback() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.freeze();
    let seen = Seen::default();
    let first = tokio::spawn(client.subscribe("a", listener(&seen, "first")).into_future());
    settle().await;
    let second = tokio::spawn(
        client
            .subscribe("a", listener(&seen, "second"))
            .qos(QoS::AtLeastOnce)
            .into_future(),
    );
    settle().await;
    broker.thaw();
    assert_eq!(first.await.unwrap().unwrap().granted(), QoS::AtMostOnce);
    assert_eq!(second.await.unwrap().unwrap().granted(), QoS::AtLeastOnce);
    assert_eq!(broker.subscribe_packets("svc").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unsubscribed_handler_does_not_come_back_when_its_replacement_is_refused() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    let old = client.subscribe("a", listener(&seen, "old")).await.unwrap();
    broker.refuse_filter("a");
    broker.freeze();
    let new = tokio::spawn(client.subscribe("a", listener(&seen, "new")).into_future());
    settle().await;
    let unsubscribing = tokio::spawn(old.unsubscribe());
    settle().await;
    broker.thaw();
    new.await.unwrap().unwrap_err();
    unsubscribing.await.unwrap().unwrap();
    settle().await;
    assert!(broker.subscriptions("svc").is_empty());
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_reaches_what_an_earlier_process_left_in_the_session() {
    let broker = MemoryBroker::new();
    let persistent = || config("svc").clean_session(false);
    let first = connected_with(&broker, persistent()).await;
    first.subscribe("old", async |_: InboundMessage| ()).await.unwrap();
    first.shutdown().await;
    assert_eq!(broker.subscriptions("svc").len(), 1);
    let second = connected_with(&broker, persistent()).await;
    second.unsubscribe("old").await.unwrap();
    assert!(broker.subscriptions("svc").is_empty());
}

#[tokio::test(start_paused = true)]
async fn subscribes_given_up_during_an_outage_leave_nothing_behind() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.stop();
    client.state().until(State::Reconnecting).await;
    let captured = Arc::new(());
    for n in 0..100 {
        let held = captured.clone();
        let subscribe = client.subscribe(format!("a/{}", n % 10), move |_: InboundMessage| {
            let _held = held.clone();
            async {}
        });
        let gave_up = tokio::time::timeout(Duration::from_millis(10), subscribe.into_future()).await;
        assert!(gave_up.is_err());
    }
    settle().await;
    assert!(
        Arc::strong_count(&captured) <= 2,
        "{} are left",
        Arc::strong_count(&captured) - 1
    );
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_fits_no_packet_is_an_error_and_the_connection_stays_up() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").max_packet_size(200)).await;
    let error = client
        .subscribe("a".repeat(300), async |_: InboundMessage| ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let error = client.unsubscribe("a".repeat(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    settle().await;
    assert!(client.is_connected());
    assert_eq!(client.stats().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_filter_of_more_levels_than_brokers_take_is_an_error_and_no_stack_overflow() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let error = client
        .subscribe("a/".repeat(32_000), async |_: InboundMessage| ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFilter);
    let deep = format!("{}#", "a/".repeat(199));
    client.subscribe(&deep, async |_: InboundMessage| ()).await.unwrap();
    client.publish("a/".repeat(32_000), "x").await.unwrap();
    settle().await;
    assert_eq!(client.stats().handled, 1);
    client.unsubscribe(&deep).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn raising_a_neighbours_qos_is_not_reported_as_a_restoration() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let mut events = client.lifecycle();
    client.subscribe("a/#", async |_: InboundMessage| ()).await.unwrap();
    client
        .subscribe("a/b", async |_: InboundMessage| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    settle().await;
    assert!(
        broker
            .subscriptions("svc")
            .iter()
            .all(|(_, qos)| *qos == QoS::AtLeastOnce)
    );
    let event = events.next().now_or_never();
    assert!(event.is_none(), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waited_for_a_connection_that_did_not_come_about_is_told_at_once() {
    let broker = MemoryBroker::new();
    broker.freeze();
    let client = client_with(&broker, config("svc").enable_health(true));
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    settle().await;
    let subscribing = tokio::spawn(client.subscribe("a", async |_: InboundMessage| ()).into_future());
    let telling = tokio::spawn(client.publish_health(true).into_future());
    assert_eq!(connecting.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    settle().await;
    assert!(subscribing.is_finished() && telling.is_finished());
    assert_eq!(subscribing.await.unwrap().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(telling.await.unwrap().unwrap_err().kind(), ErrorKind::NotConnected);
}

// ---- the heartbeat's echo ----

#[tokio::test(start_paused = true)]
async fn when_the_filter_that_covers_the_echo_is_refused_the_echo_is_asked_for_itself() {
    let broker = MemoryBroker::new();
    let config = config("svc")
        .enable_heartbeat(true)
        .heartbeat_interval(secs(1))
        .keepalive(secs(3600));
    let client = connected_with(&broker, config).await;
    client
        .subscribe("system/keepalive/+", async |_: InboundMessage| ())
        .await
        .unwrap();
    broker.refuse_filter("system/keepalive/+");
    broker.restart(false);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(client.stats().connects, 2, "the broker is alive and well");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_own_keepalive_topic_reaches_the_user_who_asked_for_it() {
    let broker = MemoryBroker::new();
    broker.refuse_filter("system/keepalive/svc");
    let config = config("svc").enable_heartbeat(true).heartbeat_interval(secs(1));
    let client = connected_with(&broker, config).await;
    let error = client
        .subscribe("system/keepalive/svc", async |_: InboundMessage| ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SubscriptionRefused);
}

/// What an adapter, or a broker behind it, may lack.
#[derive(Clone, Copy)]
enum Lacks {
    /// The library acknowledges by itself.
    ManualAck,
    /// The broker grants the filter of the keepalive topic and sends nothing on it, as
    /// Mosquitto with an ACL file does.
    Echo,
}

struct Lacking(MemoryConnector, Lacks);

#[async_trait]
impl Connector for Lacking {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.0.capabilities();
        capabilities.manual_ack &= !matches!(self.1, Lacks::ManualAck);
        capabilities
    }

    async fn connect(&self, options: &ConnectOptions, session: SessionState) -> Result<Connected, Error> {
        let lacks = self.1;
        let mut connected = self.0.connect(options, session).await?;
        let inner = connected.connection.clone();
        let acknowledging = inner.clone();
        connected.inbound = Box::pin(connected.inbound.filter_map(move |mut incoming| {
            if let Incoming::Delivery(delivery) = &mut incoming {
                match lacks {
                    Lacks::ManualAck => {
                        if let Some(token) = delivery.token.take() {
                            acknowledging.ack(token, AckOutcome::Done);
                        }
                    }
                    Lacks::Echo if delivery.topic.as_str().starts_with("system/keepalive/") => {
                        return std::future::ready(None);
                    }
                    Lacks::Echo => {}
                }
            }
            std::future::ready(Some(incoming))
        }));
        if matches!(lacks, Lacks::Echo) {
            connected.connection = Arc::new(Quiet(inner));
        }
        Ok(connected)
    }
}

/// A connection on which nothing is ever read but CONNACK and SUBACK.
struct Quiet(Arc<dyn Connection>);

#[async_trait]
impl Publisher for Quiet {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        self.0.try_publish(message)
    }
    async fn ready(&self, qos: QoS) -> Result<(), Error> {
        self.0.ready(qos).await
    }
}

#[async_trait]
impl Subscriber for Quiet {
    async fn subscribe(&self, filters: &[(TopicFilter, QoS)]) -> Result<Vec<Result<QoS, Refused>>, Error> {
        self.0.subscribe(filters).await
    }
    async fn unsubscribe(&self, filters: &[TopicFilter]) -> Result<(), Error> {
        self.0.unsubscribe(filters).await
    }
}

#[async_trait]
impl Connection for Quiet {
    fn ack(&self, token: AckToken, outcome: AckOutcome) {
        self.0.ack(token, outcome);
    }
    fn activity(&self) -> Activity {
        Activity::new(self.0.activity().packets_read.min(1), false)
    }
    async fn disconnect(&self) -> Result<(), Error> {
        self.0.disconnect().await
    }
    fn close(&self) {
        self.0.close();
    }
}

async fn lacking(broker: &MemoryBroker, lacks: Lacks, config: tars_mqtt::ConfigBuilder) -> Client {
    let client = Client::builder(config.build().unwrap())
        .connector(Lacking(broker.connector(), lacks))
        .seed(7)
        .build()
        .unwrap();
    client.connect().await.unwrap();
    client
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_grants_the_echo_and_sends_none_keeps_its_connection() {
    let broker = MemoryBroker::new();
    let config = config("svc")
        .enable_heartbeat(true)
        .heartbeat_interval(secs(1))
        .keepalive(secs(3600));
    let client = lacking(&broker, Lacks::Echo, config).await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(client.stats().connects, 1);
}

// ---- adapters that acknowledge on receipt ----

/// A subscription at QoS 1 whose handler takes a second.
async fn slow(client: &Client, seen: &Seen) {
    let handled = seen.clone();
    client
        .subscribe("slow", move |message: InboundMessage| {
            let seen = handled.clone();
            async move {
                tokio::time::sleep(secs(1)).await;
                seen.push(payload_text(&message.payload));
            }
        })
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    for n in 0..3 {
        client
            .publish("slow", n.to_string())
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
    }
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_adapter_acknowledged_by_itself_is_not_left_to_come_again() {
    let broker = MemoryBroker::new();
    let persistent = config("svc").clean_session(false);
    let client = lacking(&broker, Lacks::ManualAck, persistent).await;
    let seen = Seen::default();
    slow(&client, &seen).await;
    assert_eq!(broker.backlog("svc"), (0, 0));
    broker.cut("svc");
    assert_eq!(seen.reach(3).await, ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_already_is_run_before_a_shutdown_ends() {
    let broker = MemoryBroker::new();
    let persistent = config("svc").clean_session(false);
    let client = lacking(&broker, Lacks::ManualAck, persistent).await;
    let seen = Seen::default();
    slow(&client, &seen).await;
    let report = client.shutdown().await;
    assert_eq!((seen.len(), report.unstarted), (3, 0), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_on_receipt_is_bounded_by_the_budget() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").inbound_messages(50)).await;
    client
        .subscribe("stuck", async |_: InboundMessage| std::future::pending::<()>().await)
        .qos(QoS::AtLeastOnce)
        .acknowledge(Acknowledge::OnReceipt)
        .await
        .unwrap();
    let publisher = connected(&broker, "publisher").await;
    for _ in 0..1000 {
        publisher.publish("stuck", "x").qos(QoS::AtLeastOnce).await.unwrap();
    }
    settle().await;
    assert_eq!(client.stats().received, 50);
    let (unacknowledged, waiting) = broker.backlog("svc");
    assert!(unacknowledged + waiting > 800, "the rest waits with the broker");
    let oldest = client.oldest_unfinished().unwrap();
    assert_eq!(oldest.topic.as_str(), "stuck");
    assert!(oldest.age >= std::time::Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn a_stuck_handler_and_a_flapping_link_do_not_add_up() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").inbound_messages(50)).await;
    client
        .subscribe("stuck", async |_: InboundMessage| std::future::pending::<()>().await)
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let publisher = connected(&broker, "publisher").await;
    for _ in 0..10 {
        for _ in 0..20 {
            publisher.publish("stuck", "x").qos(QoS::AtLeastOnce).await.unwrap();
        }
        settle().await;
        broker.cut("svc");
        tokio::time::sleep(secs(6)).await;
    }
    let stats = client.stats();
    assert_eq!(stats.connects, 11, "a link that ends is noticed all the same");
    // What an ended connection had handed over is taken in, but not without a bound.
    assert!(stats.received <= 100 && stats.dropped > 0, "{stats:?}");
}

// ---- health ----

#[tokio::test(start_paused = true)]
async fn a_status_that_fits_no_packet_is_its_callers_error_and_holds_nobody_up() {
    let broker = MemoryBroker::new();
    let config = config("svc").enable_health(true).max_packet_size(1024);
    let client = connected_with(&broker, config).await;
    let begin = tokio::time::Instant::now();
    let error = client.publish_health(false).error("x".repeat(2000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    client.publish("a", "x").qos(QoS::AtLeastOnce).await.unwrap();
    assert!(begin.elapsed() < secs(1));
}

#[tokio::test(start_paused = true)]
async fn where_not_even_the_first_status_fits_publishing_goes_on() {
    let broker = MemoryBroker::new();
    let config = config("svc").enable_health(true).max_packet_size(128);
    let client = connected_with(&broker, config).await;
    client
        .publish("a", "x")
        .qos(QoS::AtLeastOnce)
        .timeout(secs(5))
        .await
        .unwrap();
    let begin = tokio::time::Instant::now();
    client.shutdown().await;
    assert!(begin.elapsed() < secs(1));
}

#[tokio::test(start_paused = true)]
async fn while_shutting_down_nobody_declares_the_service_healthy_again() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").enable_health(true)).await;
    let seen = Seen::default();
    slow(&client, &seen).await;
    let told = tokio::spawn({
        let client = client.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            client.publish_health(true).event("fine").await
        }
    });
    client.shutdown().await;
    assert_eq!(told.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    let last = payload_text(&broker.retained("system/health/svc").unwrap().payload);
    assert!(last.contains(r#""event":"shutdown""#), "{last}");
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_health_is_closed_too_be_it_on_or_off() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client.shutdown().await;
    let error = client.publish_health(true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

// ---- publishing ----

#[tokio::test(start_paused = true)]
async fn what_waited_for_room_is_not_taken_in_after_a_disconnect() {
    let broker = MemoryBroker::new();
    let config = config("svc").outbox_messages(1).shutdown_timeout(secs(1));
    let client = connected_with(&broker, config).await;
    broker.freeze();
    let first = tokio::spawn(client.publish("a", "1").qos(QoS::AtLeastOnce).into_future());
    settle().await;
    let second = tokio::spawn(client.publish("a", "2").qos(QoS::AtLeastOnce).into_future());
    settle().await;
    client.disconnect().await.unwrap();
    settle().await;
    let first = first.await.unwrap().unwrap_err();
    assert_eq!(
        (first.kind(), first.fate()),
        (ErrorKind::NotConnected, Some(Fate::Unknown))
    );
    assert!(second.is_finished());
    let second = second.await.unwrap().unwrap_err();
    assert_eq!(
        (second.kind(), second.fate()),
        (ErrorKind::NotConnected, Some(Fate::NotSent))
    );
    broker.thaw();
    client.connect().await.unwrap();
    client.publish("a", "3").qos(QoS::AtLeastOnce).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn room_in_messages_is_no_room_where_the_bytes_are_used_up() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").outbox_bytes(1000)).await;
    broker.freeze();
    let message = |bytes| Message::new("a".parse().unwrap(), vec![0; bytes]).with_qos(QoS::AtLeastOnce);
    let _first = client.try_publish(message(600)).unwrap();
    assert!(matches!(
        client.try_publish(message(600)),
        Err(TryPublishError::Full(_))
    ));
    assert!(client.ready(QoS::AtLeastOnce).now_or_never().is_none(), "it would spin");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.ready(QoS::AtLeastOnce).await }
    });
    settle().await;
    broker.thaw();
    waiting.await.unwrap().unwrap();
    let _second = client.try_publish(message(600)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_time_without_end_is_no_panic() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client
        .publish("a", "x")
        .qos(QoS::AtLeastOnce)
        .timeout(Duration::MAX)
        .await
        .unwrap();
    let seen = Seen::default();
    client
        .subscribe("b", listener(&seen, "b"))
        .timeout(Duration::MAX)
        .on_failure(OnFailure::retry(1, Duration::MAX))
        .await
        .unwrap();
    client.publish("b", "x").timeout(Duration::MAX).await.unwrap();
    seen.reach(1).await;
}

#[tokio::test(start_paused = true)]
async fn every_failed_publish_names_its_topic_and_its_fate() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").max_packet_size(200)).await;
    let mut errors = Vec::new();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        errors.push(client.publish("the/topic", vec![0; 300]).qos(qos).await.unwrap_err());
    }
    client.shutdown().await;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        errors.push(client.publish("the/topic", "x").qos(qos).await.unwrap_err());
        let message = Message::new("the/topic".parse().unwrap(), "x").with_qos(qos);
        match client.try_publish(message) {
            Err(TryPublishError::Failed(error)) => errors.push(error),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.stats().publish_failed, errors.len() as u64);
    for error in errors {
        assert_eq!(error.fate(), Some(Fate::NotSent), "{error:?}");
        assert!(error.to_string().contains("the/topic"), "{error:?}");
    }
}

#[test]
fn when_the_runtime_of_the_session_is_gone_nobody_waits_for_ever() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let broker = MemoryBroker::new();
    let (gone, other) = (runtime(), runtime());
    let client = gone.block_on(connected(&broker, "svc"));
    broker.freeze();
    let accepted = client.publish("a", "x").qos(QoS::AtLeastOnce).accepted();
    let receipt = gone.block_on(accepted).unwrap();
    gone.block_on(settle());
    drop(gone);
    other.block_on(async {
        let patience = |future| tokio::time::timeout(secs(5), future);
        let lost = patience(receipt.map(|result| result.map(drop)).boxed()).await;
        assert_eq!(lost.unwrap().unwrap_err().fate(), Some(Fate::Unknown));
        let late = client.publish("a", "x").qos(QoS::AtLeastOnce).into_future();
        let late = patience(late.boxed()).await;
        assert_eq!(late.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(client.state().current(), State::Disconnected);
    });
}

#[tokio::test(start_paused = true)]
async fn a_clean_end_writes_out_what_was_taken_over() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.freeze();
    let mut taken = 0;
    // As much as the broker's socket takes without reading, and some more.
    while let Some(Ok(())) = client.publish("a", "x").into_future().now_or_never() {
        taken += 1;
        if taken % 100 == 0 {
            settle().await;
        }
    }
    let ending = tokio::spawn({
        let client = client.clone();
        async move { client.shutdown().await }
    });
    tokio::time::sleep(secs(3)).await;
    broker.thaw();
    let report = ending.await.unwrap();
    assert!(report.disconnected, "{report:?}");
    assert_eq!(broker.published().len(), taken);
}

// ---- handlers and hooks ----

#[tokio::test(start_paused = true)]
async fn a_panicking_hook_harms_nobody() {
    let broker = MemoryBroker::new();
    let client = Client::builder(config("svc").build().unwrap())
        .connector(broker.connector())
        .on_invalid(|_, _| panic!("as the test wants"))
        .build()
        .unwrap();
    client.connect().await.unwrap();
    let seen = Seen::default();
    let handled = seen.clone();
    client
        .subscribe("a", move |event: Envelope<serde_json::Value>| {
            handled.push(event.data);
            async {}
        })
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    client.publish("a", "no envelope").qos(QoS::AtLeastOnce).await.unwrap();
    client
        .publish_event("a", "t", &json!({"n": 1}))
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    assert_eq!(seen.reach(1).await, [r#"{"n":1}"#]);
    settle().await;
    assert_eq!(broker.backlog("svc"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_end_the_client() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client
        .subscribe("stop", async |context: Context| {
            if let Some(client) = context.client() {
                client.shutdown().await;
            }
        })
        .await
        .unwrap();
    client.publish("stop", "x").await.unwrap();
    client.state().until(State::Disconnected).await;
    assert_eq!(client.shutdown().await.handlers_cut_off, 1);
    assert!(broker.connections().is_empty());
}

// ---- life cycle ----

#[tokio::test(start_paused = true)]
async fn a_scope_notices_a_lost_link_after_it_disconnected_and_connected_again() {
    let broker = MemoryBroker::new();
    let client = client_with(&broker, config("svc").reconnect(false));
    let cutting = broker.clone();
    let scope = client.run_until(async |client: Client| {
        client.disconnect().await?;
        client.connect().await?;
        cutting.cut("svc");
        std::future::pending::<Result<(), Error>>().await
    });
    let ended = tokio::time::timeout(secs(10), scope).await.expect("it ends");
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionLost);
}

#[tokio::test(start_paused = true)]
async fn disconnecting_from_many_tasks_and_shutting_down_meanwhile() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    slow(&client, &seen).await;
    let disconnects = (0..3).map(|_| client.disconnect()).collect::<Vec<_>>();
    let (reports, last) = tokio::join!(futures_util::future::join_all(disconnects), client.shutdown());
    assert_eq!(seen.len(), 3);
    assert!(last.disconnected);
    assert!(reports.into_iter().all(|report| report.unwrap() == last));
    assert_eq!(client.connect().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn many_rounds_of_connect_and_disconnect_leave_one_worker() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let (running, peak) = (Arc::default(), Arc::default());
    client.subscribe("a", counting(&running, &peak)).await.unwrap();
    for _ in 0..5 {
        client.disconnect().await.unwrap();
        client.connect().await.unwrap();
    }
    broker
        .wait_until(|broker| !broker.subscriptions("svc").is_empty())
        .await;
    for _ in 0..5 {
        client.publish("a", "x").await.unwrap();
    }
    tokio::time::sleep(secs(10)).await;
    assert_eq!((client.stats().handled, peak.load(Ordering::SeqCst)), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn a_route_of_the_builder_gets_what_waited_in_the_session_and_is_restored() {
    let broker = MemoryBroker::new();
    let persistent = || config("svc").clean_session(false);
    let first = connected_with(&broker, persistent()).await;
    first
        .subscribe("job/+", async |_: InboundMessage| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    first.shutdown().await;
    broker.publish(Message::new("job/1".parse().unwrap(), "waited").with_qos(QoS::AtLeastOnce));
    let seen = Seen::default();
    let second = Client::builder(persistent().build().unwrap())
        .connector(broker.connector())
        .route(Route::new("job/+", listener(&seen, "job")).qos(QoS::AtLeastOnce))
        .build()
        .unwrap();
    second.connect().await.unwrap();
    assert_eq!(seen.reach(1).await, ["job waited"]);
    broker.restart(false);
    second.state().until(State::Reconnecting).await;
    broker
        .wait_until(|broker| !broker.subscriptions("svc").is_empty())
        .await;
    second.publish("job/2", "after").qos(QoS::AtLeastOnce).await.unwrap();
    assert_eq!(seen.reach(2).await[1], "job after");
}

#[tokio::test(start_paused = true)]
async fn a_flood_starves_neither_commands_nor_heartbeats() {
    let broker = MemoryBroker::new();
    let config = config("svc").enable_heartbeat(true).heartbeat_interval(secs(1));
    let client = connected_with(&broker, config).await;
    let seen = Seen::default();
    client.subscribe("flood", listener(&seen, "f")).await.unwrap();
    let flood = tokio::spawn({
        let broker = broker.clone();
        async move {
            loop {
                for _ in 0..200 {
                    broker.publish(Message::new("flood".parse().unwrap(), "x"));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    for n in 0..20 {
        let filter = format!("other/{n}");
        let subscribe = client.subscribe(filter, async |_: InboundMessage| ()).into_future();
        tokio::time::timeout(secs(1), subscribe)
            .await
            .expect("in time")
            .unwrap();
    }
    tokio::time::sleep(secs(10)).await;
    assert!(client.stats().beats >= 10);
    flood.abort();
    assert_eq!(client.stats().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn events_of_a_first_failure_and_of_a_retry_say_why() {
    let broker = MemoryBroker::new();
    broker.stop();
    let client = client_with(&broker, config("svc").connect_retry(true));
    let mut events = client.lifecycle();
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    assert!(
        matches!(events.next().await, Some(LifecycleEvent::ConnectFailed { error }) if error.kind() == ErrorKind::Unreachable)
    );
    assert!(matches!(
        events.next().await,
        Some(LifecycleEvent::ReconnectScheduled { attempt: 1, .. })
    ));
    connecting.abort();
    client.state().until(State::Created).await;
}
