//! Passing over messages before anybody handles them.

use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;
use tars_ports::{
    AckOutcome, Capabilities, ConnectOptions, Connected, Connector, Delivery, Error, Incoming, SessionState,
};

use crate::Layer;

type Wanted = Arc<dyn Fn(&Delivery) -> bool + Send + Sync>;

/// A layer that lets through only what is wanted. What is passed over is acknowledged to
/// the broker, so that it does not come again, and counted; it never reaches the client: no
/// handler, no deduplication, no place in a queue.
///
/// The predicate must not block: it runs where the connection is read. It sees everything
/// that arrives, replies and the client's own heartbeats too, so let through what you
/// do not know.
///
/// ```
/// use tars_layers::{FilterInbound, LayerExt};
/// use tars_testkit::memory::MemoryBroker;
///
/// let large = |delivery: &tars_ports::Delivery| delivery.payload.len() > 65_536;
/// let only_small = FilterInbound::new(move |delivery| !large(delivery));
/// let passed_over = only_small.counter();
/// let connector = MemoryBroker::new().connector().layer(only_small);
/// // Client::builder(config).connector(connector)
/// # let _ = connector;
/// assert_eq!(passed_over.get(), 0);
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put around a connector"]
pub struct FilterInbound {
    wanted: Wanted,
    passed_over: Arc<AtomicU64>,
}

/// How many messages a [`FilterInbound`] passed over.
#[derive(Debug, Clone)]
pub struct PassedOver(Arc<AtomicU64>);

impl PassedOver {
    /// Since the filter was made, over all its connections.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl FilterInbound {
    /// Lets through what `wanted` says yes to.
    pub fn new(wanted: impl Fn(&Delivery) -> bool + Send + Sync + 'static) -> Self {
        Self {
            wanted: Arc::new(wanted),
            passed_over: Arc::default(),
        }
    }

    /// Its count, which lives on when the filter has become part of a stack.
    #[must_use]
    pub fn counter(&self) -> PassedOver {
        PassedOver(self.passed_over.clone())
    }
}

impl<C: Connector> Layer<C> for FilterInbound {
    type Layered = FilteredConnector<C>;

    fn layer(self, inner: C) -> FilteredConnector<C> {
        FilteredConnector { filter: self, inner }
    }
}

/// A connector inside a [`FilterInbound`] layer.
#[derive(Clone)]
pub struct FilteredConnector<C> {
    filter: FilterInbound,
    inner: C,
}

#[async_trait]
impl<C: Connector> Connector for FilteredConnector<C> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn connect(&self, options: &ConnectOptions, session: SessionState) -> Result<Connected, Error> {
        let mut connected = self.inner.connect(options, session).await?;
        let FilterInbound { wanted, passed_over } = self.filter.clone();
        // Weak: the stream must not keep the connection open when every handle is gone.
        let connection = Arc::downgrade(&connected.connection);
        connected.inbound = Box::pin(connected.inbound.filter(move |incoming| {
            let Incoming::Delivery(delivery) = incoming else {
                return ready(true);
            };
            let wanted = wanted(delivery);
            if !wanted {
                passed_over.fetch_add(1, Ordering::Relaxed);
                if let (Some(token), Some(connection)) = (delivery.token, connection.upgrade()) {
                    connection.ack(token, AckOutcome::Done);
                }
            }
            ready(wanted)
        }));
        Ok(connected)
    }
}

impl fmt::Debug for FilterInbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterInbound")
            .field("passed_over", &self.passed_over)
            .finish_non_exhaustive()
    }
}

impl<C: fmt::Debug> fmt::Debug for FilteredConnector<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilteredConnector")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
