//! What an operator has to know: the story of a connection at INFO, and trouble, said once
//! per burst. What is not said aloud is said at DEBUG.

use tars_ports::Error;
use tokio::time::Instant;

use super::Session;
use crate::dispatch::Complaint;
use crate::shared::Shared;
use crate::spans::ms;

/// So many short-lived connections in a row look like a second client with the same id.
pub(super) const CONTESTED: u32 = 3;

/// At this level if it is said aloud, else at DEBUG.
macro_rules! said {
    ($aloud:expr, $level:ident, $($fields:tt)*) => {
        if $aloud {
            tracing::$level!($($fields)*)
        } else {
            tracing::debug!($($fields)*)
        }
    };
}

/// From the end of a link until what waited for the next one is settled.
pub(super) struct Outage {
    began: Instant,
    failed_before: u64,
    /// How many publishes waited, and the number before which they are.
    waited: Option<(usize, u64)>,
}

impl Outage {
    pub(super) fn begin(shared: &Shared) -> Self {
        Self {
            began: Instant::now(),
            failed_before: shared.stats.publish_failed.value(),
            waited: None,
        }
    }
}

impl Session {
    /// Whether the link is not known to flap.
    fn is_steady(&self) -> bool {
        self.short_lived < CONTESTED
    }

    pub(super) fn say_connecting(&self) {
        let config = &self.shared.config;
        tracing::info!(client_id = %config.client_id, broker = %config.broker, "connecting");
    }

    pub(super) fn say_connected(&mut self, session_present: bool, again: bool) {
        let config = &self.shared.config;
        let (client_id, broker) = (&config.client_id, &config.broker);
        if !again {
            return tracing::info!(%client_id, %broker, session_present, "connected");
        }
        let unsettled = self.shared.outbox.len();
        let down_for_ms = self.outage.as_ref().map(|outage| ms(outage.began.elapsed()));
        said!(
            self.is_steady(), info,
            %client_id, %broker, session_present, down_for_ms, unsettled, "reconnected",
        );
        if let Some(outage) = &mut self.outage {
            outage.waited = Some((unsettled, self.shared.outbox.next_number()));
        }
    }

    /// What waited for the connection is settled: the end of the story of an outage.
    pub(super) fn say_caught_up(&mut self) {
        let waited = self.outage.as_ref().and_then(|outage| outage.waited);
        let Some((publishes, before)) = waited else {
            return;
        };
        if !self.shared.outbox.is_settled_before(before) {
            return;
        }
        if let Some(outage) = self.outage.take()
            && publishes > 0
        {
            let failed = self.shared.stats.publish_failed.value() - outage.failed_before;
            said!(
                self.is_steady(), info,
                client_id = %self.shared.config.client_id, publishes, failed,
                longest_ms = ms(outage.began.elapsed()),
                "what waited for the connection is settled",
            );
        }
    }

    pub(super) fn say_next_attempt(&self, aloud: bool, delay: std::time::Duration) {
        let (client_id, attempt) = (&self.shared.config.client_id, self.backoff.attempt());
        said!(aloud, info, %client_id, attempt, delay_ms = ms(delay), "the next attempt to connect is set");
    }

    /// Messages that are not finished hold others up.
    pub(super) fn complain(&self) {
        let config = &self.shared.config;
        let complaint = self
            .shared
            .work
            .complaint(config.inbound_messages, config.inbound_bytes);
        let Some((complaint, oldest)) = complaint else {
            return;
        };
        let topic = &oldest.topic;
        let filter = oldest.filter.as_ref().map(tracing::field::display);
        let age_ms = ms(oldest.age);
        match complaint {
            Complaint::Full => tracing::warn!(
                oldest = %topic, filter, age_ms, messages = config.inbound_messages, bytes = config.inbound_bytes,
                "the inbound budget is reached: no more is taken in until handlers have finished something",
            ),
            Complaint::Long => tracing::warn!(
                oldest = %topic, filter, age_ms,
                "a message has not been finished for long: it holds back the acknowledgements behind it",
            ),
        }
    }

    /// An attempt to connect failed, and another one follows. Returns whether it was said aloud.
    pub(super) fn say_failed_attempt(&self, error: &Error) -> bool {
        // What does not heal by waiting is said each time: it needs a person.
        let unsaid = self.connect_failures.say();
        let aloud = unsaid.is_some() || !error.is_transient();
        said!(aloud, warn, client_id = %self.shared.config.client_id, %error, unsaid, "could not connect");
        aloud
    }

    /// The link was lost. A link that flaps is said once, when it is known to. Returns whether
    /// it was said aloud.
    pub(super) fn say_lost_link(&self, reason: &Error) -> bool {
        let (client_id, unsettled) = (&self.shared.config.client_id, self.shared.outbox.len());
        said!(self.is_steady(), warn, %client_id, %reason, unsettled, "the connection was lost");
        self.is_steady()
    }
}
