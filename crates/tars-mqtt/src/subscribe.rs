//! Subscribing: a filter, a handler, and how they go together.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tars_contracts::{TopicError, TopicFilter, TopicName};
use tars_ports::{Error, ErrorKind, QoS};

pub use crate::dispatch::Overflow;

use crate::client::Client;
use crate::dispatch::Slot;
use crate::event::{self, Event, EventHandler};
use crate::handler::{AnyHandler, Handler, erase};
use crate::patterns::respond::Responding;

/// What happens to a message whose handler failed, panicked or took too long. The
/// default is [`ack`](Self::ack). With QoS 0 there is nothing to acknowledge, and
/// retries work the same.
#[derive(Debug, Clone, Default)]
pub struct OnFailure {
    pub(crate) retries: u32,
    pub(crate) backoff: Duration,
    pub(crate) dead_letter: Option<Result<TopicName, TopicError>>,
}

impl OnFailure {
    /// Log it, acknowledge it, go on.
    #[must_use]
    pub fn ack() -> Self {
        Self::default()
    }

    /// Run the handler again, up to `max` times, first after `backoff`, then after
    /// twice that, and so on, at most a minute. Later messages of the subscription
    /// wait meanwhile (of this worker, with concurrency). Then as [`ack`](Self::ack).
    #[must_use]
    pub fn retry(max: u32, backoff: Duration) -> Self {
        Self {
            retries: max,
            backoff,
            dead_letter: None,
        }
    }

    /// At the end, publish the message unchanged to this topic, and the reason as a
    /// `dead.letter` event to `{topic}/info`, both at QoS 1. Only then is it
    /// acknowledged.
    #[must_use]
    pub fn dead_letter(mut self, topic: impl AsRef<str>) -> Self {
        self.dead_letter = Some(TopicName::new(topic));
        self
    }
}

/// When a QoS 1 or 2 message is acknowledged to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Acknowledge {
    /// When the handler succeeded, or its failure policy has finished. The default
    /// where the adapter can; asking for it where it cannot is an error.
    #[default]
    AfterSuccess,
    /// When it arrived.
    OnReceipt,
}

/// What a route leads to.
#[derive(Clone)]
pub(crate) enum Target {
    /// The workers of the subscription run it.
    Handler(AnyHandler),
    /// As a handler, and what it returns is published as a reply.
    Responder(Arc<Responding>),
    /// The requests that wait for replies.
    Replies,
}

/// A subscription in the making, for [`ClientBuilder::route`](crate::ClientBuilder::route):
/// a handler that is in place before the first packet.
#[derive(Clone)]
#[must_use = "a route does nothing until it is given to a client"]
pub struct Route {
    pub(crate) filter: Result<TopicFilter, TopicError>,
    pub(crate) slot: Slot,
    pub(crate) target: Target,
    pub(crate) options: RouteOptions,
}

#[derive(Debug, Clone)]
pub(crate) struct RouteOptions {
    pub(crate) qos: QoS,
    pub(crate) concurrency: usize,
    pub(crate) queue: usize,
    pub(crate) overflow: Overflow,
    pub(crate) on_failure: OnFailure,
    pub(crate) timeout: Option<Duration>,
    pub(crate) acknowledge: Option<Acknowledge>,
    /// It wants the retained messages, and so a SUBSCRIBE even where the broker has the filter.
    pub(crate) replay: bool,
}

impl Default for RouteOptions {
    fn default() -> Self {
        Self {
            qos: QoS::AtMostOnce,
            concurrency: 1,
            queue: 10_000,
            overflow: Overflow::default(),
            on_failure: OnFailure::default(),
            timeout: None,
            acknowledge: None,
            replay: true,
        }
    }
}

impl Route {
    /// A handler for all messages whose topic matches the filter.
    pub fn new<Args>(filter: impl AsRef<str>, handler: impl Handler<Args>) -> Self {
        Self {
            filter: TopicFilter::new(filter),
            slot: Slot::User,
            target: Target::Handler(erase(handler)),
            options: RouteOptions::default(),
        }
    }

    /// A handler for an event, with the event's filter and QoS; as
    /// [`Client::on`](crate::Client::on).
    pub fn on<E, Args>(handler: impl EventHandler<E, Args>) -> Self
    where
        E: Event + for<'de> Deserialize<'de>,
    {
        Self {
            filter: E::filter(),
            slot: Slot::Event(E::TYPE.into()),
            target: Target::Handler(event::erase(handler)),
            options: RouteOptions::default(),
        }
        .qos(E::QOS)
    }

    pub(crate) fn to_responder(filter: &str, responding: Arc<Responding>) -> Self {
        Self {
            filter: TopicFilter::new(filter),
            slot: Slot::User,
            target: Target::Responder(responding),
            options: RouteOptions {
                qos: QoS::AtLeastOnce,
                ..RouteOptions::default()
            },
        }
    }

    /// Replies to the client's own requests come here.
    pub(crate) fn replies(filter: TopicFilter, slot: u64, qos: QoS) -> Self {
        Self {
            filter: Ok(filter),
            slot: Slot::Own(slot),
            target: Target::Replies,
            options: RouteOptions {
                qos,
                // A reply is published after its request, and never retained.
                replay: false,
                ..RouteOptions::default()
            },
        }
    }

