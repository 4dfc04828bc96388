//! Counters that need no feature and no recorder.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        /// A snapshot of a client's counters, each from the client's beginning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// QoS 1 and 2 publishes that have not settled yet.
            pub unsettled: u64,
        }

        impl Counters {
            pub(crate) fn snapshot(&self, unsettled: u64) -> Stats {
                Stats { $($name: self.$name.load(Relaxed),)* unsettled }
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
    /// QoS 0 messages dropped because a subscription's queue was full; and QoS 1 and 2
    /// ones of a clean session whose connection ended while twice the budget was held.
    dropped,
    /// Messages for which there was no subscription.
    unrouted,
    /// Copies of one message that came once per overlapping filter.
    copies,
    /// Duplicates of handled messages that were skipped (`MQTT_DEDUPE_TTL`).
    duplicates,
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
