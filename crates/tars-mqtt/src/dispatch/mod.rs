//! From the connection to the handlers.
//!
//! The session hands every delivery in, without ever waiting: a trie finds the
//! subscriptions it reaches, each of which has a bounded queue and workers of its
//! own. A slow handler delays no other subscription.

mod copies;
pub(crate) mod dedupe;
mod queue;
mod received;
mod taken;
pub(crate) mod trie;
mod work;
mod worker;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tars_contracts::{TopicFilter, TopicName};
use tars_ports::{AckOutcome, Connection, Delivery, QoS};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Span;

pub(crate) use self::dedupe::Key;
pub use self::queue::Overflow;
pub(crate) use self::received::Received;
pub(crate) use self::taken::Complaint;
pub use self::taken::Unfinished;
pub(crate) use self::work::Work;

use self::copies::Copies;
use self::dedupe::Dedupe;
use self::queue::{Pushed, Queue};
use self::trie::Trie;
use self::work::Job;
use crate::burst::Burst;
use crate::client::WeakClient;
use crate::config::Config;
use crate::metrics::{Gauge, SubscriptionMetrics, names};
use crate::shared::Shared;
use crate::spans;
use crate::stats::{count, count_for};
use crate::subscribe::{Acknowledge, RouteOptions, Target};

/// How long a handler that is cut off may take to its next await.
const CUT_OFF: Duration = Duration::from_secs(1);

/// Tells apart the routes that stand side by side under one filter. A filter has one
/// route in each slot: the next in the same slot replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Slot {
    /// What `subscribe` was given.
    #[default]
    User,
    /// A handler for events of this type.
    Event(Cow<'static, str>),
    /// The client's own. The user's `unsubscribe` leaves it alone.
    Own(u64),
}

impl Slot {
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }
}

/// One subscription as the dispatch sees it.
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) filter: TopicFilter,
    pub(crate) slot: Slot,
    pub(crate) options: RouteOptions,
    target: Target,
    queue: Queue,
    /// Messages that its handler cannot take.
    invalid: Burst,
    /// Runs of its handler that failed.
    failed: Burst,
    metrics: SubscriptionMetrics,
    /// If it is on.
    dedupe: Option<Dedupe<Job>>,
}

impl Entry {
    pub(crate) fn new(
        id: u64,
        filter: TopicFilter,
        slot: Slot,
        target: Target,
        options: RouteOptions,
        config: &Config,
    ) -> Self {
        let ttl = config.dedupe_ttl;
        let labels = [("client_id", config.client_id.as_str()), ("filter", filter.as_str())];
        let depth = Gauge::new(&names::QUEUE_DEPTH, &labels);
        Self {
            metrics: SubscriptionMetrics::new(&config.client_id, filter.as_str()),
            id,
            filter,
            slot,
            queue: Queue::new(options.queue, config.inbound_bytes, options.overflow, depth),
            dedupe: (!ttl.is_zero()).then(|| Dedupe::new(ttl, config.dedupe_max_entries)),
            options,
            target,
            invalid: Burst::default(),
            failed: Burst::default(),
        }
    }

    fn takes_replies(&self) -> bool {
        matches!(self.target, Target::Replies)
    }

    fn acknowledges_after_success(&self) -> bool {
        self.options.acknowledge != Some(Acknowledge::OnReceipt) && !self.takes_replies()
    }

    /// Removes what has not been started and `unwanted` says, and returns how many.
    fn discard(&self, mut unwanted: impl FnMut(&Received) -> bool) -> usize {
        let queued = self.queue.discard(&mut unwanted);
        let joined = |dedupe: &Dedupe<Job>| dedupe.discard(|job| unwanted(job));
        queued + self.dedupe.as_ref().map_or(0, joined)
    }
}

/// All subscriptions of a client and the tasks that work for them.
pub(crate) struct Dispatch {
    trie: Trie<Arc<Entry>>,
    /// Those of one filter side by side, each in a slot of its own. In order,
    /// so that a run repeats exactly.
    entries: BTreeMap<TopicFilter, Vec<Arc<Entry>>>,
    /// What the current delivery reaches; kept, so that no delivery allocates it anew.
    reached: Vec<Arc<Entry>>,
    copies: Copies,
    workers: JoinSet<()>,
    running: bool,
    work: Arc<Work>,
    shared: Arc<Shared>,
    client: WeakClient,
}

