//! [`TopicFilter`]: what to subscribe to, and how filters relate to topics and to each other.

use std::str::Split;
use std::sync::Arc;

use super::{check_text, impl_text, shortened};
use crate::{TopicError, TopicName};

const SHARE: &str = "$share/";

/// A topic filter (MQTT 3.1.1 section 4.7), shared (`$share/group/filter`) or not. A clone shares
/// the text.
///
/// A shared filter is matched and compared by the filter inside it; only the broker cares for the
/// group. A filter that begins with a wildcard matches no topic that begins with `$`.
///
/// ```
/// use tars_contracts::{TopicFilter, TopicName};
///
/// let filter = TopicFilter::new("$share/workers/stt/#").unwrap();
/// assert_eq!(filter.share_group(), Some("workers"));
/// assert_eq!(filter.inner(), "stt/#");
/// assert!(filter.matches(&TopicName::new("stt").unwrap()));
/// assert!(filter.matches(&TopicName::new("stt/final").unwrap()));
/// assert!(!filter.matches(&TopicName::new("sttx").unwrap()));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicFilter {
    text: Arc<str>,
    /// Where the filter inside begins: 0 unless shared.
    inner: usize,
}

impl TopicFilter {
    /// Checks `filter` and takes it over.
    ///
    /// # Errors
    /// [`Empty`](TopicError::Empty), [`TooLong`](TopicError::TooLong),
    /// [`NulCharacter`](TopicError::NulCharacter),
    /// [`MisplacedWildcard`](TopicError::MisplacedWildcard): `#` only as the whole last level, `+`
    /// only as a whole level; [`InvalidShare`](TopicError::InvalidShare): after `$share/` stands a
    /// group that is not empty and has no wildcard, and a filter.
    pub fn new(filter: impl AsRef<str>) -> Result<Self, TopicError> {
        let text = filter.as_ref();
        check_text(text)?;
        let inner = match text.strip_prefix(SHARE) {
            None => 0,
            Some(shared) => match shared.split_once('/') {
                Some((group, inner)) if !group.is_empty() && !group.contains(['+', '#']) && !inner.is_empty() => {
                    text.len() - inner.len()
                }
                _ => {
                    return Err(TopicError::InvalidShare { topic: shortened(text) });
                }
            },
        };
        let mut levels = text[inner..].split('/').peekable();
        while let Some(level) = levels.next() {
            let valid = match level {
                "+" => true,
                "#" => levels.peek().is_none(),
                _ => !level.contains(['+', '#']),
            };
            if !valid {
                return Err(TopicError::MisplacedWildcard { topic: shortened(text) });
            }
        }
        Ok(Self {
            text: text.into(),
            inner,
        })
    }

    /// The whole text, as it goes into SUBSCRIBE.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The filter without `$share/group/`.
    pub fn inner(&self) -> &str {
        &self.text[self.inner..]
    }

    /// The group of a shared subscription.
    pub fn share_group(&self) -> Option<&str> {
        (self.inner > 0).then(|| &self.text[SHARE.len()..self.inner - 1])
    }

