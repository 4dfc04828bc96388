//! What can be wrong with an envelope, and what can be wrong with a topic.
//!
//! Invariant: a [`ContractError`] from reading never contains text of the payload, so that it can
//! be logged. It may name our own fields and the type that was expected.

use std::convert::Infallible;

use thiserror::Error;

/// Why an envelope, health status or heartbeat could not be written or read.
///
/// When writing, the caller's data is at fault; when reading, the peer's. None of them heals by
/// trying again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ContractError {
    /// The event type is the empty string.
    #[error("the event type is empty; name one, such as `stt.final`")]
    EmptyType,
    /// `data` is something else than a JSON object: an array, a string, `null` …
    #[error("`data` is not a JSON object; use a struct with named fields or a map")]
    DataNotObject,
    /// The time stamp is NaN or infinite, which JSON cannot say.
    #[error("`ts` is not a finite number")]
    InvalidTimestamp,
    /// The event data refused to be serialised. Its `Serialize` implementation says why.
    #[error("the event data cannot be written as JSON: {0}")]
    Serialize(#[source] serde_json::Error),
    /// The bytes are not JSON: malformed, cut off, empty, or not UTF-8.
    #[error("not valid JSON: {reason} at byte {offset}")]
    InvalidJson {
        /// What the parser met.
        reason: String,
        /// Where, in bytes from the start; 0 when the parser cannot tell.
        offset: usize,
    },
    /// The bytes are JSON, but do not fit the type to be read. Values are left out of `reason`.
    #[error("the JSON does not fit the expected type: {reason}")]
    Deserialize {
        /// Which kind of value was met, and what was expected.
        reason: String,
    },
    /// Arrays and objects are nested deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    #[error("the JSON is nested deeper than {limit} levels")]
    TooDeep {
        /// The limit, in levels.
        limit: usize,
    },
    /// A field that every envelope has is not there.
    #[error("not an envelope: the field `{field}` is missing")]
    MissingField {
        /// The field's name on the wire.
        field: &'static str,
    },
}

/// Why a text is not a topic name or topic filter (MQTT 3.1.1 section 4.7).
///
/// Each message shows the text, cut short and with control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TopicError {
    /// Nothing there: a topic has at least one character.
    #[error("topic \"\" is empty; it needs at least one character")]
    Empty,
    /// More than 65,535 bytes of UTF-8.
    #[error("topic {topic:?} has {len} bytes; at most 65535 fit")]
    TooLong {
        /// The beginning of the topic.
        topic: String,
        /// Its length in bytes.
        len: usize,
    },
    /// It contains U+0000.
    #[error("topic {topic:?} contains the character U+0000")]
    NulCharacter {
        /// The topic, cut short.
        topic: String,
    },
    /// A topic name contains `+` or `#`, which only filters may.
    #[error("topic name {topic:?} contains a wildcard; `+` and `#` are for subscribing only")]
    WildcardInName {
        /// The topic, cut short.
        topic: String,
    },
    /// `#` is not the whole last level of a filter, or `+` is not a whole level.
    #[error("topic filter {topic:?} has a misplaced wildcard; `+` fills a level, `#` fills the last one")]
    MisplacedWildcard {
        /// The filter, cut short.
        topic: String,
    },
    /// A filter begins with `$share/` and is not `$share/group/filter`.
    #[error(
        "topic filter {topic:?} is not a shared subscription; \
         expected `$share/group/filter` with a group without wildcards"
    )]
    InvalidShare {
        /// The filter, cut short.
        topic: String,
    },
    /// A parameter of an [`Event`](crate::Event)'s topic has a value that cannot be one level.
    #[error(
        "topic {template:?} cannot be filled: its parameter `{parameter}` is {value:?}, and needs to be \
         one level: not empty, without `/`, `+`, `#` and U+0000, at the beginning without `$`"
    )]
    InvalidParameter {
        /// The topic with its parameters.
        template: String,
        /// The parameter, which is the field's name.
        parameter: String,
        /// Its value, cut short.
        value: String,
    },
    /// A topic has a parameter that its [`Event`](crate::Event) gives no value for.
    #[error("topic {template:?} cannot be filled: the event has no value for its parameter `{parameter}`")]
    UnknownParameter {
        /// The topic with its parameters.
        template: String,
        /// The parameter.
        parameter: String,
    },
    /// A level of a received topic does not fit the field that it is for.
    #[error("the level {value:?} of the topic does not fit the field `{parameter}`")]
    UnreadableParameter {
        /// The parameter, which is the field's name.
        parameter: String,
        /// The level, cut short.
        value: String,
    },
    /// A client id that is to become one level of a topic contains `/`, `+` or `#`.
    #[error("client id {topic:?} cannot stand in a topic; it must not contain `/`, `+` or `#`")]
    NotOneLevel {
        /// The client id, cut short.
        topic: String,
    },
}

/// Lets a function take `impl TryInto<TopicFilter>`, be it text or a value that is valid already.
impl From<Infallible> for TopicError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_errors_show_the_topic() {
        let error = TopicError::NulCharacter { topic: "a\0b".into() };
        assert!(error.to_string().contains(r"a\0b"), "{error}");
    }
}
