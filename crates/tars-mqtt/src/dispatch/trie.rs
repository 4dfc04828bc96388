//! Which subscriptions does a topic reach? A trie of topic levels: the cost grows
//! with the topic's depth, not with the number of subscriptions.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use tars_contracts::{TopicFilter, TopicName};

/// Values by topic filter, found by topic name (MQTT 3.1.1 section 4.7).
#[derive(Debug)]
pub(crate) struct Trie<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    /// What is in it is what the service subscribed; so who publishes chooses no collisions.
    children: HashMap<Box<str>, Node<T>, RandomState>,
    /// Below `+`.
    any: Option<Box<Node<T>>>,
    /// Filters that end here.
    here: Vec<T>,
    /// Filters that end in `#` here.
    rest: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            children: HashMap::default(),
            any: None,
            here: Vec::new(),
            rest: Vec::new(),
        }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }

    fn remove<'a>(&mut self, mut levels: impl Iterator<Item = &'a str>, gone: &mut impl FnMut(&T) -> bool) {
        match levels.next() {
            None => self.here.retain(|value| !gone(value)),
            Some("#") => self.rest.retain(|value| !gone(value)),
            Some("+") => {
                if let Some(node) = &mut self.any {
                    node.remove(levels, gone);
                    if node.is_empty() {
                        self.any = None;
                    }
                }
            }
            Some(level) => {
                if let Some(node) = self.children.get_mut(level) {
                    node.remove(levels, gone);
                    if node.is_empty() {
                        self.children.remove(level);
                    }
                }
            }
        }
    }

    fn matches(&self, rest: Option<&str>, wildcards: bool, found: &mut impl FnMut(&T)) {
        // `a/#` matches `a` as well, so `rest` counts at the end of the topic too.
        if wildcards {
            self.rest.iter().for_each(&mut *found);
        }
        let Some(rest) = rest else {
            self.here.iter().for_each(found);
            return;
        };
        let (level, below) = match rest.split_once('/') {
            Some((level, below)) => (level, Some(below)),
            None => (rest, None),
        };
        if let Some(node) = self.children.get(level) {
            node.matches(below, true, found);
        }
        if wildcards && let Some(node) = &self.any {
            node.matches(below, true, found);
        }
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> Trie<T> {
    /// Adds a value; several may stand under one filter.
    pub(crate) fn insert(&mut self, filter: &TopicFilter, value: T) {
        let mut node = &mut self.root;
        for level in filter.levels() {
            node = match level {
                "#" => return node.rest.push(value),
                "+" => node.any.get_or_insert_default(),
                level => {
                    if !node.children.contains_key(level) {
                        node.children.insert(level.into(), Node::default());
                    }
                    node.children.get_mut(level).expect("inserted above")
                }
            };
        }
        node.here.push(value);
    }

    /// Removes the values under this filter for which `gone` holds, and the branches left empty.
    pub(crate) fn remove(&mut self, filter: &TopicFilter, mut gone: impl FnMut(&T) -> bool) {
        self.root.remove(filter.levels(), &mut gone);
    }

    /// Calls `found` with every value whose filter matches, each once.
    pub(crate) fn for_each_match(&self, topic: &TopicName, mut found: impl FnMut(&T)) {
        let topic = topic.as_str();
        // A leading wildcard does not reach topics that begin with `$` (section 4.7.2).
        self.root.matches(Some(topic), !topic.starts_with('$'), &mut found);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(filters: &[TopicFilter], topic: &TopicName) -> Vec<usize> {
        let mut trie = Trie::default();
        for (i, filter) in filters.iter().enumerate() {
            trie.insert(filter, i);
        }
        let mut found = Vec::new();
        trie.for_each_match(topic, |i| found.push(*i));
        found.sort_unstable();
        found
    }

    #[test]
    fn an_emptied_trie_holds_nothing() {
        let mut trie = Trie::default();
        let filters: Vec<TopicFilter> = ["a/b", "a/+/c", "#", "a/#", "+"]
            .iter()
            .map(|f| f.parse().unwrap())
            .collect();
        for filter in &filters {
            trie.insert(filter, 1);
        }
        for filter in &filters {
            trie.remove(filter, |_| true);
        }
        assert!(trie.root.is_empty());
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just(""), Just("$x"), Just("é")]
    }

    prop_compose! {
        fn topic()(levels in proptest::collection::vec(level(), 1..5)) -> String { levels.join("/") }
    }

    prop_compose! {
        fn filter()(
            levels in proptest::collection::vec(prop_oneof![3 => level(), 1 => Just("+")], 1..5),
            hash in proptest::bool::weighted(0.3),
        ) -> String {
            let mut text = levels.join("/");
            if hash { text.push_str("/#"); }
            text
        }
    }

    proptest! {
        #[test]
        fn finds_exactly_the_filters_that_match(
            filters in proptest::collection::vec(filter(), 1..30), topic in topic(),
        ) {
            let filters: Vec<TopicFilter> = filters.iter().filter_map(|f| f.parse().ok()).collect();
            let Ok(topic) = topic.parse::<TopicName>() else { return Ok(()) };
            let naive: Vec<usize> =
                filters.iter().enumerate().filter(|(_, f)| f.matches(&topic)).map(|(i, _)| i).collect();
            prop_assert_eq!(matches(&filters, &topic), naive);
        }
    }
}
