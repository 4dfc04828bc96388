//! What shall be subscribed, what is, and who waits for the difference.
//!
//! The wanted filters come from the dispatch; this knows what the broker has. The
//! difference is sent in as few packets as fit, one exchange at a time. Commands,
//! reconnects and raised QoS all go through the same comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tars_contracts::TopicFilter;
use tars_ports::{Error, ErrorKind, QoS};
use tokio::sync::oneshot;

use crate::dispatch::{Dispatch, Entry};

pub(crate) type SubscribeReply = oneshot::Sender<Result<(u64, QoS), Error>>;
pub(crate) type UnsubscribeReply = oneshot::Sender<Result<(), Error>>;

/// A subscription that took its place among the handlers before it was granted.
pub(crate) struct Place {
    pub(crate) entry: Arc<Entry>,
    /// The one that stood there; it comes back if this one is refused.
    pub(crate) replaced: Option<Arc<Entry>>,
}

/// A subscription that waits for the broker's answer.
pub(crate) struct Pending {
    pub(crate) place: Place,
    pub(crate) reply: SubscribeReply,
    /// The SUBSCRIBE under way is its own. Until then its filter is to be sent even if
    /// the wire has it: a new handler wants the retained messages.
    sent: bool,
}

impl Pending {
    fn is_abandoned(&self) -> bool {
        !self.sent && self.reply.is_closed()
    }
}

/// What to ask the broker for next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Subscribe(Vec<(TopicFilter, QoS)>),
    Unsubscribe(Vec<TopicFilter>),
}

