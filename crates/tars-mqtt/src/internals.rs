//! The inside, for the project's own benchmarks, behind the feature `bench-internals`. No part of
//! the API: it may change in any release.

use std::sync::Arc;
use std::time::Duration;

use tars_contracts::{TopicFilter, TopicName};
use tars_ports::{Connection, Message, Receipt};
use tokio::time::Instant;

use crate::dispatch::Key;
use crate::dispatch::dedupe::{Admission, Dedupe};
use crate::dispatch::trie::Trie;
use crate::session::outbox::Outbox;

/// Subscriptions by filter.
#[derive(Debug, Default)]
pub struct Routes(Trie<usize>);

impl Routes {
    /// One more.
    pub fn insert(&mut self, filter: &TopicFilter) {
        self.0.insert(filter, 1);
    }

    /// How many a topic reaches.
    #[must_use]
    pub fn reached(&self, topic: &TopicName) -> usize {
        let mut reached = 0;
        self.0.for_each_match(topic, |one| reached += one);
        reached
    }
}

/// What makes a message the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageKey(Key);

impl MessageKey {
    /// Of an envelope.
    #[must_use]
    pub fn of(payload: &[u8]) -> Option<Self> {
        Key::of(payload).map(Self)
    }
}

/// What a subscription has handled lately.
pub struct Handled(Dedupe<()>);

impl Handled {
    /// Remembers so many for so long.
    #[must_use]
    pub fn new(ttl: Duration, max_entries: usize) -> Self {
        Self(Dedupe::new(ttl, max_entries))
    }

    /// A message comes up and, unless it is a duplicate, is handled at once. `true` if it was.
    pub fn handle(&self, key: MessageKey, now: Instant) -> bool {
        match self.0.admit(key.0, (), true, now) {
            Admission::Run((), run) => {
                drop(run.succeeded(now));
                true
            }
            Admission::Duplicate(()) | Admission::Joined => false,
        }
    }
}

/// Publishes that are not settled.
pub struct Unsettled(Arc<Outbox>);

impl Unsettled {
    /// Bounded in messages; in bytes by 64 MiB. All that the window allows goes to the connection.
    #[must_use]
    pub fn new(max_messages: usize, window: u16, connection: Arc<dyn Connection>) -> Self {
        let outbox = Outbox::new(max_messages, 64 << 20, window, Arc::default());
        outbox.open(connection);
        Self(outbox)
    }

    /// Takes a message in, if there is room.
    pub fn append(&self, message: Message, now: Instant) -> Option<Receipt> {
        self.0.try_append(message, now + Duration::from_secs(30)).ok()
    }
}
