//! Promises about lines: where a document shows Python and below it Rust, the Rust has at most as
//! many; and the migrated service has as many fewer as its document says. Blank lines, comments
//! and what a document hides do not count.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The documents with Python and Rust, and how many pairs each has at least.
const SIDE_BY_SIDE: &[(&str, usize)] = &[("docs/migration.md", 15), ("docs/python-examples.md", 35)];

/// Longer ones would be two.
const LONGEST_LINE: usize = 120;

/// The document of the migrated service, and its two forms.
const MIGRATION: &str = "docs/migration.md";
const BEFORE: &str = "tests/examples/migrated/before.rs";
const AFTER: &str = "tests/examples/migrated/after.rs";

/// What is to be saved by migrating, in per cent.
const LEAST_SAVED: usize = 50;

pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("{path} does not read"));
    let mut problems = Vec::new();
    for (path, least) in SIDE_BY_SIDE {
        let pairs = pairs(&read(path)?).map_err(|problem| anyhow::anyhow!("{path}: {problem}"))?;
        if pairs.len() < *least {
            problems.push(format!("{path} has {} Python examples, not {least}", pairs.len()));
        }
        problems.extend(pairs.iter().filter_map(Pair::problem).map(|it| format!("{path}: {it}")));
    }
    let (before, after) = (rust_lines(&read(BEFORE)?), rust_lines(&read(AFTER)?));
    problems.extend(migrated(before, after, &read(MIGRATION)?));
    Ok(problems)
}

/// An example in both languages.
#[derive(Debug, PartialEq)]
struct Pair {
    heading: String,
    python: usize,
    rust: usize,
    longest: usize,
}

impl Pair {
    fn problem(&self) -> Option<String> {
        let Self {
            heading, python, rust, ..
        } = self;
        if rust > python {
            Some(format!("`{heading}` takes {rust} lines of Rust for {python} of Python"))
        } else if self.longest > LONGEST_LINE {
            Some(format!("`{heading}` has a line above {LONGEST_LINE} characters"))
        } else {
            None
        }
    }
}

/// Each block of Python with the block of Rust that comes next.
fn pairs(document: &str) -> Result<Vec<Pair>, String> {
    let (mut pairs, mut heading, mut python) = (Vec::new(), "", None);
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix('#') {
            heading = text.trim_start_matches('#').trim();
        }
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        match (language, python.take()) {
            ("python", None) => python = Some(block.iter().filter(|line| is_python(line)).count()),
            (_, Some(python)) if language.starts_with("rust") => pairs.push(Pair {
                heading: heading.to_owned(),
                python,
                rust: block.iter().filter(|line| is_rust(line)).count(),
                longest: block.iter().map(|line| line.chars().count()).max().unwrap_or(0),
            }),
            (_, Some(_)) => return Err(format!("`{heading}` has Python without Rust")),
            _ => {}
        }
    }
    match python {
        Some(_) => Err(format!("`{heading}` has Python without Rust")),
        None => Ok(pairs),
    }
}

fn is_python(line: &str) -> bool {
    let line = line.trim();
    !(line.is_empty() || line.starts_with('#') || line.starts_with(r#"""""#))
}

fn is_rust(line: &str) -> bool {
    let line = line.trim();
    // `# ` hides a line from the reader of a document; `#[…]` is an attribute.
    !(line.is_empty() || line.starts_with("//") || line == "#" || line.starts_with("# "))
}

fn rust_lines(source: &str) -> usize {
    source.lines().filter(|line| is_rust(line)).count()
}

fn migrated(before: usize, after: usize, document: &str) -> Option<String> {
    let saved = 100 * before.saturating_sub(after) / before.max(1);
    let promise = format!("{before} lines before, {after} after: {saved} % fewer");
    if saved < LEAST_SAVED {
        Some(format!(
            "the migrated service saves {saved} % of its lines, not {LEAST_SAVED} %"
        ))
    } else if !document.contains(&promise) {
        Some(format!("{MIGRATION} does not say that the service has {promise}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
## One
```python
# a comment

await client.connect()
```
text
```rust,no_run
# hidden();
client.connect().await?; // shown
```
```sh
ls
```
";

    #[test]
    fn python_and_rust_are_counted_in_pairs() {
        let pair = Pair {
            heading: "One".to_owned(),
            python: 1,
            rust: 1,
            longest: 33,
        };
        assert_eq!(pair.problem(), None);
        assert_eq!(pairs(DOCUMENT), Ok(vec![pair]));
        let longer = DOCUMENT.replace("# hidden();", "#[attribute]");
        let problem = pairs(&longer).unwrap()[0].problem();
        assert!(problem.is_some_and(|it| it == "`One` takes 2 lines of Rust for 1 of Python"));
        let alone = DOCUMENT.replace("```rust", "```text");
        assert!(pairs(&alone).is_err_and(|it| it.contains("Python without Rust")));
    }

    #[test]
    fn a_service_that_saves_less_or_is_told_wrongly_is_a_problem() {
        let says = "so: 200 lines before, 50 after: 75 % fewer.";
        assert_eq!(migrated(200, 50, says), None);
        assert!(migrated(200, 51, says).is_some_and(|it| it.contains("does not say")));
        assert!(migrated(200, 150, says).is_some_and(|it| it.contains("25 %")));
    }
}
