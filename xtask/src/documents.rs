//! Promises in documents: each test that they name must exist.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Those that name tests.
const DOCUMENTS: [&str; 2] = ["docs/reliability.md", "docs/security.md"];

/// Where the tests of a name's first part are.
const SUITES: &[(&str, &[&str])] = &[
    ("facade", &["crates/tars-mqtt/tests/facade"]),
    (
        "adapter",
        &[
            "crates/adapter-rumqttc/tests/adapter",
            "crates/adapter-paho/tests/adapter",
        ],
    ),
    ("integration", &["tests/tests/integration"]),
    ("conformance", &["crates/tars-testkit/src/conformance"]),
    ("contracts", &["crates/tars-contracts/tests/contracts"]),
    ("ports", &["crates/tars-ports/src"]),
    ("rumqttc", &["crates/adapter-rumqttc/src"]),
    ("paho", &["crates/adapter-paho/src"]),
    (
        "dispatch",
        &["crates/tars-mqtt/src/dispatch", "crates/tars-mqtt/src/dispatch/dedupe"],
    ),
    ("tests", &["tests/tests"]),
    ("config", &["crates/tars-mqtt/src/config"]),
    ("simulation", &["tests/src/simulation", "tests/tests"]),
    ("chaos", &["tests/src/chaos", "tests/tests"]),
];

pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        let path = root.join(document);
        let text = fs::read_to_string(&path).with_context(|| format!("{} does not read", path.display()))?;
        let names = named(&text).filter(|name| !exists(root, name));
        missing.extend(names.map(|name| format!("{document} names the test `{name}`, which does not exist")));
    }
    Ok(missing)
}

/// `suite::file::test` in backticks.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|name| {
        let mut parts = name.split("::");
        let first = parts.next().unwrap_or_default();
        SUITES.iter().any(|(suite, _)| *suite == first) && parts.count() == 2
    })
}

fn exists(root: &Path, name: &str) -> bool {
    let mut parts = name.split("::");
    let (Some(suite), Some(file), Some(test)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let folders = SUITES
        .iter()
        .filter(|(known, _)| *known == suite)
        .flat_map(|(_, folders)| *folders);
    let needle = format!("fn {test}(");
    folders
        .map(|folder| root.join(folder).join(format!("{file}.rs")))
        .any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&needle)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_names_and_nothing_else() {
        let text = "See `facade::a::b`, `Error::fate()`, `facade::a` and `adapter::x::y`.";
        assert_eq!(named(text).collect::<Vec<_>>(), ["facade::a::b", "adapter::x::y"]);
    }

    #[test]
    fn a_test_that_is_not_there_is_told() {
        assert!(!exists(&crate::command::root(), "facade::publishing::no_such_test"));
    }
}
