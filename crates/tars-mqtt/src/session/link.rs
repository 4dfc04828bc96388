//! The link: where the session stands between offline and online, and what flows
//! over a connection while there is one.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tars_contracts::{Heartbeat as Beat, TopicFilter};
use tars_ports::{
    Connected, Connection, Delivery, Error, ErrorKind, Inbound, Incoming, Message, QoS, Receipt, TryPublishError,
};
use tokio::time::Instant;

use super::Session;
use super::event::Answer;
use super::subscriptions::{Pending, Step};
use super::turns::Turns;
use crate::lifecycle::LifecycleEvent;
use crate::service::heartbeat::Pulse;
use crate::service::shutdown::ShutdownReport;
use crate::stats::count;

/// Deliveries taken in a row before anything else gets its turn.
const BATCH: usize = 64;

pub(super) enum Phase {
    Offline,
    Connecting(BoxFuture<'static, Result<Connected, Error>>),
    /// Until the next attempt.
    Waiting(Instant),
    Online(Box<Online>),
}

/// A live connection and what is under way on it.
pub(super) struct Online {
    pub(super) connection: Arc<dyn Connection>,
    pub(super) inbound: Inbound,
    pub(super) began: Instant,
    /// The watchdog ended it: the adapter only knows that it was closed on this side.
    pub(super) given_up: bool,
    /// Own heartbeats do not come back: said once.
    asked: bool,
    /// When the oldest beat went out that has not come back.
    beat: Option<Instant>,
    /// It has ended or was closed: nothing is begun on it any more, and its stream is to be
    /// read to the end whatever the budget.
    pub(super) gone: bool,
    /// Subscriptions are restored and health is told: the outbox may go on.
    pub(super) restored: bool,
    pub(super) exchange: Option<BoxFuture<'static, (Step, Answer)>>,
    /// The connection was full: resolves when there may be room.
    pub(super) room: Option<BoxFuture<'static, Result<(), Error>>>,
    pub(super) turns: Turns,
}

impl Online {
    pub(super) fn new(connection: Arc<dyn Connection>, inbound: Inbound) -> Self {
        Self {
            connection,
            inbound,
            began: Instant::now(),
            given_up: false,
            asked: false,
            beat: None,
            gone: false,
            restored: false,
            exchange: None,
            room: None,
            turns: Turns::default(),
        }
    }

    /// Closes it from this side.
    fn leave(&mut self) {
        self.connection.close();
        self.gone = true;
    }

    /// Hands a message over; `None` when it has to wait for room.
    fn publish(&mut self, message: Message) -> Option<Result<Receipt, Error>> {
        let qos = message.qos;
        match self.connection.try_publish(message) {
            Ok(receipt) => Some(Ok(receipt)),
            Err(TryPublishError::Failed(error)) => Some(Err(error)),
            Err(_) => {
                self.wait_for_room(qos);
                None
            }
        }
    }

    fn wait_for_room(&mut self, qos: QoS) {
        let connection = self.connection.clone();
        self.room = Some(async move { connection.ready(qos).await }.boxed());
    }
}

impl Session {
    pub(super) fn online(&self) -> Option<&Online> {
        match &self.phase {
            Phase::Online(online) => Some(online),
            _ => None,
        }
    }

    /// Does what can be done now: subscribe, then tell the health, then publish. In
    /// this order after a reconnect (SPEC 3); at other times each as it comes.
    pub(super) fn advance(&mut self) {
        let Phase::Online(online) = &mut self.phase else {
            return;
        };
        if online.gone {
            // What is begun now fails at once, again and again, before its end is read.
            return;
        }
        if online.exchange.is_none()
            && let Some(step) = self.subscriptions.next_step(&mut self.dispatch)
        {
            // Begun at once: the first beat must not go out before the filter it comes back on.
            let mut exchange = exchange(online.connection.clone(), step);
            online.exchange = Some(match (&mut exchange).now_or_never() {
                Some(answered) => std::future::ready(answered).boxed(),
                None => exchange,
            });
        }
        if online.room.is_some() {
            return;
        }
        if online.exchange.is_some() && !online.restored {
            return;
        }
        if let Some(health) = &mut self.health
            && let Some(message) = health.next(&self.shared.config)
        {
            match online.publish(message) {
                Some(Ok(receipt)) => health.sent(receipt),
                // The end of the link is on its way.
                Some(Err(error)) if error.kind() == ErrorKind::NotConnected => return,
                Some(Err(error)) => health.rejected(&error),
                None => {
                    // Nor may who publishes be quicker, each time there is room.
                    self.shared.outbox.hold_back(QoS::AtLeastOnce);
                    return;
                }
            }
        }
        let outbox = &self.shared.outbox;
        if std::mem::replace(&mut online.restored, true) {
            outbox.go_on();
        } else {
            self.shared.restored.send_modify(|times| *times += 1);
            outbox.open(online.connection.clone());
        }
        if let Some(qos) = outbox.waits_for_room() {
            online.wait_for_room(qos);
        }
    }

