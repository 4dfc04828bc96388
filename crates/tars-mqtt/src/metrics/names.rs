//! Every metric: its name, what it counts, and its labels.
//!
//! `client_id` is on all of them. `filter` is that of the subscription, never a topic: there are
//! as many series as subscriptions. A metric with `filter` also counts, without it, what belongs to
//! no subscription.

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A value of this moment.
    Gauge,
    /// Many values, of which count, sum and distribution are kept.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name. What is a time is in seconds, and ends in `_seconds`.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// Its labels, besides `client_id`.
    pub labels: &'static [&'static str],
    /// What it says.
    pub description: &'static str,
}

macro_rules! metrics {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $description:literal;)*) => {
        $(pub(crate) const $id: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            description: $description,
        };)*

        /// All of them.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    STATE: Gauge "tars_mqtt_state" ["state"]
        "1 for the state that the client is in, 0 for the others";
    CONNECTS: Counter "tars_mqtt_connects_total" []
        "Connections the broker accepted, the first one included";
    RECONNECTS: Counter "tars_mqtt_reconnects_total" []
        "Connections the broker accepted after one was lost";

    PUBLISHED: Counter "tars_mqtt_published_total" []
        "Publishes that completed as their QoS promises";
    PUBLISH_FAILED: Counter "tars_mqtt_publish_failed_total" []
        "Publishes that failed, and whose caller got the error";
    LOST_UNSENT: Counter "tars_mqtt_lost_unsent_total" []
        "QoS 0 publishes that a lost link took with it";
    UNSETTLED: Gauge "tars_mqtt_unsettled" []
        "QoS 1 and 2 publishes that have not settled yet: the depth of the outbox";
    SETTLE: Histogram "tars_mqtt_publish_settle_seconds" ["qos", "outcome"]
        "From taking a QoS 1 or 2 publish in until it settled, outages included";

    RECEIVED: Counter "tars_mqtt_received_total" []
        "Messages that arrived";
    UNFINISHED: Gauge "tars_mqtt_unfinished" []
        "QoS 1 and 2 messages that arrived and are not finished";
    QUEUE_DEPTH: Gauge "tars_mqtt_queue_depth" ["filter"]
        "Messages that wait for a handler";
    HANDLED: Counter "tars_mqtt_handled_total" ["filter"]
        "Runs of handlers that succeeded";
    FAILED: Counter "tars_mqtt_failed_total" ["filter"]
        "Runs of handlers that failed, panicked or took too long";
    HANDLER: Histogram "tars_mqtt_handler_seconds" ["filter", "outcome"]
        "Time of one run of a handler";
    INVALID: Counter "tars_mqtt_invalid_total" ["filter"]
        "Messages that were no valid input for their handler";
    PASSED_OVER: Counter "tars_mqtt_passed_over_total" ["filter"]
        "Messages on the topic of an event's handler that were events of another type";
    DUPLICATES: Counter "tars_mqtt_duplicates_total" ["filter"]
        "Duplicates of handled messages that were skipped";
    DROPPED: Counter "tars_mqtt_dropped_total" ["filter"]
        "QoS 0 messages dropped because a queue was full, and others that were lost while handlers were stuck";
    DEAD_LETTERED: Counter "tars_mqtt_dead_lettered_total" []
        "Messages handed to a dead-letter topic";
    UNROUTED: Counter "tars_mqtt_unrouted_total" []
        "Messages for which there was no subscription";
    COPIES: Counter "tars_mqtt_copies_total" []
        "Copies of one message that came once per overlapping filter";
    REPLIES_IGNORED: Counter "tars_mqtt_replies_ignored_total" []
        "Messages on a reply topic that no request waits for";
    ANSWERED_AGAIN: Counter "tars_mqtt_answered_again_total" []
        "Repeated requests that were answered with the reply of the first";

    BEATS: Counter "tars_mqtt_beats_total" []
        "Heartbeats that went out";
    HEARTBEAT: Histogram "tars_mqtt_heartbeat_seconds" []
        "From sending a heartbeat until it came back from the broker";
}
