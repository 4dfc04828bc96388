//! Sending again what failed for a while.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tars_ports::{Error, Message, Publisher, QoS, Receipt, TryPublishError};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::Layer;
use crate::delivery::{deliver, may_retry};
use crate::receipt::{peek, settled};
use crate::tasks::{Guard, Tasks};

/// A layer that sends again what failed with a transient error.
///
/// - **What**: what was certainly not sent, at any QoS; at QoS 1 also what may have arrived,
///   since at least once allows a second copy. A QoS 0 or 2 message of unknown outcome
///   fails: a second one could be a duplicate.
/// - **When**: `min`, doubled up to `max`, each delay drawn from its upper half, so that a
///   fleet does not come back all at once.
/// - **Order**: first attempts leave in order. What is sent again comes after what was sent
///   meanwhile. Where that matters, wait for each receipt.
/// - **Bound**: at most `pending` messages are unsettled; then `try_publish` says `Full`
///   and `publish` waits.
/// - **End**: [`RetryPublisher::shutdown`].
///
/// Around a client it covers what the client itself gives up: QoS 0 while there is no
/// connection, and QoS 1 beyond `MQTT_PUBLISH_TIMEOUT`.
///
/// ```
/// use std::time::Duration;
/// use tars_layers::{LayerExt, Retry};
/// # use tars_ports::{Message, PublisherExt, Receipt, mock::MockPublisher};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tars_ports::Error> {
/// # let mut client = MockPublisher::new();
/// # client.expect_try_publish().returning(|_| Ok(Receipt::settled()));
/// let publisher = client.layer(Retry::new().attempts(3).backoff(Duration::from_millis(100), Duration::from_secs(2)));
/// publisher.publish(Message::new("led/on".try_into()?, "1")).await?.await?;
/// publisher.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a layer does nothing until it is put around a publisher"]
pub struct Retry {
    pub(crate) attempts: u32,
    min: Duration,
    max: Duration,
    pending: usize,
    shutdown_timeout: Duration,
    seed: Option<u64>,
}

impl Retry {
    /// 5 attempts, 0.5 s to 5 s between them, 1,000 pending messages, 5 s for the shutdown.
    pub fn new() -> Self {
        Self {
            attempts: 5,
            min: Duration::from_millis(500),
            max: Duration::from_secs(5),
            pending: 1000,
            shutdown_timeout: Duration::from_secs(5),
            seed: None,
        }
    }

    /// How often a message is sent at most, the first time included. At least 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The nominal delay before the second attempt, at least 1 ms, and the longest one.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.min = min.max(Duration::from_millis(1));
        self.max = max.max(self.min);
        self
    }

    /// How many messages may be unsettled at one time. At least 1.
    pub fn pending(mut self, messages: usize) -> Self {
        self.pending = messages.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How long a shutdown waits for what is unsettled.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Makes the jitter repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    pub(crate) fn policy(&self) -> Policy {
        let random = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Policy {
            attempts: self.attempts,
            min: self.min,
            max: self.max,
            random: Mutex::new(random),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

/// How often and when.
pub(crate) struct Policy {
    pub(crate) attempts: u32,
    pub(crate) min: Duration,
    max: Duration,
    random: Mutex<fastrand::Rng>,
}

impl Policy {
    /// The delay after this attempt, the first being 1.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        let nominal = self.min.saturating_mul(1 << doublings).min(self.max);
        let drawn = self.random.lock().unwrap_or_else(PoisonError::into_inner).f64();
        nominal.mul_f64(0.5 + drawn / 2.0)
    }
}

impl<P: Publisher + 'static> Layer<P> for Retry {
    type Layered = RetryPublisher<P>;

    /// # Panics
    /// Outside a tokio runtime: retries run in the current one.
    fn layer(self, inner: P) -> RetryPublisher<P> {
        let (tasks, guard) = Tasks::new(self.shutdown_timeout);
        RetryPublisher {
            shared: Arc::new(Shared {
                inner,
                policy: self.policy(),
                tasks,
            }),
            room: Arc::new(Semaphore::new(self.pending)),
            _guard: guard,
        }
    }
}

/// A publisher inside a [`Retry`] layer. Clones are handles to the same one.
///
/// Dropped without [`shutdown`](Self::shutdown) it goes on by itself as a shutdown does.
pub struct RetryPublisher<P> {
    shared: Arc<Shared<P>>,
    room: Arc<Semaphore>,
    _guard: Guard,
}

struct Shared<P> {
    inner: P,
    policy: Policy,
    tasks: Tasks,
}

impl<P> RetryPublisher<P> {
    /// What it wraps.
    pub fn inner(&self) -> &P {
        &self.shared.inner
    }

    /// Takes nothing in any more, tries on for as long as
    /// [`shutdown_timeout`](Retry::shutdown_timeout), and resolves when every receipt has
    /// settled and no task is left. What it wraps stays open.
    ///
    /// May be called again. Dropped before it resolves, it goes on by itself.
    pub async fn shutdown(&self) {
        self.shared.tasks.shutdown().await;
    }
}

#[async_trait]
impl<P: Publisher + 'static> Publisher for RetryPublisher<P> {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        let _entered = self.shared.tasks.enter().map_err(TryPublishError::Failed)?;
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            return Err(TryPublishError::Full(message));
        };
        let qos = message.qos;
        let first = match self.shared.inner.try_publish(message.clone()) {
            Ok(receipt) => match peek(receipt) {
                Ok(Err(error)) if may_retry(&error, qos) => Ok(settled(Err(error))),
                Ok(result) => return Ok(settled(result)),
                Err(pending) => Ok(pending),
            },
            Err(TryPublishError::Failed(error)) if error.is_transient() => Err(error),
            Err(refused) => return Err(refused),
        };
        let (settler, receipt) = Receipt::pair();
        let shared = self.shared.clone();
        self.shared.tasks.spawn(async move {
            let result = deliver(&shared.inner, &message, Some(first), &shared.policy, &shared.tasks).await;
            drop(permit);
            settler.settle(result);
        });
        Ok(receipt)
    }

    async fn ready(&self, qos: QoS) -> Result<(), Error> {
        drop(self.shared.tasks.enter()?);
        drop(self.room.acquire().await);
        match self.shared.inner.ready(qos).await {
            // The layer takes it over; the pause keeps a publisher that is full and
            // not ready from being asked in a hot loop.
            Err(error) if error.is_transient() => {
                sleep(self.shared.policy.min).await;
                Ok(())
            }
            result => result,
        }
    }
}

impl<P> Clone for RetryPublisher<P> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            room: self.room.clone(),
            _guard: self._guard.clone(),
        }
    }
}

impl<P: fmt::Debug> fmt::Debug for RetryPublisher<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPublisher")
            .field("inner", &self.shared.inner)
            .finish_non_exhaustive()
    }
}
