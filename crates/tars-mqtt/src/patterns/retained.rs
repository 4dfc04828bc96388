//! State that was published before this service came: what the broker keeps of a topic,
//! and whether another service is well.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use tars_contracts::{Envelope, HealthStatus, TopicFilter, TopicName, fresh_id, health_topic};
use tars_ports::{Error, ErrorKind, QoS};

use super::listen::Listening;
use crate::client::Client;

/// How long after the broker's word on it a retained message is still waited for.
const GRACE: Duration = Duration::from_millis(250);

impl Client {
    /// What the broker keeps of a topic: its retained message, as an `Envelope<T>`; `None`
    /// if it keeps none. For state that is consumed at start-up.
    ///
    /// ```
    /// use tars_mqtt::{Client, Error};
    ///
    /// #[derive(serde::Deserialize, Default)]
    /// struct Settings { volume: u8 }
    ///
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let settings = client.retained::<Settings>("system/config").await?;
    /// let volume = settings.map_or(5, |settings| settings.data.volume);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// MQTT has no word for "nothing is retained", nor does it promise when a retained
    /// message comes (3.1.1 section 3.8.4): it is `None` when the broker has granted a
    /// subscription, has answered one more exchange after that, and nothing has come for
    /// another 250 ms. A message published meanwhile counts too. A handler with the same
    /// filter gets the retained message once more.
    pub fn retained<T>(&self, topic: impl TryInto<TopicName, Error: Into<Error>>) -> Retained<T> {
        Retained {
            client: self.clone(),
            topic: topic.try_into().map_err(Into::into),
            timeout: self.config().publish_timeout,
            state: PhantomData,
        }
    }

    /// Waits until the health of another service, named by its client id, is ok. Its
    /// health is retained, so it does not matter who came first.
    ///
    /// ```
    /// # async fn example(client: tars_mqtt::Client) -> Result<(), tars_mqtt::Error> {
    /// client.wait_for_peer("stt").timeout(std::time::Duration::from_secs(60)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for_peer(&self, client_id: impl AsRef<str>) -> WaitForPeer {
        let client_id = client_id.as_ref();
        WaitForPeer {
            client: self.clone(),
            topic: health_topic(client_id).map_err(Error::from),
            timeout: self.config().publish_timeout,
        }
    }
}

/// A question for retained state: set options, then `.await` it.
///
/// # Errors
/// [`Timeout`](ErrorKind::Timeout) when the broker did not answer in time;
/// [`InvalidPayload`](ErrorKind::InvalidPayload) when what it keeps does not fit `T`; as
/// for [`Client::subscribe`].
#[must_use = "nothing is asked until it is awaited"]
pub struct Retained<T> {
    client: Client,
    topic: Result<TopicName, Error>,
    timeout: Duration,
    state: PhantomData<fn() -> T>,
}

impl<T> Retained<T> {
    /// How long all of it may take; default `MQTT_PUBLISH_TIMEOUT`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for Retained<T> {
    type Output = Result<Option<Envelope<T>>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let topic = self.topic?;
            // At QoS 0, which waits for no acknowledgement of other messages.
            let asked = async {
                let mut state = Listening::begin(&self.client, topic.clone(), QoS::AtMostOnce).await?;
                tokio::select! {
                    biased;
                    envelope = state.next() => envelope.map(Some),
                    nothing = nothing_came(&self.client) => nothing.map(|()| None),
                }
            };
            let answered = tokio::time::timeout(self.timeout, asked).await;
            answered.unwrap_or_else(|_| Err(late(self.timeout, &topic)))
        })
    }
}

/// The broker answers in order: what it answers now it looked at after what was before.
async fn nothing_came(client: &Client) -> Result<(), Error> {
    // Leaving a filter nobody ever had is an exchange without an effect.
    let nobody_s = TopicFilter::new(format!("tars/barrier/{}", fresh_id())).map_err(Error::from)?;
    client.unsubscribe_route(nobody_s, None).await?;
    tokio::time::sleep(GRACE).await;
    Ok(())
}

/// Waiting for another service: set options, then `.await` it. Its health is the result.
///
/// # Errors
/// [`Timeout`](ErrorKind::Timeout), with what was heard last; as for
/// [`Client::subscribe`].
#[must_use = "nothing is waited for until it is awaited"]
pub struct WaitForPeer {
    client: Client,
    topic: Result<TopicName, Error>,
    timeout: Duration,
}

impl WaitForPeer {
    /// How long to wait; default `MQTT_PUBLISH_TIMEOUT`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl IntoFuture for WaitForPeer {
    type Output = Result<HealthStatus, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let topic = self.topic?;
            let mut last = None;
            let well = async {
                let mut health = Listening::begin(&self.client, topic.clone(), QoS::AtLeastOnce).await?;
                loop {
                    match health.next::<HealthStatus>().await {
                        Ok(Envelope { data, .. }) if data.ok => return Ok(data),
                        Ok(Envelope { data, .. }) => last = Some(data),
                        Err(error) if error.kind() == ErrorKind::InvalidPayload => {
                            tracing::warn!(%topic, %error, "a peer's health was skipped");
                        }
                        Err(error) => return Err(error),
                    }
                    health.changed().await?;
                }
            };
            let result = tokio::time::timeout(self.timeout, well).await;
            result.unwrap_or_else(|_| {
                let error = late(self.timeout, &topic);
                Err(match last {
                    Some(HealthStatus {
                        event, error: reason, ..
                    }) => {
                        let said = reason.or(event).unwrap_or_else(|| "no reason".to_owned());
                        error.while_doing(format_args!("the peer says it is not well: {said}"))
                    }
                    None => error.while_doing("nothing is known of the peer: is it running, with its health on?"),
                })
            })
        })
    }
}

fn late(timeout: Duration, topic: &TopicName) -> Error {
    Error::new(ErrorKind::Timeout, format!("waited {timeout:?} for {topic}"))
}
