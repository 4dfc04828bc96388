//! What shall be subscribed, what is, and who waits for the difference.
//!
//! The wanted filters come from the dispatch; this knows what the broker has. The
//! difference is sent in as few packets as fit, one exchange at a time. Commands,
//! reconnects and raised QoS all go through the same comparison.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tars_contracts::TopicFilter;
use tars_ports::{Error, ErrorKind, QoS};
use tokio::sync::oneshot;

use crate::dispatch::{Dispatch, Entry};

pub(crate) type SubscribeReply = oneshot::Sender<Result<(u64, QoS), Error>>;
pub(crate) type UnsubscribeReply = oneshot::Sender<Result<(), Error>>;

/// A subscription that waits for the broker's answer.
pub(crate) struct Pending {
    pub(crate) entry: Arc<Entry>,
    /// The one whose place it took; it comes back if this one is refused.
    pub(crate) replaced: Option<Arc<Entry>>,
    pub(crate) reply: SubscribeReply,
}

/// What to ask the broker for next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Subscribe(Vec<(TopicFilter, QoS)>),
    Unsubscribe(Vec<TopicFilter>),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Subscriptions {
    /// What the broker's session has, with the QoS asked for.
    wire: HashMap<TopicFilter, QoS>,
    /// To be sent even if the wire has it: a new handler wants the retained messages.
    fresh: HashSet<TopicFilter>,
    /// Refused in this connection: not asked for again before the next.
    refused: HashSet<TopicFilter>,
    pending: HashMap<TopicFilter, Vec<Pending>>,
    leaving: HashMap<TopicFilter, Vec<UnsubscribeReply>>,
    /// The client's own filter: its beats come back on it.
    echo: Option<TopicFilter>,
    /// Nothing has changed since the last comparison found nothing to do.
    quiet: bool,
}

impl Subscriptions {
    pub(crate) fn new(echo: Option<TopicFilter>) -> Self {
        Self {
            echo,
            ..Self::default()
        }
    }

    pub(crate) fn connection_began(&mut self, session_present: bool) {
        if !session_present {
            self.wire.clear();
        }
        self.refused.clear();
        self.quiet = false;
    }

    /// A handler is in place and wants its filter.
    pub(crate) fn add(&mut self, pending: Pending) {
        let filter = pending.entry.filter.clone();
        self.fresh.insert(filter.clone());
        self.refused.remove(&filter);
        self.pending.entry(filter).or_default().push(pending);
        self.quiet = false;
    }

    /// A handler is gone; the filter may go.
    pub(crate) fn leave(&mut self, filter: TopicFilter, reply: Option<UnsubscribeReply>) {
        self.fresh.remove(&filter);
        self.leaving.entry(filter).or_default().extend(reply);
        self.quiet = false;
    }

    /// Takes out who waits for this filter to be granted.
    pub(crate) fn take_pending(&mut self, filter: &TopicFilter) -> Vec<Pending> {
        self.pending.remove(filter).unwrap_or_default()
    }

