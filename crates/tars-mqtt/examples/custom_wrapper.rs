//! Two things of one's own around the client: a wrapper that speaks the words of a domain, and
//! a layer that keeps a rule for every publish.
//!
//! ```sh
//! cargo run -p tars-mqtt --example custom_wrapper
//! ```

mod broker;

use broker::{Broker, soon};
use serde::Deserialize;
use serde_json::json;
use tars_mqtt::layers::{EventPublisher, Events, Layer, LayerExt, Retry, RetryPublisher};
use tars_mqtt::ports::{Publisher, TryPublishError};
use tars_mqtt::{Client, Config, Envelope, Error, ErrorKind, Fate, Message, QoS, Receipt};
use tokio::sync::mpsc;

/// A layer: a service publishes below its own name and nowhere else.
struct Below(&'static str);

impl<P: Publisher> Layer<P> for Below {
    type Layered = BelowPublisher<P>;

    fn layer(self, inner: P) -> BelowPublisher<P> {
        BelowPublisher { name: self.0, inner }
    }
}

struct BelowPublisher<P> {
    name: &'static str,
    inner: P,
}

#[async_trait::async_trait]
impl<P: Publisher> Publisher for BelowPublisher<P> {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        if message.topic.levels().next() == Some(self.name) {
            return self.inner.try_publish(message);
        }
        let text = format!(
            "{} may publish below {}/ only, not to {}",
            self.name, self.name, message.topic
        );
        let error = Error::new(ErrorKind::InvalidTopic, text).with_fate(Fate::NotSent);
        Err(TryPublishError::Failed(error))
    }

    async fn ready(&self, qos: QoS) -> Result<(), Error> {
        self.inner.ready(qos).await
    }
}

/// A wrapper: speech to text, without a topic or an event type at the places that use it.
struct SttClient {
    client: Client,
    events: EventPublisher<BelowPublisher<RetryPublisher<Client>>>,
}

impl SttClient {
    async fn connect(config: Config) -> Result<Self, Error> {
        let source = config.source_name.clone();
        let client = Client::new(config)?;
        client.connect().await?;
        let layered = client.clone().layer(Retry::new()).layer(Below("stt"));
        let events = layered.layer(Events::new(source));
        Ok(Self { client, events })
    }

    /// Resolves when the broker has it.
    async fn publish_final(&self, text: &str, confidence: f64) -> Result<String, Error> {
        let data = json!({"text": text, "confidence": confidence, "is_final": true});
        self.events
            .publish_event("stt/final", "stt.final", &data)
            .qos(QoS::AtLeastOnce)
            .await
    }

    /// Best effort.
    async fn publish_partial(&self, text: &str, confidence: f64) -> Result<String, Error> {
        let data = json!({"text": text, "confidence": confidence, "is_final": false});
        self.events.publish_event("stt/partial", "stt.partial", &data).await
    }

    async fn shutdown(&self) {
        self.events.inner().inner.shutdown().await;
        self.client.shutdown().await;
    }
}

#[derive(Deserialize)]
struct Transcript {
    text: String,
    is_final: bool,
}

#[tokio::main]
async fn main() -> Result<(), broker::Error> {
    let broker = Broker::find().await?;
    let config = |client_id: &str| broker.config(client_id).build();

    let screen = Client::new(config("screen")?)?;
    screen.connect().await?;
    let (shown, mut inbox) = mpsc::channel(8);
    let show = move |transcript: Envelope<Transcript>| {
        let shown = shown.clone();
        async move { shown.send(transcript).await }
    };
    screen.subscribe("stt/+", show).qos(QoS::AtLeastOnce).await?;

    let stt = SttClient::connect(config("stt-worker")?).await?;
    stt.publish_partial("hello", 0.6).await?;
    stt.publish_final("hello world", 0.95).await?;
    let mut texts = Vec::new();
    while texts.len() < 2 {
        let transcript = soon(inbox.recv()).await?.ok_or("the screen is gone")?;
        println!(
            "{} from {}: {}",
            transcript.event_type, transcript.source, transcript.data.text
        );
        texts.push((transcript.data.text, transcript.data.is_final));
    }
    let refused = stt
        .events
        .publish_event("tts/say", "tts.say", &json!({"text": "no"}))
        .await;
    let refused = refused.err().ok_or("the layer let a foreign topic through")?;
    println!("refused: {refused}");

    stt.shutdown().await;
    screen.shutdown().await;
    // MQTT keeps the order of one QoS only, and these are two.
    texts.sort();
    let expected = [("hello".to_owned(), false), ("hello world".to_owned(), true)];
    if texts != expected {
        return Err(format!("{texts:?} arrived").into());
    }
    println!("custom_wrapper: ok");
    Ok(())
}
