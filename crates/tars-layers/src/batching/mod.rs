//! Gathering items per topic into batches.

mod item;
mod lanes;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;
use tars_contracts::{ContractError, TopicFilter, TopicName};
use tars_ports::{Error, ErrorKind, Fate, Message, Publisher, QoS, Receipt, Settled, TryPublishError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use self::lanes::{Due, Item, Key, Lanes, Limits, Target};
use crate::Layer;
use crate::delivery::deliver;
use crate::retry::{Policy, Retry};
use crate::tasks::{Guard, Tasks};

/// A layer that gathers items and publishes them together: to `{topic}/batch`, an envelope of
/// type `{topic.with.dots}.batch` with data `{"items":[…],"count":n}`.
///
/// - **Item**: an envelope adds its `data`, any other JSON itself; what is no JSON is refused.
/// - **When**: a batch leaves when it has [`items`](Self::items) or
///   [`max_bytes`](Self::max_bytes), when its oldest item has waited for the
///   [`interval`](Self::interval), at [`flush`](BatchPublisher::flush) and at
///   [`shutdown`](BatchPublisher::shutdown). While one batch of a topic is under way the
///   next one gathers.
/// - **Receipts** of items settle as their batch does.
/// - **Failure**: a batch that failed for a while is kept and sent again, by default for as
///   long as it takes ([`retry`](Self::retry)): at QoS 0 if it was certainly not sent, at
///   QoS 1 in any case. Other failures are the error of each of its receipts, counted and
///   logged.
/// - **Bound**: at most [`pending`](Self::pending) items are unsettled, kept batches included.
///   At the bound `try_publish` says `Full`, and `publish` and `add` wait: nothing grows, and
///   nothing is dropped.
/// - **Order** is kept for each topic and QoS, not between topics.
///
/// ```
/// use serde_json::json;
/// use std::time::Duration;
/// use tars_layers::{Batching, LayerExt};
/// # use tars_ports::{Message, Receipt, mock::MockPublisher};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tars_ports::Error> {
/// # let mut client = MockPublisher::new();
/// # client.expect_try_publish()
/// #     .withf(|message: &Message| message.topic.as_str() == "sensors/temperature/batch")
/// #     .times(1).returning(|_| Ok(Receipt::settled()));
/// let batches = client.layer(Batching::new("sensor-service").items(50).interval(Duration::from_secs(2)));
/// for reading in [20.5, 21.0] {
///     // The receipt is for those who want to know; the item goes out without it as well.
///     let _ = batches.add("sensors/temperature", &json!({"celsius": reading})).await?;
/// }
/// batches.shutdown().await; // sends what is left
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a layer does nothing until it is put around a publisher"]
pub struct Batching {
    source: Arc<str>,
    limits: Limits,
    qos: QoS,
    only: Option<TopicFilter>,
    retry: Retry,
    shutdown_timeout: Duration,
}

impl Batching {
    /// Batches of 10 items or 128 KiB, at the latest after 1 s; 10,000 pending items of 16 MiB
    /// in all; 5 s for the shutdown. `source` stands in the envelopes; with a client it is
    /// `MQTT_SOURCE_NAME`.
    pub fn new(source: impl Into<Arc<str>>) -> Self {
        Self {
            source: source.into(),
            limits: Limits {
                items: 10,
                bytes: 128 * 1024,
                interval: Duration::from_secs(1),
                pending: 10_000,
                pending_bytes: 16 * 1024 * 1024,
            },
            qos: QoS::AtMostOnce,
            only: None,
            retry: Retry::new().attempts(u32::MAX),
            shutdown_timeout: Duration::from_secs(5),
        }
    }

    /// How many items a batch has at most. At least 1.
    pub fn items(mut self, items: usize) -> Self {
        self.limits.items = items.max(1);
        self
    }

    /// How large the packet of a batch may be, in bytes; not above `MQTT_MAX_PACKET_SIZE`. An
    /// item that does not fit by itself is refused as
    /// [`TooLarge`](tars_ports::ErrorKind::TooLarge).
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// How long an item waits for others.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.limits.interval = interval;
        self
    }

    /// How many items, and how many bytes of them, may be unsettled: gathered, under way or
    /// kept for another attempt. The item that reaches the bytes is still taken.
    pub fn pending(mut self, items: usize, bytes: usize) -> Self {
        self.limits.pending = items.max(1);
        self.limits.pending_bytes = bytes.max(1);
        self
    }

    /// The QoS of what [`BatchPublisher::add`] gathers. Default [`QoS::AtMostOnce`]. Messages
    /// that are published keep their own, and are gathered by it.
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Gathers topics that match this filter, and hands on all others as they are.
    pub fn only(mut self, topics: TopicFilter) -> Self {
        self.only = Some(topics);
        self
    }

    /// How often, and with which delays, a batch is sent that failed for a while. Default: any
    /// number of attempts, 0.5 s to 5 s apart. After the last one its items fail. Attempts,
    /// backoff and seed are looked at; the bound and the shutdown are the batching's own.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How long a shutdown waits for batches to settle; what is left then fails.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }
}

