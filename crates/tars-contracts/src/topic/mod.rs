//! Topics as MQTT 3.1.1 section 4.7 has them: names to publish to, filters to subscribe with.
//!
//! Both are checked when they are made and cheap to clone, so that no code behind them needs to ask
//! again whether a topic is valid.

mod filter;
mod name;

pub use filter::TopicFilter;
pub use name::TopicName;
pub(crate) use name::with_client_id;

use crate::TopicError;

/// The checks that names and filters have in common.
fn check_text(topic: &str) -> Result<(), TopicError> {
    match topic.len() {
        0 => Err(TopicError::Empty),
        // The length stands in two bytes on the wire (section 1.5.3).
        len if len > usize::from(u16::MAX) => Err(TopicError::TooLong {
            topic: shortened(topic),
            len,
        }),
        _ if topic.contains('\0') => Err(TopicError::NulCharacter {
            topic: shortened(topic),
        }),
        _ => Ok(()),
    }
}

/// As much of a topic as an error message should show.
pub(crate) fn shortened(topic: &str) -> String {
    match topic.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &topic[..end]),
        None => topic.to_owned(),
    }
}

/// What a validated text has, whatever the rule it obeys: ways in that check, ways out as text.
macro_rules! impl_text {
    ($type:ident) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::TopicError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = $crate::TopicError;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = $crate::TopicError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl TryFrom<&String> for $type {
            type Error = $crate::TopicError;

            fn try_from(text: &String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}
use impl_text;
