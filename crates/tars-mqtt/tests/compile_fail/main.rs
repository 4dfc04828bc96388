//! Wrong uses do not compile, and what the compiler says tells what to do.
//!
//! Each file in `cases/` is a program. A comment `//~ text` stands on a line that has an error
//! with this text, in its message or its notes; no other line has one, and a program without
//! such a comment compiles. The texts are ours, a library's, or names of the program: another
//! version of the compiler may word its own differently.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// A line of `cargo check --message-format=json`.
#[derive(Deserialize)]
struct Report {
    target: Option<Target>,
    message: Option<Diagnostic>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    message: String,
    rendered: Option<String>,
    spans: Vec<Span>,
    children: Vec<Self>,
}

#[derive(Deserialize)]
struct Span {
    line_start: usize,
    is_primary: bool,
    label: Option<String>,
}

impl Diagnostic {
    /// Whether it points there.
    fn is_at(&self, line: usize) -> bool {
        self.spans.iter().any(|span| span.is_primary && span.line_start == line)
    }

    /// Its words without the source, which has what is expected in a comment.
    fn says(&self, text: &str) -> bool {
        let mut labels = self.spans.iter().filter_map(|span| span.label.as_deref());
        self.message.contains(text)
            || labels.any(|label| label.contains(text))
            || self.children.iter().any(|note| note.says(text))
    }
}

#[test]
fn wrong_uses_are_told_in_words() {
    let cases = cases();
    let mut found = check(&cases);
    let mut problems = String::new();
    for (name, path) in &cases {
        let source = fs::read_to_string(path).unwrap();
        let found = found.remove(name).unwrap_or_default();
        problems.push_str(&differences(name, &source, &found));
    }
    assert!(problems.is_empty(), "{problems}");
}

fn cases() -> BTreeMap<String, PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail/cases");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), path))
        .collect()
}

/// Lets cargo check all programs at once, as a package beside the workspace that shares its
/// versions and its target directory.
fn check(cases: &BTreeMap<String, PathBuf>) -> BTreeMap<String, Vec<Diagnostic>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail");
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("Cargo.toml"), manifest(cases)).unwrap();
    fs::copy(workspace.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--quiet", "--keep-going", "--message-format=json"])
        .arg("--manifest-path")
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap())
        .current_dir(workspace)
        .output()
        .unwrap();
    let reports = String::from_utf8_lossy(&output.stdout);
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for report in reports.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        let Report {
            target: Some(target),
            message: Some(message),
        } = report
        else {
            continue;
        };
        if message.level == "error" {
            found.entry(target.name).or_default().push(message);
        }
    }
    assert!(
        !found.is_empty(),
        "nothing was checked: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    found
}

fn manifest(cases: &BTreeMap<String, PathBuf>) -> String {
    let mut manifest = format!(
        "[package]\nname = \"compile-fail\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\nserde = {{ version = \"1\", features = [\"derive\"] }}\n\
         tars-mqtt = {{ path = {:?}, default-features = false }}\n\n\
         [profile.dev.package.\"*\"]\ndebug = false\n",
        env!("CARGO_MANIFEST_DIR")
    );
    for (name, path) in cases {
        write!(manifest, "\n[[bin]]\nname = {name:?}\npath = {path:?}\n").unwrap();
    }
    manifest
}

/// What is not as the program's comments say.
fn differences(name: &str, source: &str, found: &[Diagnostic]) -> String {
    let mut problems = String::new();
    for (number, line) in (1..).zip(source.lines()) {
        let here = || found.iter().filter(move |error| error.is_at(number));
        match line.split_once("//~ ") {
            Some((_, text)) if !here().any(|error| error.says(text)) => {
                writeln!(problems, "{name}.rs:{number}: no error says `{text}`").unwrap();
            }
            None if here().next().is_some() => {
                writeln!(problems, "{name}.rs:{number}: an error that is not expected").unwrap();
            }
            _ => {}
        }
    }
    if !problems.is_empty() {
        let errors = found.iter().filter_map(|error| error.rendered.as_deref());
        writeln!(problems, "the errors of {name}.rs:").unwrap();
        problems.extend(errors);
    }
    problems
}