impl<P: Publisher + 'static> Layer<P> for Batching {
    type Layered = BatchPublisher<P>;

    /// # Panics
    /// Outside a tokio runtime: batches are sent in the current one.
    fn layer(self, inner: P) -> BatchPublisher<P> {
        let (tasks, guard) = Tasks::new(self.shutdown_timeout);
        let shared = Arc::new(Shared {
            inner,
            source: self.source,
            limits: self.limits,
            qos: self.qos,
            only: self.only,
            policy: self.retry.policy(),
            tasks,
            state: Mutex::default(),
            progress: Notify::new(),
        });
        BatchPublisher { shared, _guard: guard }
    }
}

/// A publisher inside a [`Batching`] layer. Clones are handles to the same one.
///
/// Dropped without [`shutdown`](Self::shutdown), what was gathered is still sent, in the
/// background and within the shutdown's timeout, as long as the runtime lives.
pub struct BatchPublisher<P> {
    shared: Arc<Shared<P>>,
    _guard: Guard,
}

/// What a batching layer did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BatchStats {
    /// Items gathered and not settled.
    pub pending: usize,
    /// Batches that arrived where their QoS promises.
    pub batches: u64,
    /// Items in them.
    pub items: u64,
    /// Items whose batch failed for good.
    pub failed: u64,
}

#[derive(Default)]
struct State {
    lanes: Lanes,
    stats: BatchStats,
}

struct Shared<P> {
    inner: P,
    source: Arc<str>,
    limits: Limits,
    qos: QoS,
    only: Option<TopicFilter>,
    policy: Policy,
    tasks: Tasks,
    state: Mutex<State>,
    /// A batch has settled.
    progress: Notify,
}

impl<P> BatchPublisher<P> {
    /// What it wraps: publishing there goes past the batches.
    pub fn inner(&self) -> &P {
        &self.shared.inner
    }

    /// A snapshot of its counters.
    #[must_use]
    pub fn stats(&self) -> BatchStats {
        let state = self.shared.lock();
        BatchStats {
            pending: state.lanes.pending,
            ..state.stats
        }
    }

    /// Sends what was gathered so far without waiting for more, and resolves when all of it
    /// has settled; how, the receipts say. With a broker that is away that takes as long as
    /// the retries do.
    ///
    /// Dropped before it resolves, the batches go out all the same.
    pub async fn flush(&self) {
        let number = self.shared.lock().lanes.flush();
        self.shared.until(|lanes| lanes.settled_before(number)).await;
    }

    /// Takes nothing in any more, sends what was gathered, and resolves when every receipt
    /// has settled and no task is left, at most after the
    /// [`shutdown_timeout`](Batching::shutdown_timeout). Call it before the client's own.
    ///
    /// May be called again. Dropped before it resolves, it goes on by itself.
    pub async fn shutdown(&self) {
        self.shared.tasks.shutdown().await;
    }
}

impl<P: Publisher + 'static> BatchPublisher<P> {
    /// Adds one item, waiting while there is no room; the receipt settles with its batch.
    ///
    /// Cancel-safe: dropped before it resolves, the item was not added.
    ///
    /// # Errors
    /// [`InvalidTopic`](tars_ports::ErrorKind::InvalidTopic),
    /// [`InvalidPayload`](tars_ports::ErrorKind::InvalidPayload) for what does not serialise,
    /// [`TooLarge`](tars_ports::ErrorKind::TooLarge),
    /// [`Closed`](tars_ports::ErrorKind::Closed).
    pub fn add<T>(
        &self,
        topic: T,
        item: &(impl Serialize + ?Sized),
    ) -> impl Future<Output = Result<Receipt, Error>> + Send
    where
        T: TryInto<TopicName, Error: Into<Error>>,
    {
        let topic = topic.try_into().map_err(Into::into);
        let item = serde_json::value::to_raw_value(item).map_err(|error| Error::from(ContractError::Serialize(error)));
        async move {
            let (key, mut item) = (Key::of(topic?, self.shared.qos, false), item?);
            loop {
                match self.shared.gather(&key, item) {
                    Ok(receipt) => return Ok(receipt),
                    Err(Refused::Failed(error)) => return Err(error),
                    Err(Refused::Full(back)) => item = back,
                }
                self.shared.until(|lanes| lanes.has_room(&self.shared.limits)).await;
            }
        }
    }
}

#[async_trait]
impl<P: Publisher + 'static> Publisher for BatchPublisher<P> {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        let shared = &self.shared;
        if shared.only.as_ref().is_some_and(|only| !only.matches(&message.topic)) {
            let _entered = shared.tasks.enter().map_err(TryPublishError::Failed)?;
            return shared.inner.try_publish(message);
        }
        let item = item::item(&message.payload).map_err(|error| {
            let error = error.while_doing(format_args!("publishing to {}", message.topic));
            TryPublishError::Failed(error.with_fate(Fate::NotSent))
        })?;
        let key = Key::of(message.topic.clone(), message.qos, message.retain);
        shared.gather(&key, item).map_err(|refused| match refused {
            Refused::Full(_) => TryPublishError::Full(message),
            Refused::Failed(error) => TryPublishError::Failed(error),
        })
    }

    async fn ready(&self, qos: QoS) -> Result<(), Error> {
        let shared = &self.shared;
        drop(shared.tasks.enter()?);
        shared.until(|lanes| lanes.has_room(&shared.limits)).await;
        if shared.only.is_none() {
            return Ok(());
        }
        // For what is handed on. What is gathered does not care for a lost connection.
        match shared.inner.ready(qos).await {
            Err(error) if error.is_transient() => {
                tokio::time::sleep(shared.policy.min).await;
                Ok(())
            }
            result => result,
        }
    }
}