    /// The levels of the [inner](Self::inner) filter; `+` and `#` are levels like any other here.
    pub fn levels(&self) -> Split<'_, char> {
        self.inner().split('/')
    }

    /// Whether a level is `+` or `#`.
    pub fn has_wildcards(&self) -> bool {
        self.inner().contains(['+', '#'])
    }

    /// Whether a message on `topic` is for this filter.
    pub fn matches(&self, topic: &TopicName) -> bool {
        self.matches_str(topic.as_str())
    }

    /// As [`matches`](Self::matches), for text that is known to be a topic name.
    pub fn matches_str(&self, topic: &str) -> bool {
        if self.hides_from(topic) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in self.levels() {
            // `a/#` matches `a` too, so `#` may find nothing left.
            if wanted == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether every topic that `other` matches is matched by this filter too.
    pub fn covers(&self, other: &Self) -> bool {
        if self.hides_from(other.inner()) {
            return false;
        }
        let mut theirs = other.canonical_levels();
        for wanted in self.canonical_levels() {
            if wanted == "#" {
                return true;
            }
            match theirs.next() {
                Some("#") => return false,
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Whether some topic is matched by both filters.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.hides_from(other.inner()) || other.hides_from(self.inner()) {
            return false;
        }
        let (mut mine, mut theirs) = (self.canonical_levels(), other.canonical_levels());
        loop {
            match (mine.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
                _ => return false,
            }
        }
    }

    /// The levels of one filter for all that match the same topics. There are two such pairs, and
    /// both because no topic is empty.
    fn canonical_levels(&self) -> Split<'_, char> {
        let canonical = match self.inner() {
            "+/#" => "#",
            "/#" => "/+/#",
            inner => inner,
        };
        canonical.split('/')
    }

    /// Section 4.7.2: a filter that begins with a wildcard sees no topic that begins with `$`.
    fn hides_from(&self, topic: &str) -> bool {
        topic.starts_with('$') && self.inner().starts_with(['+', '#'])
    }
}

impl_text!(TopicFilter);

/// The filter that matches exactly this topic.
///
/// A name that begins with `$share/` becomes a filter that matches here as the name says; a broker
/// would take it for a shared subscription. No broker delivers on such a name.
impl From<TopicName> for TopicFilter {
    fn from(name: TopicName) -> Self {
        Self {
            text: name.into_text(),
            inner: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    #[test]
    fn shared_filters() {
        for text in [
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/",
            "$share/+/a",
            "$share/g#/a",
        ] {
            let error = TopicFilter::new(text).unwrap_err();
            assert!(matches!(error, TopicError::InvalidShare { .. }), "{text}");
        }
        assert!(matches!(
            TopicFilter::new("$share/g/a#"),
            Err(TopicError::MisplacedWildcard { .. })
        ));
        let shared = filter("$share/g//a");
        assert_eq!((shared.share_group(), shared.inner()), (Some("g"), "/a"));
        assert!(!shared.has_wildcards());
        // Only with the slash it is the beginning of a shared subscription.
        assert_eq!(filter("$share").share_group(), None);
        assert!(filter("$share/g/#").matches_str("a"));
        assert!(!filter("$share/g/#").matches_str("$SYS/a"));
    }

    #[test]
    fn covering() {
        for (wide, narrow, covers) in [
            ("#", "a/+/b", true),
            ("#", "$SYS/#", false),
            ("+/#", "#", true),
            ("a/+/#", "a/#", false),
            ("a/#", "a", true),
            ("a/#", "a/#", true),
            ("a/+", "a/#", false),
            ("+", "a", true),
            ("a", "+", false),
            ("$share/g/a/#", "$share/h/a/b", true),
            ("$SYS/#", "$SYS/a", true),
        ] {
            assert_eq!(filter(wide).covers(&filter(narrow)), covers, "{wide} {narrow}");
        }
    }

    #[test]
    fn overlapping() {
        for (a, b, overlaps) in [
            ("a/+", "+/b", true),
            ("a/#", "a", true),
            ("a/+/#", "a", false),
            ("#", "$SYS/#", false),
            ("+/x", "$SYS/x", false),
            ("a/b", "a/c", false),
            ("$share/g/a/+", "a/b", true),
        ] {
            assert_eq!(filter(a).overlaps(&filter(b)), overlaps, "{a} {b}");
            assert_eq!(filter(b).overlaps(&filter(a)), overlaps, "{b} {a}");
        }
    }

    #[test]
    fn a_name_is_a_filter() {
        let name = TopicName::new("a/b").unwrap();
        let from_name = TopicFilter::from(name.clone());
        assert!(from_name.matches(&name));
        assert_eq!(from_name, filter("a/b"));
    }
}
