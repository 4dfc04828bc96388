//! The answer to a request that could not be served.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};
use tars_contracts::{Envelope, EnvelopeHead};
use tars_ports::{Error, ErrorKind};

/// An error as an answer: an event of type `{reply type}.error` with these as its data.
///
/// The requester gets it as an [`Error`] of the kind [`ErrorKind::ErrorReply`] and finds
/// the peer's words with [`ErrorReply::of`]. A responder that returns one chooses its
/// `kind`; see [`Client::respond`](crate::Client::respond).
///
/// ```
/// use tars_mqtt::{Client, Error, ErrorReply};
///
/// # #[derive(serde::Deserialize)] struct Answer {}
/// # async fn example(client: Client) -> Result<(), Error> {
/// let asked = client
///     .request::<Answer>("memory/query", "memory.query", &serde_json::json!({"query": "tea"}))
///     .reply_on("memory/results")
///     .await;
/// if let Err(error) = &asked && ErrorReply::of(error).is_some_and(|reply| reply.kind == "not_found") {
///     println!("nothing about tea");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorReply {
    /// What went wrong, for a person.
    #[serde(default)]
    pub error: String,
    /// What went wrong, for code: a short word that the peers agree on.
    #[serde(default)]
    pub kind: String,
}

impl ErrorReply {
    /// With a word for code and a sentence for a person.
    pub fn new(kind: impl Into<String>, error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            kind: kind.into(),
        }
    }

    /// What the peer said, if that is what `error` is about.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        error.source()?.downcast_ref()
    }

    /// The error that a payload is, if it is an error reply.
    pub(crate) fn read(payload: &[u8]) -> Option<Error> {
        let head = EnvelopeHead::peek(payload)?;
        let event_type = head.event_type?;
        event_type.strip_suffix(".error")?;
        let reply = Envelope::<Self>::from_bytes(payload).map_or_else(
            |_| Self::new("error", "the peer answered with an error that says nothing"),
            |envelope| envelope.data,
        );
        let what = format!("the peer answered with {event_type}: {reply}");
        Some(Error::new(ErrorKind::ErrorReply, what).with_source(reply))
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.error, self.kind)
    }
}

impl StdError for ErrorReply {}
