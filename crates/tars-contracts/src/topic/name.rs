//! [`TopicName`]: where a message is published.

use std::str::Split;
use std::sync::Arc;

use super::{check_text, impl_text, shortened};
use crate::TopicError;

/// A topic name (MQTT 3.1.1 section 4.7): 1 to 65,535 bytes of UTF-8 without wildcards and without
/// U+0000. A clone shares the text.
///
/// ```
/// use tars_contracts::TopicName;
///
/// let topic = TopicName::new("stt/final").unwrap();
/// assert_eq!(topic.levels().count(), 2);
/// assert!(TopicName::new("stt/+").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks `name` and takes it over.
    ///
    /// # Errors
    /// [`Empty`](TopicError::Empty), [`TooLong`](TopicError::TooLong),
    /// [`NulCharacter`](TopicError::NulCharacter), [`WildcardInName`](TopicError::WildcardInName).
    pub fn new(name: impl AsRef<str>) -> Result<Self, TopicError> {
        let name = name.as_ref();
        check_text(name)?;
        if name.contains(['+', '#']) {
            return Err(TopicError::WildcardInName { topic: shortened(name) });
        }
        Ok(Self(name.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands between the slashes; `a//b` has an empty level, `/a` begins with one.
    pub fn levels(&self) -> Split<'_, char> {
        self.0.split('/')
    }

    pub(super) fn into_text(self) -> Arc<str> {
        self.0
    }
}

impl_text!(TopicName);

/// `prefix` followed by a client id as one level.
pub(crate) fn with_client_id(prefix: &str, client_id: &str) -> Result<TopicName, TopicError> {
    if client_id.is_empty() {
        return Err(TopicError::Empty);
    }
    if client_id.contains(['/', '+', '#']) {
        return Err(TopicError::NotOneLevel {
            topic: shortened(client_id),
        });
    }
    TopicName::new(format!("{prefix}{client_id}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(TopicName::new(""), Err(TopicError::Empty));
        assert!(TopicName::new("ä".repeat(32_767)).is_ok());
        assert!(TopicName::new("a".repeat(65_535)).is_ok());
        let error = TopicName::new("a".repeat(65_536)).unwrap_err();
        assert!(matches!(error, TopicError::TooLong { len: 65_536, .. }));
        assert!(error.to_string().len() < 200, "{error}");
    }

    #[test]
    fn characters() {
        assert!(matches!(TopicName::new("a\0"), Err(TopicError::NulCharacter { .. })));
        for name in ["+", "a/#", "a+b", "#"] {
            assert!(matches!(TopicName::new(name), Err(TopicError::WildcardInName { .. })));
        }
        for name in ["/", "//", " ", "$SYS/x", "日本/é", "a/b/"] {
            assert_eq!(TopicName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_client_id_is_one_level() {
        assert_eq!(with_client_id("p/", "me").unwrap().as_str(), "p/me");
        assert_eq!(with_client_id("p/", ""), Err(TopicError::Empty));
        for id in ["a/b", "+", "a#"] {
            assert!(matches!(with_client_id("p/", id), Err(TopicError::NotOneLevel { .. })));
        }
    }

    #[test]
    fn serde_checks() {
        let name: TopicName = serde_json::from_str(r#""a\/b""#).unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), r#""a/b""#);
        assert!(serde_json::from_str::<TopicName>(r#""a/#""#).is_err());
    }
}