    /// Stands beside the routes in other slots of the same filter.
    pub(crate) fn in_slot(mut self, slot: Slot) -> Self {
        self.slot = slot;
        self
    }

    /// What can be wrong with it, before anything is sent.
    pub(crate) fn check(&self) -> Result<TopicFilter, Error> {
        let invalid = |error: &TopicError| Error::new(ErrorKind::InvalidFilter, error.to_string());
        if let Some(Err(error)) = &self.options.on_failure.dead_letter {
            return Err(Error::from(error.clone()).while_doing("dead-letter topic"));
        }
        let filter = self.filter.clone();
        let filter = filter.map_err(|error| invalid(&error).with_source(error))?;
        if let Target::Responder(responding) = &self.target
            && filter.matches(responding.topic()?)
        {
            let what = "the filter matches the reply topic: replies would be answered in turn, for ever";
            return Err(Error::new(ErrorKind::InvalidFilter, what));
        }
        Ok(filter)
    }
}

macro_rules! options {
    ($type:ident, $($path:ident).+) => {
        impl $type {
            /// The highest QoS to receive with; default [`QoS::AtMostOnce`].
            pub fn qos(mut self, qos: QoS) -> Self {
                self.$($path).+.qos = qos;
                self
            }

            /// How many handlers run at once, at most 1,024; default 1, which keeps the
            /// messages in order.
            pub fn concurrency(mut self, handlers: usize) -> Self {
                self.$($path).+.concurrency = handlers.clamp(1, 1024);
                self
            }

            /// How many QoS 0 messages wait for a worker; default 10,000, which a broker takes a tenth
            /// of a second to send. Fewer where only the newest matter.
            pub fn queue(mut self, messages: usize) -> Self {
                self.$($path).+.queue = messages.max(1);
                self
            }

            /// Which QoS 0 message goes when the queue is full; default the oldest.
            pub fn on_overflow(mut self, overflow: Overflow) -> Self {
                self.$($path).+.overflow = overflow;
                self
            }

            /// What happens when the handler fails; default [`OnFailure::ack`].
            pub fn on_failure(mut self, policy: OnFailure) -> Self {
                self.$($path).+.on_failure = policy;
                self
            }

            /// How long the handler may run; default without limit. Above it the run is
            /// dropped, at its next await, and counts as failed.
            pub fn timeout(mut self, limit: Duration) -> Self {
                self.$($path).+.timeout = Some(limit);
                self
            }

            /// When messages are acknowledged; default the best the adapter can.
            pub fn acknowledge(mut self, when: Acknowledge) -> Self {
                self.$($path).+.acknowledge = Some(when);
                self
            }
        }
    };
}
options!(Route, options);
options!(Subscribe, route.options);

/// A subscription that has not begun: set its options, then `.await` it.
///
/// It resolves when the broker granted it. The handler is in place before the
/// request is sent, so that a retained message is never lost; a refusal is an error
/// and leaves no handler behind. While reconnecting it waits for the connection, at
/// most `MQTT_PUBLISH_TIMEOUT`.
///
/// The same filter again replaces the handler, with [`Client::on`] the same event again;
/// handlers of events stand beside the others of their filter. Dropped before it resolves, the
/// subscription is undone.
#[must_use = "nothing is subscribed until it is awaited"]
pub struct Subscribe {
    pub(crate) client: Client,
    pub(crate) route: Route,
}

impl IntoFuture for Subscribe {
    type Output = Result<Subscription, Error>;
    type IntoFuture = SubscribeFuture;

    fn into_future(self) -> Self::IntoFuture {
        SubscribeFuture(Box::pin(async move {
            let filter = self.route.check()?;
            let (id, granted) = self
                .client
                .subscribe_route(self.route)
                .await
                .map_err(|error| error.while_doing(format_args!("subscribing to {filter}")))?;
            Ok(Subscription {
                client: self.client,
                filter,
                id,
                granted,
            })
        }))
    }
}

/// An awaited [`Subscribe`].
#[must_use = "futures do nothing unless polled"]
pub struct SubscribeFuture(Pin<Box<dyn Future<Output = Result<Subscription, Error>> + Send>>);

impl Future for SubscribeFuture {
    type Output = Result<Subscription, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// A subscription the broker granted. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Subscription {
    client: Client,
    filter: TopicFilter,
    id: u64,
    granted: QoS,
}

impl Subscription {
    /// Its filter.
    #[must_use]
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// The QoS the broker granted; it may be lower than asked for.
    #[must_use]
    pub fn granted(&self) -> QoS {
        self.granted
    }

    /// Ends it: resolves when the broker confirmed. Messages that wait for the
    /// handler are still handled. If another handler has taken its place
    /// meanwhile, nothing happens.
    ///
    /// # Errors
    /// As [`Client::unsubscribe`].
    pub async fn unsubscribe(self) -> Result<(), Error> {
        self.client.unsubscribe_route(self.filter.clone(), Some(self.id)).await
    }
}