    /// Takes in what came, and what else is there already, up to a batch.
    pub(super) async fn arrived(&mut self, incoming: Option<Incoming>) -> Option<ShutdownReport> {
        let mut next = incoming;
        for taken in 1.. {
            match next {
                Some(Incoming::Delivery(delivery)) => self.deliver(delivery),
                Some(Incoming::Ended(ended)) => return self.link_ended(ended).await,
                Some(_) => tracing::debug!("the adapter sent something this version does not know"),
                None => return self.stream_ended().await,
            }
            if taken == BATCH || !self.has_room() {
                break;
            }
            let Phase::Online(online) = &mut self.phase else {
                break;
            };
            match online.inbound.next().now_or_never() {
                Some(incoming) => next = incoming,
                None => break,
            }
        }
        None
    }

    /// Whether to keep what an ended connection had handed over while the budget was
    /// reached. What is not acknowledged comes again on a kept session; of the rest there
    /// is room for as much once more, and only what is beyond that is lost.
    fn may_keep(&self, delivery: &Delivery) -> bool {
        let config = &self.shared.config;
        // An adapter that acknowledges by itself gives no token.
        let comes_again = !config.clean_session && delivery.token.is_some();
        let times = if comes_again { 1 } else { 2 };
        let keep = delivery.qos == QoS::AtMostOnce
            || self
                .shared
                .work
                .has_room(config.inbound_messages * times, config.inbound_bytes * times);
        if !keep && !comes_again {
            count(&self.shared.stats.dropped);
            tracing::error!(topic = %delivery.topic, "a message is lost: handlers are stuck, and its connection ended");
        }
        keep
    }

    /// Whether more may be taken in: at the budget it waits in the adapter, and there
    /// reading pauses.
    pub(super) fn has_room(&self) -> bool {
        let config = &self.shared.config;
        self.shared.work.has_room(config.inbound_messages, config.inbound_bytes)
    }

    fn deliver(&mut self, delivery: Delivery) {
        if let Some(heartbeat) = &mut self.heartbeat
            && self.keepalive_topic.as_ref() == Some(&delivery.topic)
        {
            heartbeat.echoed();
            self.note_round_trip();
        }
        if self.keepalive_topic.as_ref() != Some(&delivery.topic) {
            self.shared.hooks.message(&delivery);
        }
        if let Phase::Online(online) = &self.phase {
            if self.drain.is_some() {
                // What is not acknowledged stays the broker's.
                return self.dispatch.deliver_reply(delivery, online.connection.as_ref());
            }
            if online.gone && !self.may_keep(&delivery) {
                return;
            }
            self.dispatch
                .deliver(delivery, &online.connection, self.keepalive_topic.as_ref());
        }
    }

    fn note_round_trip(&mut self) {
        if let Phase::Online(online) = &mut self.phase
            && let Some(sent) = online.beat.take()
        {
            self.shared.stats.metrics.heartbeat.record(sent.elapsed());
        }
    }

    pub(super) fn exchanged(&mut self, step: Step, answer: Answer) {
        match (step, answer) {
            (Step::Subscribe(filters), Ok(answers)) => {
                let mut restored = Vec::new();
                for ((filter, asked), answer) in filters.into_iter().zip(answers) {
                    match answer {
                        Ok(granted) => {
                            if self.granted(&filter, asked, granted) {
                                restored.push((filter, granted));
                            }
                        }
                        Err(_) => self.refused(&filter),
                    }
                }
                if !restored.is_empty() {
                    let client_id = &self.shared.config.client_id;
                    tracing::info!(%client_id, filters = restored.len(), "subscriptions restored");
                    self.shared
                        .emit(LifecycleEvent::SubscriptionsRestored { filters: restored });
                }
            }
            (Step::Unsubscribe(filters), Ok(_)) => self.subscriptions.gone(&filters),
            (_, Err(error)) if matches!(error.kind(), ErrorKind::NotConnected | ErrorKind::ConnectionLost) => {
                // The link's end is on its way; who waits goes on waiting for the next one.
                tracing::debug!(%error, "a subscription was interrupted");
                if let Phase::Online(online) = &mut self.phase {
                    online.gone = true;
                }
            }
            (step, Err(error)) => {
                // A broker that does not answer this is not one to stay with: on a new
                // connection everything is compared anew.
                tracing::warn!(client_id = %self.shared.config.client_id, %error, "the broker did not answer");
                if let Step::Subscribe(filters) = step {
                    for (filter, _) in filters {
                        self.fail_pending(&filter, &error);
                    }
                }
                if let Phase::Online(online) = &mut self.phase {
                    online.leave();
                }
            }
        }
    }

