//! What an operator has to know, said once per burst.

use tars_ports::Error;

use super::Session;
use crate::dispatch::Complaint;

/// So many short-lived connections in a row look like a second client with the same id.
pub(super) const CONTESTED: u32 = 3;

impl Session {
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
        let age = oldest.age;
        match complaint {
            Complaint::Full => tracing::warn!(
                oldest = %topic, filter, ?age, messages = config.inbound_messages, bytes = config.inbound_bytes,
                "the inbound budget is reached: no more is taken in until handlers have finished something",
            ),
            Complaint::Long => tracing::warn!(
                oldest = %topic, filter, ?age,
                "a message has not been finished for long: it holds back the acknowledgements behind it",
            ),
        }
    }

    /// An attempt to connect failed, and another one follows.
    pub(super) fn say_failed_attempt(&self, error: &Error) {
        // What does not heal by waiting is said each time: it needs a person.
        let unsaid = self.connect_failures.say();
        if unsaid.is_some() || !error.is_transient() {
            tracing::warn!(%error, unsaid, "could not connect");
        } else {
            tracing::debug!(%error, "could not connect");
        }
    }

    /// The link was lost. A link that flaps is said once, when it is known to.
    pub(super) fn say_lost_link(&self, reason: &Error) {
        let client_id = &self.shared.config.client_id;
        if self.short_lived < CONTESTED {
            tracing::warn!(%client_id, %reason, "the connection was lost");
        } else {
            tracing::debug!(%client_id, %reason, "the connection was lost");
        }
    }
}
