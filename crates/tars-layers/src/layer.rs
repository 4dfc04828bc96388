//! What a layer is: a value that wraps something into something of the same kind.

/// A layer: wraps a [`Publisher`](tars_ports::Publisher) into a publisher, or a
/// [`Connector`](tars_ports::Connector) into a connector.
///
/// Your own is a few lines: a type that implements the port by handing on to the one it
/// wraps, and this trait to put it around.
///
/// ```
/// use tars_layers::{Layer, LayerExt};
/// use tars_ports::{Error, Message, Publisher, QoS, Receipt, TryPublishError, mock::MockPublisher};
///
/// /// Puts every topic under one prefix.
/// struct Prefix(&'static str);
///
/// struct Prefixed<P> {
///     prefix: &'static str,
///     inner: P,
/// }
///
/// impl<P: Publisher> Layer<P> for Prefix {
///     type Layered = Prefixed<P>;
///     fn layer(self, inner: P) -> Prefixed<P> {
///         Prefixed { prefix: self.0, inner }
///     }
/// }
///
/// # use async_trait::async_trait;
/// #[async_trait]
/// impl<P: Publisher> Publisher for Prefixed<P> {
///     fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
///         let topic = format!("{}/{}", self.prefix, message.topic);
///         let mut prefixed = message.clone();
///         prefixed.topic = topic.try_into().map_err(|error: tars_contracts::TopicError| TryPublishError::Failed(error.into()))?;
///         // `Full` gives back what came in: the caller offers it again.
///         self.inner.try_publish(prefixed).map_err(|error| match error {
///             TryPublishError::Full(_) => TryPublishError::Full(message),
///             other => other,
///         })
///     }
///
///     async fn ready(&self, qos: QoS) -> Result<(), Error> {
///         self.inner.ready(qos).await
///     }
/// }
///
/// let mut publisher = MockPublisher::new();
/// publisher.expect_try_publish().withf(|message| message.topic.as_str() == "lab/a").returning(|_| Ok(Receipt::settled()));
/// let publisher = publisher.layer(Prefix("lab"));
/// publisher.try_publish(Message::new("a".parse().unwrap(), "hi")).unwrap();
/// ```
pub trait Layer<Inner> {
    /// What comes out.
    type Layered;

    /// Wraps `inner`.
    fn layer(self, inner: Inner) -> Self::Layered;
}

/// `inner.layer(…)`: each further layer goes around all before it.
pub trait LayerExt: Sized {
    /// Wraps this in `layer`.
    fn layer<L: Layer<Self>>(self, layer: L) -> L::Layered {
        layer.layer(self)
    }
}

impl<T> LayerExt for T {}
