//! What a topic's state is, for as long as somebody wants to know.

use serde::de::DeserializeOwned;
use tars_contracts::{Envelope, TopicFilter, TopicName};
use tars_ports::{Error, ErrorKind, QoS};
use tokio::sync::watch;

use crate::client::Client;
use crate::dispatch::Slot;
use crate::handler::InboundMessage;
use crate::subscribe::Route;

/// A subscription of the client's own, beside the user's. It ends when this is dropped.
pub(super) struct Listening {
    client: Client,
    topic: TopicName,
    id: u64,
    latest: watch::Receiver<Option<InboundMessage>>,
}

impl Listening {
    /// Resolves when the broker has granted it; the retained message is on its way then.
    pub(super) async fn begin(client: &Client, topic: TopicName, qos: QoS) -> Result<Self, Error> {
        let (sender, latest) = watch::channel(None);
        let note = move |message: InboundMessage| {
            sender.send_replace(Some(message));
            std::future::ready(())
        };
        let slot = Slot::Own(client.shared().fresh_route_id());
        let route = Route::new(topic.as_str(), note).qos(qos).in_slot(slot);
        let subscribing = |error: Error| error.while_doing(format_args!("subscribing to {topic}"));
        let (id, _) = client.subscribe_route(route).await.map_err(subscribing)?;
        Ok(Self {
            client: client.clone(),
            topic,
            id,
            latest,
        })
    }

    /// The next state that comes, as an envelope. States that come meanwhile are skipped
    /// but for the last. Cancel-safe.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Envelope<T>, Error> {
        let ended = || Error::new(ErrorKind::Closed, "the client was ended");
        let unseen = self.latest.wait_for(Option::is_some);
        let message = unseen.await.map_err(|_| ended())?.clone().ok_or_else(ended)?;
        Envelope::from_bytes(&message.payload).map_err(|error| {
            let what = format!("the state on {} does not fit: {error}", self.topic);
            Error::new(ErrorKind::InvalidPayload, what).with_source(error)
        })
    }

    /// Waits for a state after the one that was seen.
    pub(super) async fn changed(&mut self) -> Result<(), Error> {
        let ended = |_| Error::new(ErrorKind::Closed, "the client was ended");
        self.latest.changed().await.map_err(ended)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.client
            .unsubscribe_soon(TopicFilter::from(self.topic.clone()), self.id);
    }
}
