//! A hook that sees what is published, and what became of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tars_contracts::TopicName;
use tars_ports::{Error, Message, Publisher, QoS, Receipt, TryPublishError};
use tokio::time::Instant;

use crate::Layer;
use crate::receipt::{peek, settled};
use crate::tasks::{Guard, Tasks};

/// What became of one message, as an [`Observe`] hook sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Published<'a> {
    /// Where to.
    pub topic: &'a TopicName,
    /// Its quality of service.
    pub qos: QoS,
    /// Whether the broker was to keep it.
    pub retain: bool,
    /// Bytes of the payload.
    pub bytes: usize,
    /// From being taken over until it settled; zero if it was not taken over.
    pub elapsed: Duration,
    /// How it ended; the error says whether it may have arrived.
    pub result: Result<(), &'a Error>,
}

type Hook = Arc<dyn Fn(&Published<'_>) + Send + Sync>;

/// A layer that calls a hook once for each message: when it has settled, whether or not
/// anybody waits for its receipt, or when it was refused. `Full` is no end, so it is not seen.
///
/// The hook must neither block nor panic: it runs where the message is published (QoS 0, refused) or in
/// a task of the layer. It changes nothing: order, bounds and receipts are those of what is
/// wrapped.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use tars_layers::{LayerExt, Observe};
/// # use tars_ports::{Message, PublisherExt, Receipt, mock::MockPublisher};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tars_ports::Error> {
/// # let mut client = MockPublisher::new();
/// # client.expect_try_publish().returning(|_| Ok(Receipt::settled()));
/// let bytes = Arc::new(AtomicUsize::new(0));
/// let sum = bytes.clone();
/// let publisher = client.layer(Observe::new(move |published| {
///     if published.result.is_ok() {
///         sum.fetch_add(published.bytes, Ordering::Relaxed);
///     }
/// }));
/// publisher.publish(Message::new("led/on".try_into()?, "1")).await?.await?;
/// assert_eq!(bytes.load(Ordering::Relaxed), 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put around a publisher"]
pub struct Observe(Hook);

impl Observe {
    /// With this hook.
    pub fn new(hook: impl Fn(&Published<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }
}

impl<P: Publisher> Layer<P> for Observe {
    type Layered = ObservedPublisher<P>;

    /// # Panics
    /// Outside a tokio runtime: it waits for receipts in the current one.
    fn layer(self, inner: P) -> ObservedPublisher<P> {
        let (tasks, guard) = Tasks::new(Duration::MAX);
        ObservedPublisher {
            inner,
            hook: self.0,
            tasks,
            _guard: guard,
        }
    }
}

/// A publisher inside an [`Observe`] layer.
///
/// Dropped without [`shutdown`](Self::shutdown), what was taken over is still seen to its end.
#[derive(Clone)]
pub struct ObservedPublisher<P> {
    inner: P,
    hook: Hook,
    tasks: Tasks,
    _guard: Guard,
}

impl<P> ObservedPublisher<P> {
    /// What it wraps.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    /// Takes nothing in any more, and resolves when every receipt has settled and was
    /// seen. What it wraps decides how long that takes, and stays open.
    ///
    /// May be called again. Dropped before it resolves, it goes on by itself.
    pub async fn shutdown(&self) {
        self.tasks.shutdown().await;
    }
}

#[async_trait]
impl<P: Publisher> Publisher for ObservedPublisher<P> {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        let _entered = self.tasks.enter().map_err(TryPublishError::Failed)?;
        let seen = Seen {
            topic: message.topic.clone(),
            qos: message.qos,
            retain: message.retain,
            bytes: message.payload.len(),
            began: Instant::now(),
        };
        let receipt = match self.inner.try_publish(message) {
            Ok(receipt) => receipt,
            Err(TryPublishError::Failed(error)) => {
                seen.tell(&self.hook, Err(&error));
                return Err(TryPublishError::Failed(error));
            }
            Err(full) => return Err(full),
        };
        match peek(receipt) {
            Ok(result) => {
                seen.tell(&self.hook, result.as_ref().map(|_| ()));
                Ok(settled(result))
            }
            Err(pending) => {
                let (settler, receipt) = Receipt::pair();
                let hook = self.hook.clone();
                self.tasks.spawn(async move {
                    let result = pending.await;
                    seen.tell(&hook, result.as_ref().map(|_| ()));
                    settler.settle(result);
                });
                Ok(receipt)
            }
        }
    }

    async fn ready(&self, qos: QoS) -> Result<(), Error> {
        drop(self.tasks.enter()?);
        self.inner.ready(qos).await
    }
}

/// What is known of a message before its end.
struct Seen {
    topic: TopicName,
    qos: QoS,
    retain: bool,
    bytes: usize,
    began: Instant,
}

impl Seen {
    fn tell(&self, hook: &Hook, result: Result<(), &Error>) {
        hook(&Published {
            topic: &self.topic,
            qos: self.qos,
            retain: self.retain,
            bytes: self.bytes,
            elapsed: self.began.elapsed(),
            result,
        });
    }
}

impl fmt::Debug for Observe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observe").finish_non_exhaustive()
    }
}

impl<P: fmt::Debug> fmt::Debug for ObservedPublisher<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedPublisher")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
