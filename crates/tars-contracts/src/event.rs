//! [`Event`]: what a Rust type is on the wire, so that sending and receiving it needs no strings.
//!
//! Here are the rules of the topic and its parameters; what the derive takes is described in
//! `tars-macros`.

use std::fmt::Display;

use crate::topic::shortened;
use crate::{Envelope, QoS, TopicError, TopicFilter, TopicName};

/// The data of an event, tied to its event type, topic, QoS and retain flag.
///
/// It is derived, together with what serde needs:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tars_contracts::{Event, QoS};
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(type = "stt.final", topic = "stt/final", qos = 1)]
/// struct FinalTranscript {
///     text: String,
/// }
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(type = "health.status", topic = "system/health/{service}", qos = 1, retain)]
/// struct Health {
///     service: String,
///     ok: bool,
/// }
///
/// # fn main() -> Result<(), tars_contracts::TopicError> {
/// assert_eq!((FinalTranscript::TYPE, FinalTranscript::QOS), ("stt.final", QoS::AtLeastOnce));
/// let health = Health { service: "tts".into(), ok: true };
/// assert_eq!(health.topic()?.as_str(), "system/health/tts");
/// assert_eq!(Health::filter()?.as_str(), "system/health/+");
/// # Ok(())
/// # }
/// ```
///
/// # Parameters
/// A level `{field}` of the topic is a parameter. In the topic of an event stands the field's
/// [`Display`] text, in the filter `+`.
///
/// The field is data as every other one: it is written into the envelope and read from there, and
/// the topic of a received message is not looked at. A field that serde leaves out of the data
/// (`#[serde(skip)]`) travels in the topic alone: it is read from there, with
/// [`FromStr`](std::str::FromStr). That is for data whose other readers refuse unknown fields.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event: its event type and topic are not known",
    label = "not an event",
    note = "put `#[derive(Event)]` and `#[event(type = \"…\", topic = \"…\")]` on the struct, \
            beside serde's `Serialize` to send it and `Deserialize` to receive it"
)]
pub trait Event {
    /// The envelope's `type`, such as `stt.final`.
    const TYPE: &'static str;

    /// The topic, with its parameters as levels `{name}`.
    const TOPIC: &'static str;

    /// What it is published and subscribed with.
    const QOS: QoS = QoS::AtMostOnce;

    /// Whether the broker keeps the last one for later subscribers.
    const RETAIN: bool = false;

    /// The value of a parameter of the topic; `None` if there is no such parameter.
    fn parameter(&self, name: &str) -> Option<&dyn Display> {
        let _ = name;
        None
    }

    /// Takes the value of a parameter from a level of a received topic, if it is not read from the
    /// data. `false` if the text does not fit.
    fn set_parameter(&mut self, name: &str, level: &str) -> bool {
        let _ = (name, level);
        true
    }

    /// Where this event is published.
    ///
    /// # Errors
    /// [`InvalidParameter`](TopicError::InvalidParameter) when the value of a field is not exactly
    /// one level, [`TooLong`](TopicError::TooLong) when all of them are together. With an
    /// implementation by hand also [`UnknownParameter`](TopicError::UnknownParameter) and what is
    /// wrong with [`TOPIC`](Self::TOPIC).
    fn topic(&self) -> Result<TopicName, TopicError> {
        let mut topic = String::with_capacity(Self::TOPIC.len() + 16);
        for (index, level) in Self::TOPIC.split('/').enumerate() {
            if index > 0 {
                topic.push('/');
            }
            match parameter(level) {
                None => topic.push_str(level),
                Some(name) => topic.push_str(&value(self, name, index == 0)?),
            }
        }
        TopicName::new(topic)
    }

    /// What to subscribe with to get these events: the topic with `+` for each parameter.
    ///
    /// # Errors
    /// None with the derive, which has checked the topic; by hand, what is wrong with it.
    fn filter() -> Result<TopicFilter, TopicError> {
        // A topic has no wildcards of its own.
        TopicName::new(filled_with("p", Self::TOPIC))?;
        TopicFilter::new(filled_with("+", Self::TOPIC))
    }

    /// Takes the parameters that are not in the data from the topic of a received event.
    ///
    /// # Errors
    /// [`UnreadableParameter`](TopicError::UnreadableParameter).
    fn read_topic(&mut self, topic: &TopicName) -> Result<(), TopicError> {
        for (level, text) in Self::TOPIC.split('/').zip(topic.levels()) {
            if let Some(name) = parameter(level)
                && !self.set_parameter(name, text)
            {
                return Err(TopicError::UnreadableParameter {
                    parameter: name.to_owned(),
                    value: shortened(text),
                });
            }
        }
        Ok(())
    }
}