/// See the module. In the order of the filters, so that a run repeats exactly.
#[derive(Default)]
pub(crate) struct Subscriptions {
    /// What the broker's session has, with the QoS asked for; `None` where it may have
    /// lost it, so that it is asked for again.
    wire: BTreeMap<TopicFilter, Option<QoS>>,
    /// A CONNECT went unanswered since the last connection.
    in_doubt: bool,
    /// Refused in this connection: not asked for again before the next.
    refused: BTreeSet<TopicFilter>,
    pending: BTreeMap<TopicFilter, Vec<Pending>>,
    leaving: BTreeMap<TopicFilter, Vec<UnsubscribeReply>>,
    /// The client's own filter: its beats come back on it.
    echo: Option<TopicFilter>,
    /// Nothing has changed since the last comparison found nothing to do.
    quiet: bool,
    /// What the last comparison found: the broker has granted every filter with a handler.
    complete: bool,
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
            std::mem::take(&mut self.leaving).into_values().for_each(answer);
        } else if self.in_doubt {
            self.wire.values_mut().for_each(|has| *has = None);
        }
        self.in_doubt = false;
        self.complete = false;
        self.refused.clear();
        // What was under way with the old connection is asked for again.
        for pending in self.pending.values_mut().flatten() {
            pending.sent = false;
        }
        self.quiet = false;
    }

    /// An attempt to connect ended without the broker's answer. If it did arrive at a
    /// broker that had lost the session, that made an empty one, and the next answer says
    /// that the session is present.
    pub(crate) fn attempt_unanswered(&mut self) {
        self.in_doubt = true;
    }

    /// A handler is in place and wants its filter.
    pub(crate) fn add(&mut self, place: Place, reply: SubscribeReply, dispatch: &mut Dispatch) {
        let filter = place.entry.filter.clone();
        self.refused.remove(&filter);
        let sent = false;
        self.pending
            .entry(filter)
            .or_default()
            .push(Pending { place, reply, sent });
        // During an outage nothing is granted for long: who gave up leaves nothing behind.
        self.drop_abandoned(dispatch);
        self.quiet = false;
    }

    fn drop_abandoned(&mut self, dispatch: &mut Dispatch) {
        let mut abandoned = Vec::new();
        self.pending.retain(|_, pending| {
            abandoned.extend(pending.extract_if(.., |pending| pending.is_abandoned()));
            !pending.is_empty()
        });
        for pending in abandoned.into_iter().rev() {
            self.undo(dispatch, pending.place);
        }
    }

    /// A handler is gone; the filter may go, and is given back even if this client did
    /// not ask for it: a session that was kept may have it from an earlier process.
    pub(crate) fn leave(&mut self, filter: TopicFilter, reply: UnsubscribeReply) {
        self.leaving.entry(filter).or_default().push(reply);
        self.quiet = false;
    }

    /// A handler that nobody waits for is gone.
    pub(crate) fn removed(&mut self) {
        self.quiet = false;
    }

    /// The handler with this number does not come back if its replacement is refused.
    pub(crate) fn forget_replaced(&mut self, filter: &TopicFilter, id: u64) {
        for pending in self.pending.get_mut(filter).into_iter().flatten() {
            pending.place.replaced.take_if(|replaced| replaced.id == id);
        }
    }

    /// Takes out who waits for this filter to be granted and `wanted` says, the last one
    /// first: what it replaced may be the one before it.
    pub(crate) fn take_pending(&mut self, filter: &TopicFilter, wanted: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let Some(pending) = self.pending.get_mut(filter) else {
            return Vec::new();
        };
        let mut taken: Vec<_> = pending.extract_if(.., |pending| wanted(pending)).collect();
        if pending.is_empty() {
            self.pending.remove(filter);
        }
        taken.reverse();
        taken
    }

    /// A subscription that did not come about: its handler goes, the one before it returns.
    pub(crate) fn undo(&mut self, dispatch: &mut Dispatch, undone: Place) {
        let (filter, id) = (&undone.entry.filter, undone.entry.id);
        if dispatch.under(filter).any(|current| current.id == id) {
            dispatch.remove(&undone.entry);
            if let Some(replaced) = undone.replaced {
                dispatch.restore(replaced);
            }
            return;
        }
        // A later one took its place: that one now stands for what was before this one.
        for later in self.pending.get_mut(filter).into_iter().flatten() {
            let replaced = &mut later.place.replaced;
            if replaced.as_ref().is_some_and(|replaced| replaced.id == id) {
                replaced.clone_from(&undone.replaced);
            }
        }
    }

    /// The next exchange with the broker, or `None` when it has all it should.
    pub(crate) fn next_step(&mut self, dispatch: &mut Dispatch) -> Option<Step> {
        if self.quiet {
            return None;
        }
        self.complete = dispatch.entries().all(|entry| self.is_granted(entry));
        let wanted = self.wanted(dispatch);
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(filter, qos)| {
                !self.refused.contains(*filter)
                    && (self.is_new(filter) || self.wire.get(*filter).is_none_or(|has| *has < Some(**qos)))
            })
            .map(|(filter, qos)| (filter.clone(), *qos))
            .collect();
        if !missing.is_empty() {
            for (filter, _) in &missing {
                for pending in self.pending.get_mut(filter).into_iter().flatten() {
                    pending.sent = true;
                }
            }
            return Some(Step::Subscribe(missing));
        }
        self.grant_present(dispatch);
        // Another handler wants it meanwhile: it stays.
        self.leaving.retain(|filter, replies| {
            let wanted = wanted.contains_key(filter);
            if wanted {
                answer(std::mem::take(replies));
            }
            !wanted
        });
        let extra: BTreeSet<_> = self
            .wire
            .keys()
            .filter(|filter| !wanted.contains_key(*filter))
            .chain(self.leaving.keys())
            .cloned()
            .collect();
        self.quiet = extra.is_empty();
        (!self.quiet).then(|| self.unsubscribe(extra.into_iter().collect()))
    }

    /// From here to its confirmation, which a link may take with it, nobody knows whether the
    /// broker still has them.
    pub(crate) fn unsubscribe(&mut self, filters: Vec<TopicFilter>) -> Step {
        for filter in &filters {
            if let Some(has) = self.wire.get_mut(filter) {
                *has = None;
            }
        }
        Step::Unsubscribe(filters)
    }

    /// Whether the broker has granted all that somebody subscribed to. Reply topics of
    /// requests do not count.
    pub(crate) fn are_complete(&self) -> bool {
        self.complete
    }

    fn is_granted(&self, entry: &Entry) -> bool {
        entry.slot.is_own() || self.wire.get(&entry.filter).is_some_and(Option::is_some)
    }

    /// Somebody waits who wants the retained messages.
    fn is_new(&self, filter: &TopicFilter) -> bool {
        let new = |pending: &Pending| !pending.sent && pending.place.entry.options.replay;
        self.pending.get(filter).is_some_and(|pending| pending.iter().any(new))
    }

    /// Nothing is missing: who did not want a SUBSCRIBE of their own has what they want.
    fn grant_present(&mut self, dispatch: &mut Dispatch) {
        let filters: Vec<_> = self.pending.keys().cloned().collect();
        for filter in filters {
            let granted = self.wire.get(&filter).copied().flatten().unwrap_or_default();
            let served = |pending: &Pending| !pending.sent && !pending.place.entry.options.replay;
            for Pending { place, reply, .. } in self.take_pending(&filter, served) {
                if reply.send(Ok((place.entry.id, granted))).is_err() {
                    self.undo(dispatch, place);
                }
            }
        }
    }

    /// All filters with the QoS they need on the wire. The client's own filter stays
    /// out where a user's covers it: its beats come back anyway, and only once.
    fn wanted(&self, dispatch: &Dispatch) -> BTreeMap<TopicFilter, QoS> {
        let mut own = BTreeMap::<_, QoS>::new();
        for entry in dispatch.entries() {
            let qos = own.entry(&entry.filter).or_default();
            *qos = entry.options.qos.max(*qos);
        }
        let mut wanted: BTreeMap<TopicFilter, QoS> =
            own.iter().map(|(filter, qos)| ((*filter).clone(), *qos)).collect();
        let highest = wanted.values().copied().max().unwrap_or_default();
        // A broker may send one copy in all, at the lower QoS (SPEC 5.2a): overlapping
        // filters ask for their highest. Only a higher neighbour can raise a filter.
        for level in [QoS::ExactlyOnce, QoS::AtLeastOnce] {
            if level > highest {
                continue;
            }
            let higher: Vec<_> = own.iter().filter(|(_, qos)| **qos == level).collect();
            if higher.is_empty() || higher.len() == wanted.len() {
                continue;
            }
            for (filter, qos) in &mut wanted {
                if *qos < level && higher.iter().any(|(other, _)| other.overlaps(filter)) {
                    *qos = level;
                }
            }
        }
        let refused = |filter| self.refused.contains(filter) && !self.wire.contains_key(filter);
        if let Some(echo) = &self.echo
            && !wanted
                .keys()
                .any(|filter| filter.share_group().is_none() && filter.covers(echo) && !refused(filter))
        {
            wanted.insert(echo.clone(), QoS::AtMostOnce);
        }
        wanted
    }

    /// The broker has this filter now. Returns who waited for that, the last one first,
    /// and whether the filter is back that an earlier connection had.
    pub(crate) fn granted(&mut self, filter: &TopicFilter, asked: QoS) -> (Vec<Pending>, bool) {
        let raised = self.wire.insert(filter.clone(), Some(asked)).flatten().is_some();
        self.quiet = false;
        // Who came while the exchange was under way waits for one of their own.
        let granted = self.take_pending(filter, |pending| pending.sent);
        let restored = granted.is_empty() && !raised && !self.is_echo(filter);
        (granted, restored)
    }

    /// The broker does not want to have it.
    pub(crate) fn refused(&mut self, filter: &TopicFilter) {
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

    pub(crate) fn echo(&self) -> Option<&TopicFilter> {
        self.echo.as_ref()
    }

    pub(crate) fn is_echo(&self, filter: &TopicFilter) -> bool {
        self.echo.as_ref() == Some(filter)
    }

    /// Fails who still waits; the handlers of subscriptions never granted go.
    pub(crate) fn fail_pending(&mut self, dispatch: &mut Dispatch, error: &Error) {
        for pending in std::mem::take(&mut self.pending).into_values() {
            for Pending { place, reply, .. } in pending.into_iter().rev() {
                self.undo(dispatch, place);
                let _ = reply.send(Err(error.clone()));
            }
        }
        for (_, replies) in std::mem::take(&mut self.leaving) {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
        self.quiet = false;
    }
}

fn answer(replies: Vec<UnsubscribeReply>) {
    for reply in replies {
        let _ = reply.send(Ok(()));
    }
}

/// A `$share` filter that overlaps another filter of the same client cannot be told
/// apart on 3.1.1: whose copy is it? (SPEC 5.2a)
pub(crate) fn check_shared(filter: &TopicFilter, dispatch: &Dispatch, own: Option<&TopicFilter>) -> Result<(), Error> {
    let mut all = dispatch.entries().map(|entry| &entry.filter).chain(own);
    let other = all.find(|other| {
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

/// One more handler fits; one that takes another's place always does.
pub(crate) fn check_room(filter: &TopicFilter, dispatch: &Dispatch, most: usize) -> Result<(), Error> {
    if dispatch.under(filter).next().is_some() || dispatch.entries().count() < most {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Full,
        format!(
            "subscribe to {}: there are {most} subscriptions, as many as max_subscriptions allows; take a wildcard \
             for many topics, or raise it",
            filter.as_str()
        ),
    ))
}

/// What no broker would take. A filter that fits no SUBSCRIBE would cost the connection,
/// again and again.
pub(crate) fn check_shape(filter: &TopicFilter, max_packet_size: usize) -> Result<(), Error> {
    /// Packet type, remaining length, packet id; length and QoS of the filter (MQTT 3.1.1 section 3.8).
    const AROUND: usize = 1 + 4 + 2 + 2 + 1;
    /// As Mosquitto has it. The trie is as deep as its deepest filter.
    const MOST_LEVELS: usize = 200;
    if filter.as_str().len() + AROUND > max_packet_size {
        let what = format!("the filter is above the packet limit of {max_packet_size} bytes (MQTT_MAX_PACKET_SIZE)");
        return Err(Error::new(ErrorKind::TooLarge, what));
    }
    if filter.levels().count() > MOST_LEVELS {
        let what = format!("the filter has more than {MOST_LEVELS} levels, which brokers do not take");
        return Err(Error::new(ErrorKind::InvalidFilter, what));
    }
    Ok(())
}