enum Refused {
    Full(Box<RawValue>),
    Failed(Error),
}

impl Key {
    fn of(topic: TopicName, qos: QoS, retain: bool) -> Self {
        Self { topic, qos, retain }
    }
}

impl<P> Shared<P> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a state of the lanes that a settled batch brings.
    async fn until(&self, reached: impl Fn(&Lanes) -> bool) {
        loop {
            // Before the look, so that no settling falls in between.
            let progress = self.progress.notified();
            if reached(&self.lock().lanes) {
                return;
            }
            progress.await;
        }
    }

    fn new_target(&self, topic: &TopicName) -> Result<Arc<Target>, Error> {
        let event_type = format!("{}.batch", topic.as_str().replace('/', "."));
        let topic = TopicName::new(format!("{topic}/batch"))?;
        let overhead = item::overhead(topic.as_str(), &event_type, &self.source)?;
        Ok(Arc::new(Target {
            topic,
            event_type,
            overhead,
        }))
    }

    fn message(&self, target: &Target, key: &Key, items: &[Item]) -> Result<Message, Error> {
        let items: Vec<&RawValue> = items.iter().map(|item| &*item.data).collect();
        let payload = item::payload(&target.event_type, &self.source, &items)?;
        let message = Message::new(target.topic.clone(), payload);
        Ok(message.with_qos(key.qos).with_retain(key.retain))
    }
}

impl<P: Publisher + 'static> Shared<P> {
    fn gather(self: &Arc<Self>, key: &Key, data: Box<RawValue>) -> Result<Receipt, Refused> {
        let _entered = self.tasks.enter().map_err(Refused::Failed)?;
        let known = self.lock().lanes.target(key);
        let failed = |error: Error| Refused::Failed(error.with_fate(Fate::NotSent));
        let target = known.map_or_else(|| self.new_target(&key.topic), Ok).map_err(failed)?;
        let (size, limit) = (target.overhead + Item::size(&data), self.limits.bytes);
        if size > limit {
            let text = format!(
                "an item for {} makes a batch of {size} bytes, at most {limit} fit",
                key.topic
            );
            return Err(failed(Error::new(ErrorKind::TooLarge, text)));
        }
        let mut state = self.lock();
        if !state.lanes.has_room(&self.limits) {
            return Err(Refused::Full(data));
        }
        let (settler, receipt) = Receipt::pair();
        let item = Item { data, settler };
        let new = state
            .lanes
            .push(key, target.clone(), item, Instant::now(), &self.limits);
        drop(state);
        if let Some(wake) = new {
            self.tasks.spawn(self.clone().run(key.clone(), target, wake));
        }
        Ok(receipt)
    }

    /// The task of one lane: one batch after the other, until the lane is empty.
    async fn run(self: Arc<Self>, key: Key, target: Arc<Target>, wake: Arc<Notify>) {
        while self.wait_until_due(&key, &wake).await {
            let items = self.lock().lanes.take(&key, &self.limits);
            let result = self.send(&target, &key, &items).await;
            let mut state = self.lock();
            state.lanes.settled(&key, &items);
            match &result {
                Ok(_) => {
                    state.stats.batches += 1;
                    state.stats.items += items.len() as u64;
                }
                Err(_) => state.stats.failed += items.len() as u64,
            }
            drop(state);
            if let Err(error) = &result {
                tracing::warn!(topic = %target.topic, items = items.len(), %error, "a batch failed");
            }
            for item in items {
                item.settler.settle(result.clone());
            }
            self.progress.notify_waiters();
        }
    }

    /// `false` if there is nothing left to wait for.
    async fn wait_until_due(&self, key: &Key, wake: &Notify) -> bool {
        loop {
            let due = self.lock().lanes.due(key, &self.limits);
            let at = match due {
                None => return false,
                Some(Due::At(at)) if !self.tasks.is_closing() && at > Instant::now() => at,
                Some(_) => return true,
            };
            tokio::select! {
                () = sleep_until(at) => {}
                () = wake.notified() => {}
                () = self.tasks.closing() => {}
            }
        }
    }

    async fn send(&self, target: &Target, key: &Key, items: &[Item]) -> Result<Settled, Error> {
        let message = self.message(target, key, items)?;
        deliver(&self.inner, &message, None, &self.policy, &self.tasks).await
    }
}

impl<P> Clone for BatchPublisher<P> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            _guard: self._guard.clone(),
        }
    }
}

impl<P: fmt::Debug> fmt::Debug for BatchPublisher<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchPublisher")
            .field("inner", &self.shared.inner)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