impl Dispatch {
    pub(crate) fn new(shared: Arc<Shared>, client: WeakClient) -> Self {
        Self {
            trie: Trie::default(),
            entries: BTreeMap::new(),
            reached: Vec::new(),
            copies: Copies::default(),
            workers: JoinSet::new(),
            running: false,
            work: shared.work.clone(),
            shared,
            client,
        }
    }

    /// Adds a subscription; the one in the same slot of the filter, if any, is handed
    /// back. It takes in nothing more but finishes what it has, unless it is restored.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let old = self.entry(&entry.filter, &entry.slot).cloned();
        if let Some(old) = &old {
            self.remove(old);
        }
        if self.running {
            self.spawn_workers(&entry);
        } else {
            // One that comes back may have had some when all were ended.
            entry.queue.abandoned();
        }
        let side_by_side = self.entries.entry(entry.filter.clone()).or_default();
        side_by_side.push(entry.clone());
        self.trie.insert(&entry.filter.clone(), entry);
        old
    }

    /// Removes a subscription; it finishes what it has.
    pub(crate) fn remove(&mut self, entry: &Entry) {
        if let Some(side_by_side) = self.entries.get_mut(&entry.filter) {
            side_by_side.retain(|other| other.id != entry.id);
            if side_by_side.is_empty() {
                self.entries.remove(&entry.filter);
            }
        }
        self.trie.remove(&entry.filter, |other| other.id == entry.id);
        entry.queue.close();
    }

    /// Puts one back that [`insert`](Self::insert) replaced.
    pub(crate) fn restore(&mut self, entry: Arc<Entry>) {
        self.insert(entry);
    }

    pub(crate) fn entry(&self, filter: &TopicFilter, slot: &Slot) -> Option<&Arc<Entry>> {
        self.under(filter).find(|entry| entry.slot == *slot)
    }

    /// All subscriptions with exactly this filter.
    pub(crate) fn under(&self, filter: &TopicFilter) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.get(filter).into_iter().flatten()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values().flatten()
    }

    /// A delivery on its way to the handlers. `own` is a topic of the client's own,
    /// which reaches nobody and surprises nobody.
    pub(crate) fn deliver(&mut self, delivery: Delivery, connection: &Arc<dyn Connection>, own: Option<&TopicName>) {
        count(&self.shared.stats.received);
        let mut reached = std::mem::take(&mut self.reached);
        self.trie
            .for_each_match(&delivery.topic, |entry| reached.push(entry.clone()));
        self.hand_over(&reached, delivery, connection, own);
        reached.clear();
        self.reached = reached;
    }

    /// A delivery that came while the client is ending: nothing new is started, but
    /// what runs may wait for a reply.
    pub(crate) fn deliver_reply(&self, delivery: Delivery, connection: &dyn Connection) {
        let (mut replies, mut others) = (false, false);
        self.trie.for_each_match(&delivery.topic, |entry| match entry.target {
            Target::Replies => replies = true,
            Target::Handler(_) | Target::Responder(_) => others = true,
        });
        if replies {
            self.shared.offer_reply(&delivery);
        }
        if let Some(token) = delivery.token
            && replies
            && !others
        {
            connection.ack(token, AckOutcome::Done);
        }
    }

    fn hand_over(
        &mut self,
        reached: &[Arc<Entry>],
        delivery: Delivery,
        connection: &Arc<dyn Connection>,
        own: Option<&TopicName>,
    ) {
        // What is under one filter lies together in the trie; the broker knows filters only.
        let filters = reached.chunk_by(|one, next| one.filter == next.filter).count();
        let overlapping = filters > 1;
        if overlapping && self.copies.absorb(&delivery, connection.as_ref(), Instant::now()) {
            count(&self.shared.stats.copies);
            return;
        }
        if reached.is_empty() && own != Some(&delivery.topic) {
            count(&self.shared.stats.unrouted);
            if let Some(unsaid) = self.shared.unrouted.say() {
                tracing::warn!(
                    topic = %delivery.topic, qos = %delivery.qos, unsaid,
                    "a message without a subscription was skipped",
                );
            }
        }
        let held = (delivery.qos != QoS::AtMostOnce && !reached.is_empty())
            .then(|| self.work.hold(delivery.topic.clone(), delivery.payload.len()));
        // Own heartbeats are nobody's message.
        let span = if own == Some(&delivery.topic) {
            Span::none()
        } else {
            spans::receive(&delivery)
        };
        tracing::debug!(parent: &span, subscriptions = reached.len(), "received");
        let received = Arc::new(Received::new(delivery, connection.clone(), held, span));
        if overlapping {
            self.copies.note(&received, filters);
        }
        // All of them first: a fast worker must not find itself the last one.
        let after_success = reached
            .iter()
            .filter(|entry| entry.acknowledges_after_success())
            .count();
        (0..after_success).for_each(|_| received.open());
        if after_success == 0 {
            received.acknowledge();
        }
        if reached.iter().any(|entry| entry.takes_replies()) {
            self.shared.offer_reply(&received.delivery);
        }
        for entry in reached.iter().filter(|entry| !entry.takes_replies()) {
            match entry.queue.push(Job::new(received.clone(), &entry.filter, &self.work)) {
                Pushed::Queued => {}
                Pushed::Dropped { first } => {
                    count_for(&entry.metrics.dropped, &self.shared.stats.dropped);
                    if first {
                        tracing::warn!(
                            filter = %entry.filter, queue = entry.options.queue,
                            "QoS 0 messages are dropped: the handler is slower than they come",
                        );
                    }
                }
                Pushed::Closed => {
                    if entry.acknowledges_after_success() {
                        received.finish();
                    }
                }
            }
        }
    }

    /// A connection begins: copies never span two of them. With the session kept, the
    /// broker sends again what it has no acknowledgement for, so what waits here of
    /// the old connection is left to come again.
    pub(crate) fn connection_began(&mut self, session_present: bool) {
        self.copies = Copies::default();
        if session_present {
            let discarded: usize = self
                .entries()
                .map(|entry| entry.discard(Received::is_unacknowledged))
                .sum();
            if discarded > 0 {
                tracing::debug!(discarded, "unstarted deliveries were left to be delivered again");
            }
        }
    }

    /// Starts the workers of all subscriptions.
    pub(crate) fn start(&mut self) {
        self.running = true;
        let entries: Vec<_> = self.entries().cloned().collect();
        for entry in &entries {
            self.spawn_workers(entry);
        }
    }

    /// Starts nothing new but what `keep` says, of what is queued. Returns how many were left.
    pub(crate) fn wind_down(&mut self, keep: impl Fn(&Received) -> bool) -> usize {
        let mut left = 0;
        for entry in self.entries() {
            entry.queue.close();
            left += entry.discard(|received| !keep(received));
        }
        left
    }

    /// Ends the workers and joins them, running handlers included. Returns how many
    /// jobs that cut off. Only a handler that blocks its thread cannot be ended: that one
    /// is left behind, and ends with its next await.
    pub(crate) async fn stop(&mut self) -> usize {
        self.running = false;
        let cut_off = self.work.jobs();
        for entry in self.entries() {
            entry.queue.close();
            entry.discard(|_| true);
        }
        self.workers.abort_all();
        let joined = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(CUT_OFF, joined).await.is_err() {
            let (client_id, handlers) = (&self.shared.config.client_id, self.workers.len());
            tracing::error!(%client_id, handlers, "handlers that block their threads cannot be cut off and are left behind");
        }
        self.entries().for_each(|entry| entry.queue.abandoned());
        cut_off
    }

    /// Jobs that are queued or running, and a signal for when they become none.
    pub(crate) fn work(&self) -> &Arc<Work> {
        &self.work
    }

    fn spawn_workers(&mut self, entry: &Arc<Entry>) {
        if entry.takes_replies() {
            return;
        }
        // Workers of subscriptions that have ended are joined as we go.
        while self.workers.try_join_next().is_some() {}
        for _ in 0..entry.queue.open(entry.options.concurrency) {
            self.workers
                .spawn(worker::work(entry.clone(), self.shared.clone(), self.client.clone()));
        }
    }
}
