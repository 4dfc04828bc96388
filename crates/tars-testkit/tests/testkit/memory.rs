//! The in-memory broker and its adapter, all in paused time.

mod delivery;
mod faults;
mod publish;
mod resume;
mod sessions;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tars_contracts::{TopicFilter, TopicName};
use tars_ports::{
    AckOutcome, ConnectOptions, Connected, Connection, Connector, Delivery, Ended, Error, Inbound, Incoming, Message,
    QoS, Receipt, SessionState,
};
use tars_testkit::memory::MemoryBroker;
use tokio::time::timeout;

pub(crate) use QoS::{AtLeastOnce as Q1, AtMostOnce as Q0, ExactlyOnce as Q2};

/// One connection, with the little that every test does with it.
pub(crate) struct Client {
    pub(crate) connection: Arc<dyn Connection>,
    pub(crate) inbound: Inbound,
    pub(crate) session_present: bool,
    pub(crate) resumed: Vec<(u64, Receipt)>,
}

pub(crate) fn options(client_id: &str) -> ConnectOptions {
    ConnectOptions::new("memory", 1883, client_id)
}

pub(crate) fn persistent(client_id: &str) -> ConnectOptions {
    let mut options = options(client_id);
    options.clean_session = false;
    options
}

pub(crate) fn topic(text: &str) -> TopicName {
    text.parse().expect("a valid topic")
}

pub(crate) fn filter(text: &str) -> TopicFilter {
    text.parse().expect("a valid filter")
}

pub(crate) fn message(text: &str, payload: &str, qos: QoS) -> Message {
    Message::new(topic(text), payload.to_owned()).with_qos(qos)
}

pub(crate) async fn try_connect(
    broker: &MemoryBroker,
    options: &ConnectOptions,
    session: SessionState,
) -> Result<Client, Error> {
    let Connected {
        connection,
        inbound,
        session_present,
        resumed,
        ..
    } = broker.connector().connect(options, session).await?;
    Ok(Client {
        connection,
        inbound,
        session_present,
        resumed,
    })
}

impl Client {
    pub(crate) async fn with(broker: &MemoryBroker, options: &ConnectOptions) -> Self {
        let connected = try_connect(broker, options, SessionState::new()).await;
        connected.expect("the broker accepts")
    }

    pub(crate) async fn new(broker: &MemoryBroker, client_id: &str) -> Self {
        Self::with(broker, &options(client_id)).await
    }

    pub(crate) async fn subscribe(&self, text: &str, qos: QoS) {
        let granted = self.connection.subscribe(&[(filter(text), qos)]).await;
        assert_eq!(granted.expect("a SUBACK"), [Ok(qos)]);
    }

    pub(crate) fn send(&self, message: Message) -> Receipt {
        self.connection.try_publish(message).expect("taken over")
    }

    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        let next = poll_fn(|cx| self.inbound.as_mut().poll_next(cx));
        timeout(Duration::from_secs(3600), next).await.expect("something comes")
    }

    pub(crate) async fn delivery(&mut self) -> Delivery {
        match self.next().await {
            Some(Incoming::Delivery(delivery)) => delivery,
            other => panic!("awaited a delivery, got {other:?}"),
        }
    }

    /// The next delivery, acknowledged, as its payload.
    pub(crate) async fn handled(&mut self) -> String {
        let delivery = self.delivery().await;
        self.ack(&delivery);
        payload(&delivery)
    }

    pub(crate) fn ack(&self, delivery: &Delivery) {
        if let Some(token) = delivery.token {
            self.connection.ack(token, AckOutcome::Done);
        }
    }

    /// Nothing comes within a second of tokio's clock.
    pub(crate) async fn silent(&mut self) {
        let next = poll_fn(|cx| self.inbound.as_mut().poll_next(cx));
        if let Ok(seen) = timeout(Duration::from_secs(1), next).await {
            panic!("awaited silence, got {seen:?}");
        }
    }

    /// Reads up to the end; nothing follows it.
    pub(crate) async fn ended(&mut self) -> Ended {
        loop {
            match self.next().await {
                Some(Incoming::Ended(ended)) => {
                    assert!(self.next().await.is_none(), "nothing follows the end");
                    return ended;
                }
                Some(_) => {}
                None => panic!("the stream ended without saying why"),
            }
        }
    }
}

pub(crate) fn payload(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.payload).into_owned()
}