    /// Returns whether that restored what an earlier connection had.
    fn granted(&mut self, filter: &TopicFilter, asked: QoS, granted: QoS) -> bool {
        let (waiting, restored) = self.subscriptions.granted(filter, asked);
        for Pending { place, reply, .. } in waiting {
            match reply.send(Ok((place.entry.id, granted))) {
                Ok(()) => tracing::debug!(%filter, %granted, "subscribed"),
                // Whoever asked is gone. What nobody wants leaves the wire with the next step.
                Err(_) => self.subscriptions.undo(&mut self.dispatch, place),
            }
        }
        restored
    }

    fn refused(&mut self, filter: &TopicFilter) {
        self.subscriptions.refused(filter);
        let what = "the broker refused the subscription (SUBACK 0x80): may this client read it?";
        let error = Error::new(ErrorKind::SubscriptionRefused, what);
        if self.subscriptions.is_echo(filter) {
            tracing::warn!(%filter, %error, "own heartbeats cannot be received: the watchdog asks the broker instead");
        }
        let nobody_waited = !self.fail_pending(filter, &error);
        if nobody_waited && self.dispatch.under(filter).next().is_some() {
            tracing::error!(%filter, %error, "a subscription was not restored");
            let filter = filter.clone();
            self.shared.emit(LifecycleEvent::SubscriptionRefused { filter });
        }
    }

    /// Fails who waits for this filter. Returns whether there was anybody.
    fn fail_pending(&mut self, filter: &TopicFilter, error: &Error) -> bool {
        let waiting = self.subscriptions.take_pending(filter, |_| true);
        let anybody = !waiting.is_empty();
        for Pending { place, reply, .. } in waiting {
            self.subscriptions.undo(&mut self.dispatch, place);
            let _ = reply.send(Err(error.clone()));
        }
        anybody
    }

    /// Publishes a beat, or notices that nobody answers any more.
    pub(super) fn beat(&mut self, now: Instant) {
        let Phase::Online(online) = &mut self.phase else {
            return;
        };
        let (Some(heartbeat), Some(topic)) = (&mut self.heartbeat, &self.keepalive_topic) else {
            return;
        };
        match heartbeat.on_time(now, online.connection.activity()) {
            Pulse::Nothing => {}
            Pulse::Beat => {
                let payload = Beat::now().to_bytes().expect("a heartbeat is a JSON object");
                let written = online
                    .connection
                    .try_publish(Message::new(topic.clone(), payload))
                    .is_ok();
                heartbeat.sent();
                online.beat.get_or_insert(now);
                if written {
                    count(&self.shared.stats.beats);
                }
            }
            Pulse::Ask => {
                if !std::mem::replace(&mut online.asked, true) {
                    tracing::warn!(
                        %topic,
                        "own heartbeats do not come back (may this client read them?): the watchdog asks the broker instead",
                    );
                }
                // UNSUBSCRIBE must be answered, whatever is subscribed; it comes back by the
                // next comparison. An exchange that is under way asks just as well.
                if online.exchange.is_none() {
                    let step = self.subscriptions.unsubscribe(vec![TopicFilter::from(topic.clone())]);
                    online.exchange = Some(exchange(online.connection.clone(), step));
                }
            }
            Pulse::Dead => {
                let client_id = &self.shared.config.client_id;
                tracing::warn!(%client_id, "three heartbeats in a row failed: the link is given up");
                online.given_up = true;
                online.leave();
            }
        }
    }
}

fn exchange(connection: Arc<dyn Connection>, step: Step) -> BoxFuture<'static, (Step, Answer)> {
    async move {
        let answer = match &step {
            Step::Subscribe(filters) => {
                tracing::debug!(filters = filters.len(), "subscribing");
                connection.subscribe(filters).await
            }
            Step::Unsubscribe(filters) => connection.unsubscribe(filters).await.map(|()| Vec::new()),
        };
        (step, answer)
    }
    .boxed()
}
