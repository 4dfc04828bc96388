//! Counters that need no feature and no recorder; where there is one, it counts along.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::dispatch::{Unfinished, Work};
use crate::metrics::{ClientMetrics, Counter, names};

/// One number that only grows.
#[derive(Default)]
pub(crate) struct Tally {
    value: AtomicU64,
    metric: Counter,
}

impl Tally {
    pub(crate) fn value(&self) -> u64 {
        self.value.load(Relaxed)
    }

    pub(crate) fn add(&self, number: u64) {
        self.value.fetch_add(number, Relaxed);
        self.metric.add(number);
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $metric:ident),* $(,)?) => {
        #[derive(Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Tally,)*
            pub(crate) metrics: ClientMetrics,
        }

        /// A snapshot of a client: its counters, each from the client's beginning, and
        /// what is under way at this moment.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// QoS 1 and 2 publishes that have not settled yet: the depth of the outbox.
            pub unsettled: u64,
            /// QoS 1 and 2 messages that arrived and are not finished. At the broker's window
            /// (Mosquitto: 20) it sends no more of them, at the client's own budget reading
            /// pauses.
            pub unfinished: u64,
            /// The oldest of those. One that stays holds back the acknowledgements behind
            /// it; after 30 s that is logged at WARN, once per burst.
            pub oldest_unfinished: Option<Unfinished>,
            /// Requests that wait for their reply, or for more of it.
            pub requests: u64,
        }

        impl Counters {
            pub(crate) fn new(client_id: &str) -> Self {
                let tally = |metric| Tally {
                    value: AtomicU64::new(0),
                    metric: Counter::new(metric, &[("client_id", client_id)]),
                };
                Self {
                    $($name: tally(&names::$metric),)*
                    metrics: ClientMetrics::new(client_id),
                }
            }

            pub(crate) fn snapshot(&self, unsettled: usize, requests: usize, work: &Work) -> Stats {
                let (unfinished, oldest_unfinished) = work.unfinished();
                Stats {
                    $($name: self.$name.value(),)*
                    unsettled: unsettled as u64,
                    unfinished: unfinished as u64,
                    oldest_unfinished,
                    requests: requests as u64,
                }
            }
        }
    };
}

counters! {
    /// Publishes that completed as their QoS promises.
    published: PUBLISHED,
    /// Publishes that failed.
    publish_failed: PUBLISH_FAILED,
    /// QoS 0 publishes that a lost link took with it.
    lost_unsent: LOST_UNSENT,
    /// Messages that arrived.
    received: RECEIVED,
    /// Runs of handlers that succeeded.
    handled: HANDLED,
    /// Runs of handlers that failed, panicked or took too long.
    failed: FAILED,
    /// Messages that were no valid input for their handler.
    invalid: INVALID,
    /// Messages on the topic of an event's handler that were events of another type.
    passed_over: PASSED_OVER,
    /// QoS 0 messages dropped because a subscription's queue was full; and QoS 1 and 2 ones
    /// that do not come again (of a clean session, or acknowledged by the adapter itself),
    /// whose connection ended while twice the budget was held.
    dropped: DROPPED,
    /// Messages for which there was no subscription.
    unrouted: UNROUTED,
    /// Copies of one message that came once per overlapping filter.
    copies: COPIES,
    /// Duplicates of handled messages that were skipped (`MQTT_DEDUPE_TTL`).
    duplicates: DUPLICATES,
    /// Messages on a reply topic that no request waits for: late, answered before, or
    /// another client's.
    replies_ignored: REPLIES_IGNORED,
    /// Repeated requests that were answered with the reply of the first.
    answered_again: ANSWERED_AGAIN,
    /// Messages handed to a dead-letter topic.
    dead_lettered: DEAD_LETTERED,
    /// Connections the broker accepted.
    connects: CONNECTS,
    /// Heartbeats that went out.
    beats: BEATS,
}

/// Adds one.
pub(crate) fn count(tally: &Tally) {
    tally.add(1);
}

/// Adds one that belongs to a subscription, with its metric in place of the client's.
pub(crate) fn count_for(metric: &Counter, tally: &Tally) {
    tally.value.fetch_add(1, Relaxed);
    metric.add(1);
}
