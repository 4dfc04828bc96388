//! [`TestBroker`]: the broker in memory, in the words of somebody who tests a service: events
//! in, events out, health, links.
//!
//! Not here: the service itself. Give it [`TestBroker::connector`] where it makes its client.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tars_contracts::{Envelope, EnvelopeHead, HealthStatus, TopicFilter, TopicName, health_topic};
use tars_ports::{Message, QoS};
use tokio::time::timeout;

use crate::memory::{MemoryBroker, MemoryConnector};

/// On tokio's clock, so that it costs nothing in paused time.
/// Shorter than the memory broker's own, which knows less to say.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker in memory for the tests of a service.
///
/// Nothing here needs a socket or a sleep: what is waited for is a state, and under
/// `#[tokio::test(start_paused = true)]` an hour passes in an instant. What a test expected
/// and did not come panics after 30 s of that clock, and says what was published instead.
///
/// Clones are handles to the same broker. Whatever is not here, [`memory`](Self::memory) has.
///
/// ```
/// use serde_json::json;
/// use tars_contracts::Envelope;
/// use tars_testkit::TestBroker;
/// # use tars_ports::{ConnectOptions, Connector, Message, PublisherExt, SessionState};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let broker = TestBroker::new();
/// # let options = ConnectOptions::new("memory", 1883, "lamp");
/// # let service = broker.connector().connect(&options, SessionState::new()).await.unwrap();
/// # let reply = Envelope::new("lamp.state", "lamp", json!({"on": true})).to_bytes().unwrap();
/// # service.connection.publish(Message::new("lamp/state".parse().unwrap(), reply)).await.unwrap();
/// // … the service under test, connected to `broker.connector()`, publishes …
/// let state: Envelope = broker.event("lamp/+").await;
/// assert_eq!(state.data["on"], true);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct TestBroker {
    memory: MemoryBroker,
}

impl TestBroker {
    /// A running broker with nobody connected.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the service's client is to connect with: `Client::builder(config).connector(…)`.
    #[must_use]
    pub fn connector(&self) -> MemoryConnector {
        self.memory.connector()
    }

    /// The broker itself: stop, freeze, refuse, raw messages, the log with its senders.
    #[must_use]
    pub fn memory(&self) -> &MemoryBroker {
        &self.memory
    }

    /// Publishes an event at QoS 1, once somebody is subscribed to its topic. Returns the
    /// envelope's id.
    ///
    /// # Panics
    /// If topic or data are invalid, or nobody subscribes.
    #[track_caller]
    pub fn publish_event(
        &self,
        topic: &str,
        event_type: &str,
        data: &(impl Serialize + ?Sized),
    ) -> impl Future<Output = String> {
        let envelope = Envelope::new(event_type, "test", data);
        let sent = self.publish_envelope(topic, &envelope);
        let id = envelope.id.clone();
        async move {
            sent.await;
            id
        }
    }

    /// As [`publish_event`](Self::publish_event), with an id, a source or a time of one's own.
    ///
    /// # Panics
    /// If topic or data are invalid, or nobody subscribes.
    #[track_caller]
    pub fn publish_envelope<T: Serialize>(
        &self,
        topic: &str,
        envelope: &Envelope<T>,
    ) -> impl Future<Output = ()> + use<T> {
        let name = TopicName::new(topic).unwrap_or_else(|error| panic!("{error}"));
        let bytes = envelope.to_bytes().unwrap_or_else(|error| panic!("{error}"));
        let message = Message::new(name, bytes).with_qos(QoS::AtLeastOnce);
        let (broker, subscribed) = (self.memory.clone(), self.until_subscribed(topic));
        async move {
            subscribed.await;
            broker.publish(message);
        }
    }

    /// Publishes an event and waits for the one that answers it: published by a service to
    /// `reply_filter`, with the same correlation id.
    ///
    /// # Panics
    /// As [`publish_event`](Self::publish_event) and [`events`](Self::events).
    #[track_caller]
    pub fn request<T: DeserializeOwned>(
        &self,
        topic: &str,
        event_type: &str,
        data: &(impl Serialize + ?Sized),
        reply_filter: &str,
    ) -> impl Future<Output = Envelope<T>> {
        let request = Envelope::new(event_type, "test", data);
        let sent = self.publish_envelope(topic, &request);
        let (id, filter) = (request.id, valid(reply_filter));
        let answers = move |payload: &[u8]| {
            EnvelopeHead::peek(payload).is_some_and(|head| head.correlation_id() == Some(id.as_str()))
        };
        let reply = self.until(format!("a reply on {reply_filter}"), move |memory| {
            said(memory, &filter)
                .into_iter()
                .find(|message| answers(&message.payload))
        });
        async move {
            sent.await;
            read(&reply.await)
        }
    }

