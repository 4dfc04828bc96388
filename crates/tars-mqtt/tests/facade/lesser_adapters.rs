//! Adapters and brokers that lack something: no later acknowledgement, no echo. And
//! the budget, which must hold with them too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;
use tars_mqtt::ports::{
    AckOutcome, AckToken, Activity, ConnectOptions, Connected, Connection, Connector, Incoming, Publisher, Refused,
    SessionState, Subscriber, TryPublishError,
};
use tars_mqtt::{
    Acknowledge, Capabilities, Client, Error, ErrorKind, InboundMessage, Message, QoS, Receipt, TopicFilter,
};
use tars_testkit::memory::{MemoryBroker, MemoryConnector};
use tokio::sync::mpsc;

use crate::{Seen, config, connected, connected_with, payload_text, secs, settle};

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
        // Read ahead, as a library does that cannot pause.
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut inbound = connected.inbound;
        tokio::spawn(async move {
            while let Some(mut incoming) = inbound.next().await {
                if let Incoming::Delivery(delivery) = &mut incoming {
                    match lacks {
                        Lacks::ManualAck => {
                            if let Some(token) = delivery.token.take() {
                                acknowledging.ack(token, AckOutcome::Done);
                            }
                        }
                        Lacks::Echo if delivery.topic.as_str().starts_with("system/keepalive/") => continue,
                        Lacks::Echo => {}
                    }
                }
                if sender.send(incoming).is_err() {
                    return;
                }
            }
        });
        connected.inbound = Box::pin(futures_util::stream::unfold(receiver, async |mut receiver| {
            Some((receiver.recv().await?, receiver))
        }));
        if matches!(lacks, Lacks::Echo) {
            connected.connection = Arc::new(Quiet(inner, AtomicU64::new(1)));
        }
        Ok(connected)
    }
}

/// A connection on which nothing is ever read but CONNACK, SUBACK and UNSUBACK: it
/// counts the answers.
struct Quiet(Arc<dyn Connection>, AtomicU64);

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
        let answer = self.0.subscribe(filters).await;
        self.1.fetch_add(1, Ordering::Relaxed);
        answer
    }
    async fn unsubscribe(&self, filters: &[TopicFilter]) -> Result<(), Error> {
        let answer = self.0.unsubscribe(filters).await;
        self.1.fetch_add(1, Ordering::Relaxed);
        answer
    }
}

#[async_trait]
impl Connection for Quiet {
    fn ack(&self, token: AckToken, outcome: AckOutcome) {
        self.0.ack(token, outcome);
    }
    fn activity(&self) -> Activity {
        Activity::new(self.1.load(Ordering::Relaxed), false)
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
    broker.freeze();
    let begin = tokio::time::Instant::now();
    client.state().until(tars_mqtt::State::Reconnecting).await;
    assert!(begin.elapsed() < secs(6), "noticed after {:?}", begin.elapsed());
}

/// A subscription at QoS 1 whose handler takes a second.
pub(crate) async fn slow(client: &Client, seen: &Seen) {
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
async fn what_an_ended_connection_had_acknowledged_is_kept_above_the_budget() {
    let broker = MemoryBroker::new();
    let persistent = config("svc").clean_session(false).inbound_messages(2);
    let client = lacking(&broker, Lacks::ManualAck, persistent).await;
    let seen = Seen::default();
    slow(&client, &seen).await;
    assert_eq!(broker.backlog("svc"), (0, 0), "the third waits in the adapter");
    broker.cut("svc");
    assert_eq!(seen.reach(3).await, ["0", "1", "2"]);
    assert_eq!(client.stats().dropped, 0);
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
    let oldest = client.stats().oldest_unfinished.unwrap();
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
