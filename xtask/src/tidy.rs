//! Rules for files: each says what it is, none grows without a reason, every crate inherits the
//! lints (and with them `forbid(unsafe_code)`), rumqttc stays inside its adapter.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Where rumqttc may be used: in its adapter, and where it is what one would use without it.
const RUMQTTC: &[&str] = &["crates/adapter-rumqttc/", "tests/examples/migrated/", "bench/"];

/// A file above this has to be in [`LONG`].
const LINES: usize = 500;

/// Files that may be longer, and why.
const LONG: &[(&str, &str)] = &[];

/// The problems found, as `path: what`.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for folder in ["crates", "tests", "xtask", "bench", "fuzz/targets"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    for file in files {
        let path = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .to_string_lossy()
            .replace('\\', "/");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
        let found = if path.ends_with("Cargo.toml") {
            manifest(&text).into_iter().collect()
        } else {
            source(&path, &text)
        };
        problems.extend(found.into_iter().map(|problem| format!("{path}: {problem}")));
    }
    Ok(problems)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") || path.ends_with("Cargo.toml") {
            files.push(path);
        }
    }
    Ok(())
}

fn manifest(text: &str) -> Option<String> {
    let mut section = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[lints]")
        .skip(1);
    let inherits = section.find(|line| !line.is_empty()) == Some("workspace = true");
    (!inherits).then(|| "does not inherit the lints: `[lints]`, `workspace = true`".to_owned())
}

fn source(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let is_in_crate = (path.starts_with("crates/") || path.starts_with("bench/")) && path.contains("/src/");
    if is_in_crate && !text.lines().take(5).any(|line| line.starts_with("//!")) {
        problems.push("does not begin with `//!` and what it is".to_owned());
    }
    let count = text.lines().count();
    if count > LINES && !LONG.iter().any(|(long, _)| *long == path) {
        problems.push(format!("has {count} lines, more than {LINES}: has it one subject?"));
    }
    if !RUMQTTC.iter().any(|place| path.starts_with(place)) {
        let code = (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim_start().starts_with("//"));
        let using = code.filter(|(_, line)| mentions(line, &["rumqttc", "::"].concat()));
        problems.extend(using.map(|(number, _)| format!("line {number} uses rumqttc outside its adapter")));
    }
    problems
}

/// Whether `path` is named, and not only as the end of a longer name.
fn mentions(line: &str, path: &str) -> bool {
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_it_is() {
        assert!(source("crates/a/src/b.rs", "//! What.\n").is_empty());
        assert!(source("crates/a/src/lib.rs", "#![no_std]\n//! What.\n").is_empty());
        assert_eq!(source("crates/a/src/b.rs", "fn main() {}\n").len(), 1);
        assert!(source("crates/a/tests/b.rs", "fn main() {}\n").is_empty());
    }

    #[test]
    fn a_file_has_a_length() {
        let text = "//!\n".repeat(LINES);
        assert!(source("crates/a/src/b.rs", &text).is_empty());
        assert_eq!(source("crates/a/src/b.rs", &(text + "\n")).len(), 1);
    }

    #[test]
    fn a_library_stays_inside_its_adapter() {
        let uses = ["//!\nuse rum", "qttc::X;\n"].concat();
        assert_eq!(
            source("crates/a/src/b.rs", &uses),
            ["line 2 uses rumqttc outside its adapter"]
        );
        assert!(source("crates/adapter-rumqttc/src/b.rs", &uses).is_empty());
        for other in ["use adapter_rum", "// rum"] {
            assert!(source("crates/a/src/b.rs", &format!("//!\n{other}qttc::X;\n")).is_empty());
        }
    }

    #[test]
    fn a_manifest_inherits_the_lints() {
        assert_eq!(manifest("[package]\n\n[lints]\nworkspace = true\n"), None);
        assert!(manifest("[package]\n").is_some());
        assert!(manifest("[lints]\n[dependencies]\nworkspace = true\n").is_some());
    }
}