    /// The first `count` events and all further ones that services published so far to topics
    /// that match, in order, wills included; what the test published is not among them. Waits
    /// until there are so many; with 0 it looks.
    ///
    /// # Panics
    /// If fewer come, or a payload is no envelope with a `T`.
    #[track_caller]
    pub fn events<T: DeserializeOwned>(
        &self,
        filter: &str,
        count: usize,
    ) -> impl Future<Output = Vec<Envelope<T>>> + use<T> {
        let filter = valid(filter);
        let messages = self.until(format!("{count} events on {filter}"), move |memory| {
            Some(said(memory, &filter)).filter(|messages| messages.len() >= count)
        });
        async move { messages.await.iter().map(read).collect() }
    }

    /// The first event that a service published to a topic that matches; waits for it.
    ///
    /// # Panics
    /// As [`events`](Self::events).
    #[track_caller]
    pub fn event<T: DeserializeOwned>(&self, filter: &str) -> impl Future<Output = Envelope<T>> + use<T> {
        let events = self.events(filter, 1);
        async move { events.await.swap_remove(0) }
    }

    /// Waits until somebody is subscribed to what this topic matches.
    ///
    /// # Panics
    /// If nobody is in time.
    #[track_caller]
    pub fn until_subscribed(&self, topic: &str) -> impl Future<Output = ()> + use<> {
        let topic = topic.to_owned();
        self.until(format!("a subscription that matches {topic}"), move |memory| {
            let sessions = memory.sessions().into_iter();
            let mut filters = sessions.flat_map(|client_id| memory.subscriptions(&client_id));
            filters.any(|(filter, _)| filter.matches_str(&topic)).then_some(())
        })
    }

    /// Waits until this client is connected.
    ///
    /// # Panics
    /// If it is not in time.
    #[track_caller]
    pub fn until_connected(&self, client_id: &str) -> impl Future<Output = ()> + use<> {
        let client_id = client_id.to_owned();
        self.until(format!("the client {client_id}"), move |memory| {
            memory.connections().contains(&client_id).then_some(())
        })
    }

    /// Waits until the retained health of this client has this event, such as `connected`,
    /// `offline` (the last will) or the service's own.
    ///
    /// # Panics
    /// If it does not come to that.
    #[track_caller]
    pub fn health(&self, client_id: &str, event: &str) -> impl Future<Output = HealthStatus> + use<> {
        let topic = health_topic(client_id).unwrap_or_else(|error| panic!("{error}"));
        let event = event.to_owned();
        self.until(format!("health `{event}` of {client_id}"), move |memory| {
            let status: HealthStatus = read(&memory.retained(topic.as_str())?).data;
            Some(status).filter(|status| status.event.as_deref() == Some(event.as_str()))
        })
    }

    /// Cuts this client's link: what was under way is lost, and its last will speaks.
    ///
    /// # Panics
    /// If it is not connected.
    #[track_caller]
    pub fn cut(&self, client_id: &str) {
        let connected = self.memory.connections();
        assert!(
            self.memory.cut(client_id),
            "no link of {client_id} to cut; connected: {connected:?}"
        );
    }

    /// Stops the broker: links end, nobody gets in. Kept sessions and retained messages stay.
    pub fn stop(&self) {
        self.memory.stop();
    }

    /// Starts it again.
    pub fn start(&self) {
        self.memory.start();
    }

    /// Asks at each change of the broker's state.
    #[track_caller]
    fn until<T, F>(&self, what: String, mut look: F) -> impl Future<Output = T> + use<T, F>
    where
        F: FnMut(&MemoryBroker) -> Option<T>,
    {
        let (memory, caller) = (self.memory.clone(), Location::caller());
        async move {
            let mut found = None;
            let reached = memory.wait_until(|memory| {
                found = look(memory);
                found.is_some()
            });
            if timeout(PATIENCE, reached).await.is_err() {
                let seen = memory.log().into_iter().map(|logged| {
                    let who = logged.client_id.unwrap_or_else(|| "the test".to_owned());
                    format!("\n  {who}: {}", logged.message.topic)
                });
                panic!(
                    "{caller}: waited {PATIENCE:?} for {what}. Connected: {:?}. Published:{}",
                    memory.connections(),
                    seen.collect::<String>()
                );
            }
            found.expect("the wait ended because it was found")
        }
    }
}

#[track_caller]
fn valid(filter: &str) -> TopicFilter {
    TopicFilter::new(filter).unwrap_or_else(|error| panic!("{error}"))
}

/// What clients published to topics that match.
fn said(memory: &MemoryBroker, filter: &TopicFilter) -> Vec<Message> {
    let log = memory.log().into_iter();
    log.filter(|logged| logged.client_id.is_some() && filter.matches(&logged.message.topic))
        .map(|logged| logged.message)
        .collect()
}

fn read<T: DeserializeOwned>(message: &Message) -> Envelope<T> {
    Envelope::from_bytes(&message.payload).unwrap_or_else(|error| {
        let payload = String::from_utf8_lossy(&message.payload);
        panic!(
            "what was published to {} does not read: {error}\n  {payload}",
            message.topic
        )
    })
}

impl fmt::Debug for TestBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestBroker").field(&self.memory).finish()
    }
}
