//! Counters that need no feature and no recorder.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::dispatch::{Unfinished, Work};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

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
            pub(crate) fn snapshot(&self, unsettled: usize, requests: usize, work: &Work) -> Stats {
                let (unfinished, oldest_unfinished) = work.unfinished();
                Stats {
                    $($name: self.$name.load(Relaxed),)*
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
    published,
    /// Publishes that failed.
    publish_failed,
    /// QoS 0 publishes that a lost link took with it.
    lost_unsent,
    /// Messages that arrived.
    received,
    /// Runs of handlers that succeeded.
    handled,
    /// Runs of handlers that failed, panicked or took too long.
    failed,
    /// Messages that were no valid input for their handler.
    invalid,
    /// Messages on the topic of an event's handler that were events of another type.
    passed_over,
    /// QoS 0 messages dropped because a subscription's queue was full; and QoS 1 and 2 ones
    /// that do not come again (of a clean session, or acknowledged by the adapter itself),
    /// whose connection ended while twice the budget was held.
    dropped,
    /// Messages for which there was no subscription.
    unrouted,
    /// Copies of one message that came once per overlapping filter.
    copies,
    /// Duplicates of handled messages that were skipped (`MQTT_DEDUPE_TTL`).
    duplicates,
    /// Messages on a reply topic that no request waits for: late, answered before, or
    /// another client's.
    replies_ignored,
    /// Repeated requests that were answered with the reply of the first.
    answered_again,
    /// Messages handed to a dead-letter topic.
    dead_lettered,
    /// Connections the broker accepted.
    connects,
    /// Heartbeats that went out.
    beats,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
