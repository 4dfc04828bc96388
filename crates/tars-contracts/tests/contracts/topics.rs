//! Matching, covering and overlapping against a naive reference.

use proptest::prelude::*;
use tars_contracts::{TopicFilter, TopicName};

/// MQTT 3.1.1 section 4.7, read aloud.
fn reference(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            ([wanted, filter @ ..], [level, topic @ ..]) => {
                (*wanted == "+" || wanted == level) && levels(filter, topic)
            }
            _ => false,
        }
    }
    let wild = filter.starts_with('+') || filter.starts_with('#');
    !(wild && topic.starts_with('$'))
        && levels(
            &filter.split('/').collect::<Vec<_>>(),
            &topic.split('/').collect::<Vec<_>>(),
        )
}

/// Every text of 1 to `longest` levels from `alphabet`, without the empty one.
fn texts(alphabet: &[&str], longest: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last: Vec<String> = alphabet.iter().map(ToString::to_string).collect();
    for _ in 1..longest {
        let longer = last
            .iter()
            .flat_map(|text| alphabet.iter().map(move |level| format!("{text}/{level}")))
            .collect();
        all.append(&mut std::mem::replace(&mut last, longer));
    }
    all.append(&mut last);
    all.retain(|text| !text.is_empty());
    all
}

/// Small enough to try every pair. A topic level longer than any filter and a level that no filter
/// names (`z`) stand for all the topics beyond.
#[test]
fn relations_agree_with_every_small_topic() {
    let topics = texts(&["a", "", "$s", "z"], 4);
    let filters: Vec<TopicFilter> = texts(&["a", "", "$s", "+", "#"], 3)
        .iter()
        .filter_map(|text| TopicFilter::new(text).ok())
        .collect();
    assert!(filters.len() > 100);

    let matched: Vec<Vec<bool>> = filters
        .iter()
        .map(|filter| {
            topics
                .iter()
                .map(|topic| {
                    let matches = reference(filter.as_str(), topic);
                    assert_eq!(filter.matches_str(topic), matches, "{filter} {topic}");
                    matches
                })
                .collect()
        })
        .collect();

    for (a, in_a) in filters.iter().zip(&matched) {
        let shared = TopicFilter::new(format!("$share/g/{a}")).unwrap();
        for (b, in_b) in filters.iter().zip(&matched) {
            let covers = in_a.iter().zip(in_b).all(|(a, b)| *a || !b);
            let overlaps = in_a.iter().zip(in_b).any(|(a, b)| *a && *b);
            assert_eq!(a.covers(b), covers, "{a} covers {b}");
            assert_eq!(a.overlaps(b), overlaps, "{a} overlaps {b}");
            assert_eq!(shared.covers(b), covers, "{shared} covers {b}");
            assert_eq!(b.overlaps(&shared), overlaps, "{b} overlaps {shared}");
        }
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_the_reference(
        filter in r"\$?[ab+é/]{1,12}(/#)?",
        topic in r"\$?[abé/]{1,12}",
    ) {
        if let Ok(parsed) = TopicFilter::new(&filter) {
            let topic = TopicName::new(topic).unwrap();
            prop_assert_eq!(parsed.matches(&topic), reference(&filter, topic.as_str()));
        }
    }

    #[test]
    fn any_text_is_a_topic_or_an_error(text in "[ab/+#$\0é]{0,8}|(\\$share/)?.{0,20}") {
        if let Ok(name) = TopicName::new(&text) {
            prop_assert_eq!(name.as_str(), &text);
            prop_assert!(TopicFilter::from(name.clone()).matches(&name));
        }
        if let Ok(filter) = TopicFilter::new(&text) {
            prop_assert_eq!(filter.as_str(), &text);
            prop_assert_eq!(filter.share_group().is_some(), text.starts_with("$share/"));
            prop_assert!(filter.covers(&filter) && filter.overlaps(&filter));
        }
    }
}
