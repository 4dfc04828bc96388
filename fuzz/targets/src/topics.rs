//! Topic names and filters against the words of the standard (MQTT 3.1.1 section 4.7), and the
//! routing of the facade against both.

use tars_contracts::{TopicFilter, TopicName};

#[path = "../../../crates/tars-mqtt/src/dispatch/trie.rs"]
#[allow(dead_code)]
mod trie;

/// Lines: filters, and the last one a topic.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (filters, topic) = text.rsplit_once('\n').unwrap_or(("a/#", text));
    let topic_is_good = is_text(topic) && !topic.contains(['+', '#']);
    assert_eq!(TopicName::new(topic).is_ok(), topic_is_good, "{topic:?}");
    let topic = TopicName::new(topic).ok();

    let mut good = Vec::new();
    for filter in filters.split('\n').take(64) {
        match TopicFilter::new(filter) {
            Ok(parsed) => {
                let inner = inner(filter).expect("a filter that was taken");
                assert_eq!(parsed.inner(), inner);
                good.push(parsed);
            }
            Err(_) => assert_eq!(inner(filter), None, "{filter:?} is a filter"),
        }
    }
    let Some(topic) = topic else { return };
    let expected: Vec<usize> = (0..good.len())
        .filter(|&at| reaches(good[at].inner(), topic.as_str()))
        .collect();
    let found: Vec<usize> = (0..good.len()).filter(|&at| good[at].matches(&topic)).collect();
    assert_eq!(found, expected, "{good:?} {topic:?}");

    let mut trie = trie::Trie::default();
    for (at, filter) in good.iter().enumerate() {
        trie.insert(filter, at);
    }
    assert_eq!(routed(&trie, &topic), expected, "{good:?} {topic:?}");
    for (at, filter) in good.iter().enumerate().step_by(2) {
        trie.remove(filter, |value| *value == at);
    }
    let odd: Vec<usize> = expected.into_iter().filter(|at| at % 2 == 1).collect();
    assert_eq!(routed(&trie, &topic), odd);

    for one in good.iter().take(8) {
        for other in good.iter().take(8) {
            let (by_one, by_other) = (one.matches(&topic), other.matches(&topic));
            assert!(!(one.covers(other) && by_other) || by_one, "{one} covers {other}");
            assert!(!(by_one && by_other) || one.overlaps(other), "{one} overlaps {other}");
            assert_eq!(one.overlaps(other), other.overlaps(one));
            assert!(!one.covers(other) || one.overlaps(other));
        }
        assert!(one.covers(one));
    }
}

fn routed(trie: &trie::Trie<usize>, topic: &TopicName) -> Vec<usize> {
    let mut found = Vec::new();
    trie.for_each_match(topic, |at| found.push(*at));
    found.sort_unstable();
    found
}

fn is_text(text: &str) -> bool {
    (1..=65_535).contains(&text.len()) && !text.contains('\0')
}

/// The filter without its share, if it is one.
fn inner(filter: &str) -> Option<&str> {
    if !is_text(filter) {
        return None;
    }
    let inner = if let Some(shared) = filter.strip_prefix("$share/") {
        let (group, inner) = shared.split_once('/')?;
        if group.is_empty() || group.contains('+') || group.contains('#') || inner.is_empty() {
            return None;
        }
        inner
    } else {
        filter
    };
    let levels: Vec<&str> = inner.split('/').collect();
    let good = levels.iter().enumerate().all(|(at, level)| match *level {
        "+" => true,
        "#" => at + 1 == levels.len(),
        other => !other.contains('+') && !other.contains('#'),
    });
    good.then_some(inner)
}

fn reaches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.split_first(), topic.split_first()) {
            (Some((&"#", _)), _) => true,
            (Some((&"+", filter)), Some((_, topic))) => levels(filter, topic),
            (Some((one, filter)), Some((other, topic))) => one == other && levels(filter, topic),
            (None, None) => true,
            _ => false,
        }
    }
    let hidden = topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#'));
    !hidden
        && levels(
            &filter.split('/').collect::<Vec<_>>(),
            &topic.split('/').collect::<Vec<_>>(),
        )
}