/// What a handler of events may take first: the event itself, or the [`Envelope`] around it.
///
/// It is implemented for both and for nothing else.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    note = "take a type with `#[derive(Event)]` and `#[event(type = \"…\", topic = \"…\")]`, or an `Envelope` of one"
)]
pub trait FromEnvelope: Sized {
    /// The event.
    type Event: Event;

    /// Takes what it needs.
    fn from_envelope(envelope: Envelope<Self::Event>) -> Self;
}

impl<E: Event> FromEnvelope for E {
    type Event = E;

    fn from_envelope(envelope: Envelope<E>) -> Self {
        envelope.data
    }
}

impl<E: Event> FromEnvelope for Envelope<E> {
    type Event = E;

    fn from_envelope(envelope: Self) -> Self {
        envelope
    }
}

/// The name in a level `{name}`.
fn parameter(level: &str) -> Option<&str> {
    level.strip_prefix('{')?.strip_suffix('}')
}

fn filled_with<'a>(value: &'a str, template: &'a str) -> String {
    let levels = template
        .split('/')
        .map(|level| parameter(level).map_or(level, |_| value));
    levels.collect::<Vec<_>>().join("/")
}

/// The value of a parameter, which has to be one level that the filter's `+` matches.
fn value<E: Event + ?Sized>(event: &E, name: &str, is_first: bool) -> Result<String, TopicError> {
    let Some(value) = event.parameter(name) else {
        return Err(TopicError::UnknownParameter {
            template: E::TOPIC.to_owned(),
            parameter: name.to_owned(),
        });
    };
    let value = value.to_string();
    // A wildcard at the beginning does not match `$` (MQTT 3.1.1 section 4.7.2).
    if value.is_empty() || value.contains(['/', '+', '#', '\0']) || is_first && value.starts_with('$') {
        return Err(TopicError::InvalidParameter {
            template: E::TOPIC.to_owned(),
            parameter: name.to_owned(),
            value: shortened(&value),
        });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Camera {
        room: String,
        number: u8,
    }

    impl Event for Camera {
        const TYPE: &'static str = "camera.frame";
        const TOPIC: &'static str = "{room}/camera/{number}/frame";

        fn parameter(&self, name: &str) -> Option<&dyn Display> {
            match name {
                "room" => Some(&self.room),
                "number" => Some(&self.number),
                _ => None,
            }
        }

        fn set_parameter(&mut self, name: &str, level: &str) -> bool {
            match name {
                "number" => level.parse().map(|number| self.number = number).is_ok(),
                _ => true,
            }
        }
    }

    fn camera(room: &str) -> Camera {
        Camera {
            room: room.to_owned(),
            number: 7,
        }
    }

    #[test]
    fn parameters_fill_their_levels() {
        assert_eq!(camera("hall").topic().unwrap().as_str(), "hall/camera/7/frame");
        assert_eq!(Camera::filter().unwrap().as_str(), "+/camera/+/frame");
        assert_eq!((Camera::QOS, Camera::RETAIN), (QoS::AtMostOnce, false));
    }

    #[test]
    fn every_topic_is_matched_by_the_filter() {
        let filter = Camera::filter().unwrap();
        for room in ["hall", "日本", " ", "a b", "{room}"] {
            assert!(filter.matches(&camera(room).topic().unwrap()), "{room}");
        }
        for room in ["", "a/b", "+", "a#", "nul\0", "$SYS"] {
            let error = camera(room).topic().unwrap_err();
            let TopicError::InvalidParameter { parameter, value, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!((parameter.as_str(), value.as_str()), ("room", room));
            assert!(error.to_string().contains("`room`"), "{error}");
        }
        let error = camera(&"x".repeat(70_000)).topic().unwrap_err();
        assert!(matches!(error, TopicError::TooLong { .. }));
    }

    #[test]
    fn a_level_is_read_where_the_event_takes_it() {
        let mut camera = camera("hall");
        camera.read_topic(&"other/camera/9/frame".parse().unwrap()).unwrap();
        assert_eq!((camera.room.as_str(), camera.number), ("hall", 9));
        let error = camera
            .read_topic(&"hall/camera/nine/frame".parse().unwrap())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the level \"nine\" of the topic does not fit the field `number`"
        );
    }

    struct Wrong;

    impl Event for Wrong {
        const TYPE: &'static str = "wrong";
        const TOPIC: &'static str = "a/{b}/#";
    }

    #[test]
    fn a_topic_written_by_hand_is_checked() {
        assert!(matches!(Wrong::filter(), Err(TopicError::WildcardInName { .. })));
        assert!(matches!(Wrong.topic(), Err(TopicError::UnknownParameter { .. })));
    }

    #[test]
    fn a_handler_takes_the_event_or_its_envelope() {
        let envelope = || Envelope::new(Camera::TYPE, "test", camera("hall"));
        assert_eq!(Camera::from_envelope(envelope()).room, "hall");
        assert_eq!(Envelope::<Camera>::from_envelope(envelope()).source, "test");
    }
}
