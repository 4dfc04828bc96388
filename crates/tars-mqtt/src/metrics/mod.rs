//! The numbers of a client for the [`metrics`](https://docs.rs/metrics) facade, with the feature
//! `metrics`: which there are says [`ALL`].
//!
//! A client takes its handles when it is built, so install the recorder before. Without the
//! feature the same code compiles to nothing; what [`Client::stats`](crate::Client::stats) says
//! needs neither feature nor recorder.

#[cfg_attr(feature = "metrics", path = "on.rs")]
#[cfg_attr(not(feature = "metrics"), path = "off.rs")]
mod handles;
#[cfg_attr(
    not(feature = "metrics"),
    allow(dead_code, unreachable_pub, reason = "nobody sees them")
)]
pub(crate) mod names;

use std::time::Duration;

use tars_ports::QoS;

#[cfg(feature = "metrics")]
pub use self::names::{ALL, Kind, Metric};

pub(crate) use self::handles::{Counter, Gauge, Histogram};

use crate::lifecycle::State;

/// A time by how it ended: well, or not.
#[derive(Default)]
pub(crate) struct Times {
    well: Histogram,
    badly: Histogram,
}

impl Times {
    fn new(metric: &names::Metric, labels: [(&'static str, &str); 2], [well, badly]: [&str; 2]) -> Self {
        let with = |outcome| Histogram::new(metric, &[labels[0], labels[1], ("outcome", outcome)]);
        Self {
            well: with(well),
            badly: with(badly),
        }
    }

    pub(crate) fn record(&self, well: bool, time: Option<Duration>) {
        if let Some(time) = time {
            if well { &self.well } else { &self.badly }.record(time);
        }
    }
}

/// What belongs to a client, besides its counters.
#[derive(Default)]
pub(crate) struct ClientMetrics {
    pub(crate) reconnects: Counter,
    pub(crate) heartbeat: Histogram,
    pub(crate) unsettled: Gauge,
    settle: [Times; 2],
    state: [Gauge; STATES.len()],
}

const STATES: [State; 6] = [
    State::Created,
    State::Connecting,
    State::Connected,
    State::Reconnecting,
    State::Disconnecting,
    State::Disconnected,
];

impl ClientMetrics {
    pub(crate) fn new(client_id: &str) -> Self {
        let client = ("client_id", client_id);
        let settle = |qos| Times::new(&names::SETTLE, [client, ("qos", qos)], ["settled", "failed"]);
        let gauge = |state: State| Gauge::new(&names::STATE, &[client, ("state", &state.to_string().to_lowercase())]);
        Self {
            reconnects: Counter::new(&names::RECONNECTS, &[client]),
            heartbeat: Histogram::new(&names::HEARTBEAT, &[client]),
            unsettled: Gauge::new(&names::UNSETTLED, &[client]),
            settle: [settle("1"), settle("2")],
            state: STATES.map(gauge),
        }
    }

    pub(crate) fn settled(&self, qos: QoS, well: bool, time: Option<Duration>) {
        self.settle[usize::from(qos == QoS::ExactlyOnce)].record(well, time);
    }

    /// The client is in one state at a time.
    pub(crate) fn state(&self, now: State) {
        for (state, gauge) in STATES.iter().zip(&self.state) {
            gauge.set(usize::from(*state == now));
        }
    }
}

/// What belongs to a subscription.
#[derive(Default)]
pub(crate) struct SubscriptionMetrics {
    pub(crate) handled: Counter,
    pub(crate) failed: Counter,
    pub(crate) invalid: Counter,
    pub(crate) passed_over: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) dropped: Counter,
    pub(crate) handler: Times,
}

impl SubscriptionMetrics {
    pub(crate) fn new(client_id: &str, filter: &str) -> Self {
        let labels = [("client_id", client_id), ("filter", filter)];
        let counter = |metric| Counter::new(metric, &labels);
        Self {
            handled: counter(&names::HANDLED),
            failed: counter(&names::FAILED),
            invalid: counter(&names::INVALID),
            passed_over: counter(&names::PASSED_OVER),
            duplicates: counter(&names::DUPLICATES),
            dropped: counter(&names::DROPPED),
            handler: Times::new(&names::HANDLER, labels, ["succeeded", "failed"]),
        }
    }
}
