//! Health: what a service reports about itself, as the data of a retained envelope on
//! `system/health/{client_id}`, at QoS 1.

use serde::{Deserialize, Serialize};

use crate::envelope::{fresh_id, unix_now};
use crate::{TopicError, TopicName, topic};

/// The event type of a health envelope.
pub const HEALTH_EVENT_TYPE: &str = "health.status";

/// What a health topic begins with; the client id follows.
pub const HEALTH_TOPIC_PREFIX: &str = "system/health/";

/// Where the client `client_id` reports its health.
///
/// # Errors
/// If the client id is empty, or cannot be one level of a topic because it contains `/`, `+`, `#`
/// or U+0000, or is too long.
pub fn health_topic(client_id: &str) -> Result<TopicName, TopicError> {
    topic::with_client_id(HEALTH_TOPIC_PREFIX, client_id)
}

/// Whether a service is well, and what brought it there.
///
/// ```
/// use tars_contracts::{Envelope, HEALTH_EVENT_TYPE, HealthStatus};
///
/// # fn main() -> Result<(), tars_contracts::ContractError> {
/// let status = HealthStatus::new(false).with_event("offline").with_error("connection lost");
/// let bytes = Envelope::new(HEALTH_EVENT_TYPE, "stt", status).to_bytes()?;
///
/// let read = Envelope::<HealthStatus>::from_bytes(&bytes)?;
/// assert!(!read.data.ok);
/// assert_eq!(read.data.error.as_deref(), Some("connection lost"));
/// # Ok(())
/// # }
/// ```
///
/// `Serialize` writes [`HealthFormat::Reference`]. Reading takes either format: `err` stands in for
/// an absent `error`, other fields are ignored, and an absent `timestamp` is the current time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Wire")]
pub struct HealthStatus {
    /// Whether the service is well.
    pub ok: bool,
    /// What happened, such as `connected` or `shutdown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When, in Unix seconds.
    pub timestamp: f64,
}

impl HealthStatus {
    /// A status as of now, without event or error.
    pub fn new(ok: bool) -> Self {
        Self {
            ok,
            event: None,
            error: None,
            timestamp: unix_now(),
        }
    }

    /// Says what happened.
    #[must_use]
    pub fn with_event(mut self, event: impl Into<String>) -> Self {
        self.event = Some(event.into());
        self
    }

    /// Says what went wrong.
    #[must_use]
    pub fn with_error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }

    /// The status as `format` writes it, to be an envelope's data. In
    /// [`HealthFormat::Original`] each call makes a new message id.
    pub fn in_format(&self, format: HealthFormat) -> impl Serialize + '_ {
        match format {
            HealthFormat::Reference => Formatted::Reference(self),
            HealthFormat::Original => Formatted::Original {
                message_id: fresh_id(),
                ok: self.ok,
                event: self.event.as_deref(),
                err: self.error.as_deref(),
                timestamp: self.timestamp,
            },
        }
    }
}

/// How health is written. Both are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthFormat {
    /// `{"ok", "event"?, "error"?, "timestamp"}`.
    #[default]
    Reference,
    /// `{"message_id", "ok", "event"?, "err"?, "timestamp"}`: what the original Python services
    /// write, and the only fields that some of them accept.
    Original,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Formatted<'a> {
    Reference(&'a HealthStatus),
    Original {
        message_id: String,
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        event: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        err: Option<&'a str>,
        timestamp: f64,
    },
}

/// Either format, as read. An alias would refuse a status that has both `error` and `err`.
#[derive(Deserialize)]
struct Wire {
    ok: bool,
    event: Option<String>,
    error: Option<String>,
    err: Option<String>,
    timestamp: Option<f64>,
}

impl From<Wire> for HealthStatus {
    fn from(wire: Wire) -> Self {
        Self {
            ok: wire.ok,
            event: wire.event,
            error: wire.error.or(wire.err),
            timestamp: wire.timestamp.unwrap_or_else(unix_now),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_format_has_its_fields() {
        let mut status = HealthStatus::new(true).with_event("ready");
        status.timestamp = 5.5;
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            r#"{"ok":true,"event":"ready","timestamp":5.5}"#
        );
        let status = status.with_error("boom");
        let original = serde_json::to_string(&status.in_format(HealthFormat::Original)).unwrap();
        assert!(original.starts_with(r#"{"message_id":""#), "{original}");
        assert!(
            original.ends_with(r#"","ok":true,"event":"ready","err":"boom","timestamp":5.5}"#),
            "{original}"
        );
        let reference = status.in_format(HealthFormat::Reference);
        assert_eq!(
            serde_json::to_string(&reference).unwrap(),
            serde_json::to_string(&status).unwrap()
        );
    }

    #[test]
    fn error_goes_before_err() {
        let status: HealthStatus = serde_json::from_str(r#"{"err":"b","ok":false,"error":"a","x":[]}"#).unwrap();
        assert_eq!(status.error.as_deref(), Some("a"));
        assert!(status.timestamp > 0.0);
    }
}
