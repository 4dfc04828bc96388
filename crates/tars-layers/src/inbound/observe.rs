//! A hook that sees what arrives, and how long until it was acknowledged.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use tars_contracts::{TopicFilter, TopicName};
use tars_ports::{
    AckOutcome, AckToken, Activity, Capabilities, ConnectOptions, Connected, Connection, Connector, Delivery, Error,
    Incoming, Message, Publisher, QoS, Receipt, Refused, SessionState, Subscriber, TryPublishError,
};
use tokio::time::Instant;

use crate::Layer;

/// One message that arrived, as an [`ObserveInbound`] hook sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received<'a> {
    /// The topic it was published to.
    pub topic: &'a TopicName,
    /// The QoS of the delivery.
    pub qos: QoS,
    /// Sent because it was retained.
    pub retain: bool,
    /// The broker sent it before, as far as it knows.
    pub dup: bool,
    /// Bytes of the payload.
    pub bytes: usize,
    /// From arrival until the client acknowledged it, which is after its handlers. `None`
    /// where nothing is acknowledged (QoS 0), and where the connection ended first.
    pub acknowledged: Option<Duration>,
}

type Hook = Arc<dyn Fn(&Received<'_>) + Send + Sync>;

/// A layer that calls a hook once for each message that arrived: at once where nothing is
/// to be acknowledged, else when it was acknowledged or the connection ended.
///
/// The hook must not block: it runs where the connection is read or a handler ended. What
/// it keeps is bounded by the client's inbound budget.
///
/// ```
/// use tars_layers::{LayerExt, ObserveInbound};
/// use tars_testkit::memory::MemoryBroker;
///
/// let connector = MemoryBroker::new().connector().layer(ObserveInbound::new(|received| {
///     println!("{}: {} bytes, {:?}", received.topic, received.bytes, received.acknowledged);
/// }));
/// // Client::builder(config).connector(connector)
/// # let _ = connector;
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put around a connector"]
pub struct ObserveInbound(Hook);

impl ObserveInbound {
    /// With this hook.
    pub fn new(hook: impl Fn(&Received<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }
}

impl<C: Connector> Layer<C> for ObserveInbound {
    type Layered = ObservedConnector<C>;

    fn layer(self, inner: C) -> ObservedConnector<C> {
        ObservedConnector { hook: self.0, inner }
    }
}

/// A connector inside an [`ObserveInbound`] layer.
#[derive(Clone)]
pub struct ObservedConnector<C> {
    hook: Hook,
    inner: C,
}

#[async_trait]
impl<C: Connector> Connector for ObservedConnector<C> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn connect(&self, options: &ConnectOptions, session: SessionState) -> Result<Connected, Error> {
        let mut connected = self.inner.connect(options, session).await?;
        let open = Arc::new(Open {
            hook: self.hook.clone(),
            waiting: Mutex::default(),
        });
        connected.connection = Arc::new(ObservedConnection {
            inner: connected.connection,
            open: open.clone(),
        });
        connected.inbound = Box::pin(connected.inbound.inspect(move |incoming| match incoming {
            Incoming::Delivery(delivery) => open.arrived(delivery),
            _ => open.end(),
        }));
        Ok(connected)
    }
}

/// What arrived and is not acknowledged.
struct Open {
    hook: Hook,
    waiting: Mutex<HashMap<AckToken, Arrival>>,
}

impl Open {
    fn arrived(&self, delivery: &Delivery) {
        let arrival = Arrival::of(delivery);
        match delivery.token {
            Some(token) => drop(self.lock().insert(token, arrival)),
            None => arrival.tell(&self.hook, None),
        }
    }

    fn acknowledged(&self, token: AckToken) {
        let arrival = self.lock().remove(&token);
        if let Some(arrival) = arrival {
            arrival.tell(&self.hook, Some(arrival.at.elapsed()));
        }
    }

    fn end(&self) {
        let left = std::mem::take(&mut *self.lock());
        left.into_values().for_each(|arrival| arrival.tell(&self.hook, None));
    }

    /// No hook runs under the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<AckToken, Arrival>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // A stream that was dropped before its end.
        self.end();
    }
}

/// A delivery without its payload.
struct Arrival {
    at: Instant,
    topic: TopicName,
    qos: QoS,
    retain: bool,
    dup: bool,
    bytes: usize,
}

impl Arrival {
    fn of(delivery: &Delivery) -> Self {
        Self {
            at: Instant::now(),
            topic: delivery.topic.clone(),
            qos: delivery.qos,
            retain: delivery.retain,
            dup: delivery.dup,
            bytes: delivery.payload.len(),
        }
    }

    fn tell(&self, hook: &Hook, acknowledged: Option<Duration>) {
        hook(&Received {
            topic: &self.topic,
            qos: self.qos,
            retain: self.retain,
            dup: self.dup,
            bytes: self.bytes,
            acknowledged,
        });
    }
}

struct ObservedConnection {
    inner: Arc<dyn Connection>,
    open: Arc<Open>,
}

#[async_trait]
impl Publisher for ObservedConnection {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        self.inner.try_publish(message)
    }

    async fn ready(&self, qos: QoS) -> Result<(), Error> {
        self.inner.ready(qos).await
    }
}

#[async_trait]
impl Subscriber for ObservedConnection {
    async fn subscribe(&self, filters: &[(TopicFilter, QoS)]) -> Result<Vec<Result<QoS, Refused>>, Error> {
        self.inner.subscribe(filters).await
    }

    async fn unsubscribe(&self, filters: &[TopicFilter]) -> Result<(), Error> {
        self.inner.unsubscribe(filters).await
    }
}

#[async_trait]
impl Connection for ObservedConnection {
    fn ack(&self, token: AckToken, outcome: AckOutcome) {
        self.inner.ack(token, outcome);
        self.open.acknowledged(token);
    }

    fn activity(&self) -> Activity {
        self.inner.activity()
    }

    async fn disconnect(&self) -> Result<(), Error> {
        self.inner.disconnect().await
    }

    fn close(&self) {
        self.inner.close();
    }
}

impl fmt::Debug for ObserveInbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObserveInbound").finish_non_exhaustive()
    }
}

impl<C: fmt::Debug> fmt::Debug for ObservedConnector<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedConnector")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
