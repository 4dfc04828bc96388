//! What `docs/dependencies.md` says: how many crates there are, what each direct one is for, which
//! come twice, and which must not come at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::tree::{self, Package};

const DOCUMENT: &str = "docs/dependencies.md";

/// What the document counts.
const TARGET: &str = "--edges normal --target x86_64-unknown-linux-gnu";

/// Crates with known advisories, and the beginning of their versions.
const UNWANTED: [(&str, &str); 2] = [("rustls-pemfile", ""), ("rustls-webpki", "0.102.")];

/// Checks the document against manifests, trees and the lock file.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let text = read(&root.join(DOCUMENT))?;
    let mut problems = Vec::new();
    for (selection, said) in counted(&text) {
        let counted = foreign(&tree::packages(&format!("{TARGET} {selection}"))?).len();
        if counted != said {
            problems.push(format!(
                "{DOCUMENT} says {said} crates with `{selection}`: there are {counted}"
            ));
        }
    }
    let mut direct = BTreeSet::new();
    for manifest in manifests(root)? {
        direct.extend(direct_of(&read(&manifest)?));
    }
    let explained = explained(&text);
    let without = direct.difference(&explained);
    problems.extend(without.map(|name| format!("{DOCUMENT} does not say what `{name}` is for")));
    let gone = explained.difference(&direct);
    problems.extend(gone.map(|name| format!("{DOCUMENT} explains `{name}`, on which nothing depends")));

    let tree = tree::packages(&format!("{TARGET} --package tars-mqtt"))?;
    let said = twice_in(&text);
    let found = twice(&tree);
    if said != found {
        problems.push(format!("{DOCUMENT} says that {said:?} come twice: {found:?} do"));
    }
    problems.extend(unwanted(&read(&root.join("Cargo.lock"))?));
    Ok(problems)
}

/// Names and versions of what is not this project's.
fn foreign(tree: &[Package]) -> BTreeSet<(&str, &str)> {
    let own = |name: &str| name.starts_with("tars-") || name.starts_with("adapter-");
    let all = tree.iter().filter(|package| !own(&package.name));
    all.map(|package| (package.name.as_str(), package.version.as_str()))
        .collect()
}

fn twice(tree: &[Package]) -> BTreeSet<String> {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in foreign(tree) {
        *versions.entry(name).or_default() += 1;
    }
    let several = versions.into_iter().filter(|(_, versions)| *versions > 1);
    several.map(|(name, _)| name.to_owned()).collect()
}

/// The rows of a table with a `cargo tree` line, and the number at their end.
fn counted(text: &str) -> impl Iterator<Item = (&str, usize)> {
    text.lines().filter_map(|line| {
        let (_, rest) = line.split_once("`cargo tree ")?;
        let (selection, number) = rest.split_once('`')?;
        Some((selection, number.trim_matches(['|', ' ']).parse().ok()?))
    })
}

/// The crates in the first column of the tables before the one of duplicates.
fn explained(text: &str) -> BTreeSet<String> {
    let (before, _) = text.split_once("\n## Twice").unwrap_or((text, ""));
    first_column(before)
}

fn twice_in(text: &str) -> BTreeSet<String> {
    let (_, after) = text.split_once("\n## Twice").unwrap_or_default();
    first_column(after)
}

fn first_column(text: &str) -> BTreeSet<String> {
    let cells = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let names = cells.flat_map(|cell| cell.split(['`', ',', ' ']).filter(|name| is_name(name)));
    names.map(str::to_owned).collect()
}

fn is_name(word: &str) -> bool {
    word.starts_with(|letter: char| letter.is_ascii_alphabetic())
}

fn manifests(root: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut all = vec![root.join("bench"), root.join("tests"), root.join("xtask")];
    for entry in fs::read_dir(root.join("crates"))? {
        all.push(entry?.path());
    }
    all.iter_mut().for_each(|folder| folder.push("Cargo.toml"));
    all.retain(|manifest| manifest.exists());
    Ok(all)
}

/// The names in the sections of dependencies, without this project's.
fn direct_of(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
        } else if inside && let Some(name) = line.split(['.', ' ', '=']).next().filter(|name| is_name(name)) {
            names.insert(name.to_owned());
        }
    }
    names.retain(|name| !name.starts_with("tars-") && !name.starts_with("adapter-"));
    names
}

fn unwanted(lock: &str) -> Vec<String> {
    let packages = lock.split("[[package]]").filter_map(|package| {
        let field = |name: &str| package.split_once(&format!("\n{name} = \""))?.1.split('"').next();
        Some((field("name")?, field("version")?))
    });
    let bad = packages.filter(|(name, version)| {
        UNWANTED
            .iter()
            .any(|(unwanted, from)| name == unwanted && version.starts_with(from))
    });
    bad.map(|(name, version)| format!("{name} {version} has known advisories"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_document_is_read() {
        let text = "| with | command | crates |\n|---|---|---|\n| all | `cargo tree --package a` | 12 |\n\n\
                    | crate | for |\n|---|---|\n| `b`, `c-d` | e |\n\n## Twice\n\n| `f` 1.0, 2.0 | g |\n";
        assert_eq!(counted(text).collect::<Vec<_>>(), [("--package a", 12)]);
        assert_eq!(explained(text), set(&["b", "c-d"]));
        assert_eq!(twice_in(text), set(&["f"]));
    }

    #[test]
    fn direct_dependencies_are_found() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\ntokio.workspace = true\nserde = \"1\"\n\
                        tars-ports.workspace = true\n\n[target.'cfg(unix)'.dependencies]\nrustix = \"1\"\n\n[features]\na = []\n";
        assert_eq!(direct_of(manifest), set(&["tokio", "serde", "rustix"]));
    }

    #[test]
    fn advisories_are_found_in_a_lock_file() {
        let package =
            |name: &str, version: &str| format!("\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        let lock = package("rustls-webpki", "0.103.1") + &package("rustls-webpki", "0.102.8");
        assert_eq!(unwanted(&lock), ["rustls-webpki 0.102.8 has known advisories"]);
        assert_eq!(unwanted(&package("rustls-pemfile", "2.0.0")).len(), 1);
    }

    #[test]
    fn duplicates_are_of_others_alone() {
        let package = |name: &str, version: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            features: Vec::new(),
            licence: String::new(),
        };
        let tree = [
            package("a", "v1"),
            package("a", "v2"),
            package("b", "v1"),
            package("b", "v1"),
            package("tars-x", "v1"),
            package("tars-x", "v2"),
        ];
        assert_eq!(twice(&tree), set(&["a"]));
    }
}
