//! Who waits for a reply, and the routes on which replies come.
//!
//! A reply is matched by its correlation id, in the session's task and without a
//! queue: a reply reaches the request that waits for it whatever handlers are doing.
//! Every entry is held by a guard, [`Expected`], and goes with it: a request that timed
//! out or was dropped leaves nothing behind.
//!
//! A reply filter stays subscribed for [`LINGER`] after its last request, for the next
//! one; of such unused filters there are at most [`MAX_UNUSED`], the longest unused
//! goes first. So a reply topic of its own for each request does not add up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tars_contracts::{EnvelopeHead, TopicFilter, TopicName};
use tars_ports::{Delivery, Error, ErrorKind, QoS};
use tokio::sync::{Notify, OnceCell, mpsc, oneshot};
use tokio::time::Instant;

use crate::client::Client;
use crate::shared::Shared;
use crate::stats::count;
use crate::subscribe::Route;

/// How long a reply filter stays subscribed after its last request.
const LINGER: Duration = Duration::from_secs(60);
/// Reply filters that stay subscribed without a request.
const MAX_UNUSED: usize = 64;

/// What a request expects.
pub(crate) struct Expectation {
    /// Where its replies come.
    pub(crate) filter: TopicFilter,
    /// Its own topic and type: the request itself is no reply, should it come back.
    pub(crate) request: (TopicName, String),
    /// Of which type its replies are, but for error replies; any if not said.
    pub(crate) reply_type: Option<String>,
}

impl Expectation {
    fn is_met_by(&self, topic: &TopicName, event_type: &str) -> bool {
        let (own_topic, own_type) = &self.request;
        let is_itself = own_topic == topic && own_type == event_type;
        let of_type = |wanted: &str| event_type == wanted || event_type.strip_suffix(".error") == Some(wanted);
        !is_itself && self.filter.matches(topic) && self.reply_type.as_deref().is_none_or(of_type)
    }
}

/// Where replies go.
pub(crate) enum Sink {
    /// The first one, and no other.
    One(oneshot::Sender<Bytes>),
    /// All of them; what finds it full ends it.
    Many(mpsc::Sender<Bytes>),
}

struct Waiting {
    expectation: Expectation,
    sink: Sink,
}

/// A reply filter that is, or is about to be, subscribed.
struct ReplyRoute {
    /// The number of its slot.
    slot: u64,
    subscribed: Arc<OnceCell<()>>,
    requests: usize,
    unused_since: Option<Instant>,
}

type RouteKey = (TopicFilter, QoS);

#[derive(Default)]
struct State {
    waiting: BTreeMap<String, Waiting>,
    routes: BTreeMap<RouteKey, ReplyRoute>,
    /// Routes without a request.
    unused: usize,
    /// When those are looked at next.
    sweep: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Replies {
    state: Mutex<State>,
    swept_earlier: Notify,
}

/// As much of an item as tells whose it is where the envelope does not.
#[derive(Deserialize)]
struct Item {
    data: ItemData,
}

#[derive(Deserialize)]
struct ItemData {
    id: String,
}

impl Replies {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that wait for replies.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Whether that was a reply somebody waited for.
    pub(crate) fn offer(&self, delivery: &Delivery) -> bool {
        if self.waiting() == 0 {
            return false;
        }
        let Some(head) = EnvelopeHead::peek(&delivery.payload) else {
            return false;
        };
        let event_type = head.event_type.as_deref().unwrap_or_default();
        let mut state = self.state();
        let meets = |waiting: &Waiting| waiting.expectation.is_met_by(&delivery.topic, event_type);
        let by_correlation = head
            .correlation_id()
            .filter(|id| state.waiting.get(*id).is_some_and(meets));
        let id = match by_correlation {
            Some(id) => id.to_owned(),
            // Streams of services that give each item an envelope of its own.
            None => match serde_json::from_slice::<Item>(&delivery.payload) {
                Ok(Item { data }) if state.streams_to(&data.id).is_some_and(meets) => data.id,
                _ => return false,
            },
        };
        let payload = delivery.payload.clone();
        if let Some(Sink::Many(sender)) = state.waiting.get(&id).map(|waiting| &waiting.sink)
            && sender.try_send(payload.clone()).is_ok()
        {
            return true;
        }
        match state.waiting.remove(&id).map(|waiting| waiting.sink) {
            Some(Sink::One(sender)) => sender.send(payload).is_ok(),
            // Full: without a sender the stream ends after what it has.
            Some(Sink::Many(_)) => true,
            None => false,
        }
    }

    /// When [`expired`](Self::expired) wants to be called.
    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        self.state().sweep
    }

    /// Resolves when that became earlier. One waiter only: the session.
    pub(crate) async fn swept_earlier(&self) {
        self.swept_earlier.notified().await;
    }

