//! What is gathered and not yet settled, one lane for each topic, QoS and retain flag.
//! Pure state: the tasks and the clock are elsewhere.
//!
//! Invariants: a lane is in the map as long as it holds items or one of its batches is under
//! way, so the map does not grow with the topics ever used; items leave a lane in the order in
//! which they came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tars_contracts::TopicName;
use tars_ports::{QoS, Settler};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::tasks::FOREVER;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) topic: TopicName,
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

/// When a lane has a batch to send, and how large one may be.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) items: usize,
    pub(super) bytes: usize,
    pub(super) interval: Duration,
    pub(super) pending: usize,
    pub(super) pending_bytes: usize,
}

/// Where a lane's batches go.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) topic: TopicName,
    pub(super) event_type: String,
    /// Bytes of the packet besides the items.
    pub(super) overhead: usize,
}

pub(super) struct Item {
    pub(super) data: Box<RawValue>,
    pub(super) settler: Settler,
}

impl Item {
    /// With its comma.
    pub(super) fn size(data: &RawValue) -> usize {
        data.get().len() + 1
    }
}

struct Lane {
    target: Arc<Target>,
    /// Woken when a batch may be due earlier than thought.
    wake: Arc<Notify>,
    queue: VecDeque<(u64, Instant, Item)>,
    queued_bytes: usize,
    /// The number of the first item under way.
    under_way: Option<u64>,
    /// Items before this number do not wait for more.
    flush_before: u64,
}

impl Lane {
    fn oldest(&self) -> Option<u64> {
        self.under_way
            .or_else(|| self.queue.front().map(|(number, ..)| *number))
    }
}

/// When the next batch of a lane leaves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(Instant),
}

#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<Key, Lane>,
    next: u64,
    pub(super) pending: usize,
    pub(super) pending_bytes: usize,
}

impl Lanes {
    /// Below both bounds one more item fits, whatever its size.
    pub(super) fn has_room(&self, limits: &Limits) -> bool {
        self.pending < limits.pending && self.pending_bytes < limits.pending_bytes
    }

    pub(super) fn target(&self, key: &Key) -> Option<Arc<Target>> {
        self.lanes.get(key).map(|lane| lane.target.clone())
    }

    /// Adds an item; for a new lane, what its task is to be woken by.
    pub(super) fn push(
        &mut self,
        key: &Key,
        target: Arc<Target>,
        item: Item,
        now: Instant,
        limits: &Limits,
    ) -> Option<Arc<Notify>> {
        let size = Item::size(&item.data);
        self.pending += 1;
        self.pending_bytes += size;
        let number = self.next;
        self.next += 1;
        let mut new = None;
        let lane = self.lanes.entry(key.clone()).or_insert_with(|| {
            let wake = Arc::new(Notify::new());
            new = Some(wake.clone());
            Lane {
                target,
                wake,
                queue: VecDeque::new(),
                queued_bytes: 0,
                under_way: None,
                flush_before: 0,
            }
        });
        lane.queue.push_back((number, now, item));
        lane.queued_bytes += size;
        if lane.is_full(limits) {
            lane.wake.notify_one();
        }
        new
    }

    /// Lets everything that is queued leave without waiting for more, and says up to which
    /// number that is.
    pub(super) fn flush(&mut self) -> u64 {
        for lane in self.lanes.values_mut() {
            lane.flush_before = self.next;
            lane.wake.notify_one();
        }
        self.next
    }

    /// Whether everything before this number has settled.
    pub(super) fn settled_before(&self, number: u64) -> bool {
        let mut oldest = self.lanes.values().filter_map(Lane::oldest);
        oldest.all(|oldest| oldest >= number)
    }

    /// When the next batch leaves; `None` if the lane is empty, which removes it.
    pub(super) fn due(&mut self, key: &Key, limits: &Limits) -> Option<Due> {
        let lane = self.lanes.get(key)?;
        let Some((number, since, _)) = lane.queue.front() else {
            self.lanes.remove(key);
            return None;
        };
        if lane.is_full(limits) || *number < lane.flush_before {
            return Some(Due::Now);
        }
        Some(Due::At(*since + limits.interval.min(FOREVER)))
    }

    /// Takes as many items as fit into one batch; at least one.
    pub(super) fn take(&mut self, key: &Key, limits: &Limits) -> Vec<Item> {
        let Some(lane) = self.lanes.get_mut(key) else {
            return Vec::new();
        };
        lane.under_way = lane.queue.front().map(|(number, ..)| *number);
        let mut bytes = lane.target.overhead;
        let mut taken = Vec::new();
        while let Some((_, _, item)) = lane.queue.front() {
            let size = Item::size(&item.data);
            if !taken.is_empty() && (taken.len() >= limits.items || bytes + size > limits.bytes) {
                break;
            }
            bytes += size;
            lane.queued_bytes -= size;
            taken.extend(lane.queue.pop_front().map(|(.., item)| item));
        }
        taken
    }

    /// A batch has settled: makes room.
    pub(super) fn settled(&mut self, key: &Key, items: &[Item]) {
        self.pending -= items.len();
        self.pending_bytes -= items.iter().map(|item| Item::size(&item.data)).sum::<usize>();
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.under_way = None;
        }
    }
}

impl Lane {
    /// A further item could not join the first ones any more.
    fn is_full(&self, limits: &Limits) -> bool {
        self.queue.len() >= limits.items || self.target.overhead + self.queued_bytes >= limits.bytes
    }
}