    /// The next exchange with the broker, or `None` when it has all it should.
    pub(crate) fn next_step(&mut self, dispatch: &Dispatch) -> Option<Step> {
        if self.quiet {
            return None;
        }
        let wanted = self.wanted(dispatch);
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(filter, qos)| {
                !self.refused.contains(*filter)
                    && (self.fresh.contains(*filter) || self.wire.get(*filter).is_none_or(|has| has < *qos))
            })
            .map(|(filter, qos)| (filter.clone(), *qos))
            .collect();
        if !missing.is_empty() {
            return Some(Step::Subscribe(missing));
        }
        let extra: Vec<_> = self
            .wire
            .keys()
            .filter(|filter| !wanted.contains_key(*filter))
            .cloned()
            .collect();
        // Who wanted a filter gone that is not there has what they wanted.
        self.leaving.retain(|filter, replies| {
            let on_wire = self.wire.contains_key(filter) && !wanted.contains_key(filter);
            if !on_wire {
                answer(std::mem::take(replies));
            }
            on_wire
        });
        self.quiet = extra.is_empty();
        (!self.quiet).then_some(Step::Unsubscribe(extra))
    }

    /// All filters with the QoS they need on the wire. The client's own filter stays
    /// out where a user's covers it: its beats come back anyway, and only once.
    fn wanted(&self, dispatch: &Dispatch) -> HashMap<TopicFilter, QoS> {
        let mut wanted: HashMap<_, _> = dispatch
            .entries()
            .map(|entry| (entry.filter.clone(), entry.options.qos))
            .collect();
        let highest = wanted.values().copied().max().unwrap_or_default();
        // A broker may send one copy in all, at the lower QoS (SPEC 5.2a): overlapping
        // filters ask for their highest. Only a higher neighbour can raise a filter.
        for level in [QoS::ExactlyOnce, QoS::AtLeastOnce] {
            if level > highest {
                continue;
            }
            let higher: Vec<_> = dispatch.entries().filter(|entry| entry.options.qos == level).collect();
            if higher.is_empty() || higher.len() == wanted.len() {
                continue;
            }
            for (filter, qos) in &mut wanted {
                if *qos < level && higher.iter().any(|entry| entry.filter.overlaps(filter)) {
                    *qos = level;
                }
            }
        }
        if let Some(echo) = &self.echo
            && !wanted
                .keys()
                .any(|filter| filter.share_group().is_none() && filter.covers(echo))
        {
            wanted.insert(echo.clone(), QoS::AtMostOnce);
        }
        wanted
    }

    /// The broker has this filter now.
    pub(crate) fn granted(&mut self, filter: &TopicFilter, asked: QoS) {
        self.fresh.remove(filter);
        self.wire.insert(filter.clone(), asked);
        self.quiet = false;
    }

    /// The broker does not want to have it.
    pub(crate) fn refused(&mut self, filter: &TopicFilter) {
        self.fresh.remove(filter);
        self.refused.insert(filter.clone());
        self.quiet = false;
    }

    /// The broker confirmed that these are gone.
    pub(crate) fn gone(&mut self, filters: &[TopicFilter]) {
        for filter in filters {
            self.wire.remove(filter);
            answer(self.leaving.remove(filter).unwrap_or_default());
        }
        self.quiet = false;
    }

    pub(crate) fn is_echo(&self, filter: &TopicFilter) -> bool {
        self.echo.as_ref() == Some(filter)
    }

    /// Fails who still waits; the handlers of subscriptions never granted go.
    pub(crate) fn fail_pending(&mut self, dispatch: &mut Dispatch, error: &Error) {
        for (filter, pending) in std::mem::take(&mut self.pending) {
            for pending in pending {
                undo(dispatch, &pending);
                let _ = pending.reply.send(Err(error.clone()));
            }
            self.fresh.remove(&filter);
        }
        for (_, replies) in std::mem::take(&mut self.leaving) {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
        self.quiet = false;
    }
}

/// A subscription that did not come about: its handler goes, the one before it returns.
pub(crate) fn undo(dispatch: &mut Dispatch, pending: &Pending) {
    let filter = &pending.entry.filter;
    if dispatch
        .entry(filter)
        .is_some_and(|current| current.id == pending.entry.id)
    {
        dispatch.remove(filter);
        if let Some(replaced) = &pending.replaced {
            dispatch.restore(replaced.clone());
        }
    }
}

fn answer(replies: Vec<UnsubscribeReply>) {
    for reply in replies {
        let _ = reply.send(Ok(()));
    }
}

/// A `$share` filter that overlaps another filter of the same client cannot be told
/// apart on 3.1.1: whose copy is it? (SPEC 5.2a)
pub(crate) fn check_shared(filter: &TopicFilter, dispatch: &Dispatch) -> Result<(), Error> {
    let other = dispatch.entries().map(|entry| &entry.filter).find(|other| {
        (filter.share_group().is_some() || other.share_group().is_some()) && *other != filter && filter.overlaps(other)
    });
    match other {
        None => Ok(()),
        Some(other) => Err(Error::new(
            ErrorKind::InvalidFilter,
            format!("a shared subscription must not overlap another one of the same client, here {other}"),
        )),
    }
}