    /// Takes out the routes that nobody has used for long: filter and slot.
    pub(crate) fn expired(&self, now: Instant) -> Vec<(TopicFilter, u64)> {
        let mut state = self.state();
        if state.sweep.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let mut unused: Vec<_> = state
            .routes
            .iter()
            .filter_map(|(key, route)| Some((route.unused_since?, key.clone())))
            .collect();
        unused.sort();
        let too_many = unused.len().saturating_sub(MAX_UNUSED);
        let over = |at: usize, since: Instant| at < too_many || now.saturating_duration_since(since) >= LINGER;
        let (gone, kept): (Vec<_>, Vec<_>) = unused
            .into_iter()
            .enumerate()
            .partition(|(at, (since, _))| over(*at, *since));
        state.sweep = kept.first().map(|(_, (since, _))| *since + LINGER);
        state.unused -= gone.len();
        gone.into_iter()
            .filter_map(|(_, (_, key))| {
                let route = state.routes.remove(&key)?;
                Some((key.0, route.slot))
            })
            .collect()
    }
}

impl State {
    fn streams_to(&self, id: &str) -> Option<&Waiting> {
        let waiting = self.waiting.get(id)?;
        matches!(waiting.sink, Sink::Many(_)).then_some(waiting)
    }

    fn route(&mut self, key: &RouteKey, fresh: impl FnOnce() -> u64) -> &mut ReplyRoute {
        self.routes.entry(key.clone()).or_insert_with(|| ReplyRoute {
            slot: fresh(),
            subscribed: Arc::default(),
            requests: 0,
            unused_since: None,
        })
    }
}

/// A request's place among those that wait, and its share in a reply route. Both are
/// given back when it goes.
pub(crate) struct Expected {
    shared: Arc<Shared>,
    id: String,
    key: RouteKey,
}

impl Expected {
    /// Takes a place. The id must not be in use.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        id: &str,
        expectation: Expectation,
        qos: QoS,
        sink: Sink,
    ) -> Result<Self, Error> {
        let mut state = shared.replies.state();
        if state.waiting.contains_key(id) {
            let what = format!("a request with the correlation id {id} is waiting for its reply already");
            return Err(Error::new(ErrorKind::InvalidPayload, what));
        }
        let key = (expectation.filter.clone(), qos);
        let route = state.route(&key, || shared.fresh_route_id());
        route.requests += 1;
        let was_unused = route.unused_since.take().is_some();
        state.unused -= usize::from(was_unused);
        state.waiting.insert(id.to_owned(), Waiting { expectation, sink });
        Ok(Self {
            shared: shared.clone(),
            id: id.to_owned(),
            key,
        })
    }

    /// Resolves when the broker has granted the reply filter. Requests that share it
    /// wait for the same SUBACK; if the one that asked is dropped, the next one asks.
    pub(crate) async fn subscribed(&self, client: &Client) -> Result<(), Error> {
        let (filter, qos) = &self.key;
        let (slot, subscribed) = {
            let mut state = self.shared.replies.state();
            let route = state.route(&self.key, || self.shared.fresh_route_id());
            (route.slot, route.subscribed.clone())
        };
        let subscribe = || client.subscribe_route(Route::replies(filter.clone(), slot, *qos));
        let granted = subscribed
            .get_or_try_init(|| async { subscribe().await.map(drop) })
            .await;
        granted
            .copied()
            .map_err(|error| error.while_doing(format_args!("subscribing to replies on {filter}")))
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut state = self.shared.replies.state();
        state.waiting.remove(&self.id);
        let now = Instant::now();
        let Some(route) = state.routes.get_mut(&self.key) else {
            return;
        };
        route.requests -= 1;
        if route.requests > 0 {
            return;
        }
        route.unused_since = Some(now);
        state.unused += 1;
        let sweep = if state.unused > MAX_UNUSED { now } else { now + LINGER };
        if state.sweep.is_none_or(|at| at > sweep) {
            state.sweep = Some(sweep);
            drop(state);
            self.shared.replies.swept_earlier.notify_one();
        }
    }
}

impl Shared {
    /// A message on a reply route.
    pub(crate) fn offer_reply(&self, delivery: &Delivery) {
        if !self.replies.offer(delivery) {
            count(&self.stats.replies_ignored);
            tracing::debug!(topic = %delivery.topic, "a reply that nobody waits for was ignored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_itself_and_other_types_are_no_reply() {
        let expectation = |reply_type: Option<&str>| Expectation {
            filter: "llm/#".parse().unwrap(),
            request: ("llm/request".parse().unwrap(), "llm.request".to_owned()),
            reply_type: reply_type.map(str::to_owned),
        };
        let met = |reply_type, topic: &str, event_type| {
            expectation(reply_type).is_met_by(&topic.parse().unwrap(), event_type)
        };
        assert!(!met(None, "llm/request", "llm.request"));
        assert!(met(None, "llm/request", "llm.response"));
        assert!(met(None, "llm/response", "llm.request"));
        assert!(!met(None, "tts/response", "llm.response"));
        assert!(met(Some("llm.response"), "llm/response", "llm.response"));
        assert!(met(Some("llm.response"), "llm/response", "llm.response.error"));
        assert!(!met(Some("llm.response"), "llm/response", "llm.progress"));
    }
}
