//! Who takes part: the services, and what they are configured to do.

use std::time::Duration;

/// A service of its own process. Its name is its client id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub role: Role,
}

/// What a service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Publishes numbered events at QoS 1 to `chaos/{lane}`.
    Source {
        /// The last level of its topic.
        lane: char,
        /// Events a second.
        rate: u32,
    },
    /// Handles them on a persistent session, with deduplication.
    Worker {
        /// Its subscriptions.
        routes: &'static [Listening],
        /// May be killed. The one that may not has to handle everything in one life.
        mortal: bool,
    },
}

/// A subscription of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Its filter.
    pub filter: &'static str,
    /// The lanes that it matches.
    pub lanes: &'static str,
    /// Workers of the subscription.
    pub concurrency: usize,
    /// How long its handler takes.
    pub work: Duration,
}

const fn listening(filter: &'static str, lanes: &'static str, concurrency: usize, millis: u64) -> Listening {
    Listening {
        filter,
        lanes,
        concurrency,
        work: Duration::from_millis(millis),
    }
}

/// All of them. The last one floods those that are slow.
pub const FLEET: [Service; 5] = [
    Service {
        name: "witness",
        role: Role::Worker {
            routes: &[listening("chaos/#", "ab", 1, 0)],
            mortal: false,
        },
    },
    Service {
        name: "pool",
        role: Role::Worker {
            // They overlap: each has to run once for every event.
            routes: &[listening("chaos/+", "ab", 16, 2), listening("chaos/b", "b", 4, 1)],
            mortal: true,
        },
    },
    Service {
        name: "slow",
        role: Role::Worker {
            routes: &[listening("chaos/b", "b", 1, 3)],
            mortal: true,
        },
    },
    Service {
        name: "source-a",
        role: Role::Source { lane: 'a', rate: 500 },
    },
    Service {
        name: "source-b",
        role: Role::Source { lane: 'b', rate: 60 },
    },
];

impl Service {
    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        FLEET.into_iter().find(|service| service.name == name)
    }

    /// Its subscriptions.
    #[must_use]
    pub fn routes(&self) -> &'static [Listening] {
        match self.role {
            Role::Worker { routes, .. } => routes,
            Role::Source { .. } => &[],
        }
    }

    /// The lane that it publishes to.
    #[must_use]
    pub fn lane(&self) -> Option<char> {
        match self.role {
            Role::Source { lane, .. } => Some(lane),
            Role::Worker { .. } => None,
        }
    }
}

/// The places in [`FLEET`] of those that publish.
pub(super) fn sources() -> impl Iterator<Item = usize> + Clone {
    (0..FLEET.len()).filter(|place| FLEET[*place].lane().is_some())
}

/// The places in [`FLEET`] of those that handle.
pub(super) fn workers() -> impl Iterator<Item = usize> + Clone {
    (0..FLEET.len()).filter(|place| FLEET[*place].lane().is_none())
}

/// The places in [`FLEET`] of the workers that may be killed.
pub(super) fn mortals() -> impl Iterator<Item = usize> + Clone {
    workers().filter(|place| matches!(FLEET[*place].role, Role::Worker { mortal: true, .. }))
}
