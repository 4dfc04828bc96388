//! The rules of the architecture that a compiler does not see: who depends on whom, under which
//! licences, from where. All problems are told together.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::command::{Line, root};
use crate::tree::{self, Package};
use crate::{dependencies, documents, licences, lines, tidy};

const FACADE: &str = "tars-mqtt";

/// The one registry, by the end of its name in Cargo.lock.
const REGISTRY: &str = "/crates.io-index";

/// Checks them all.
pub(crate) fn check() -> Result<()> {
    let root = root();
    let mut problems = Vec::new();
    let mut checked = |what: &str, found: Vec<String>| {
        println!("  {what}: {}", if found.is_empty() { "ok" } else { "not so" });
        problems.extend(found);
    };

    for package in ["tars-contracts", "tars-ports", "tars-layers"] {
        let tree = tree::packages(&format!("--edges normal,build --all-features --package {package}"))?;
        checked(
            &format!("{package} knows no MQTT library and no network"),
            without_mqtt_and_net(package, &tree),
        );
    }
    let adapters = adapters(&root)?;
    for package in adapters
        .iter()
        .map(String::as_str)
        .chain(["tars-net", "tars-testkit", "tars-layers"])
    {
        let tree = tree::packages(&format!("--edges normal,build,dev --all-features --package {package}"))?;
        let others = adapters
            .iter()
            .map(String::as_str)
            .filter(|adapter| *adapter != package);
        let found = without(package, &tree, &others.chain([FACADE]).collect::<Vec<_>>());
        checked(
            &format!("{package} knows neither the facade nor a (further) adapter"),
            found,
        );
    }
    let all = tree::packages("--edges normal,build,dev --workspace --all-features --target all")?;
    let deny = read(&root.join("deny.toml"))?;
    let (allowed, exceptions) = (licences::allowed(&deny)?, licences::exceptions(&deny));
    checked(
        "every licence is allowed by deny.toml",
        licences::refused(&all, &allowed, &exceptions),
    );
    checked(
        "everything is from crates.io",
        foreign_sources(&read(&root.join("Cargo.lock"))?),
    );
    checked("dependencies are counted and explained", dependencies::check(&root)?);
    checked("the files are tidy", tidy::check(&root)?);
    checked("every test that the documents name exists", documents::check(&root)?);
    checked("promises about lines are kept", lines::check(&root)?);

    if Line::cargo("deny --version").succeeds() {
        Line::cargo("deny --offline --all-features check licenses bans sources").run()?;
    } else {
        println!("  cargo-deny is not installed: its own view of deny.toml is left out");
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("rules are broken:\n- {}", problems.join("\n- "))
}

/// The names of the adapters.
pub(crate) fn adapters(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("crates");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("adapter-") && entry.path().join("Cargo.toml").exists() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn without_mqtt_and_net(of: &str, tree: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for Package { name, features, .. } in tree {
        if name.contains("mqtt") {
            found.push(format!("{of} depends on {name}"));
        }
        if name == "tokio" && features.iter().any(|feature| feature == "net") {
            found.push(format!("{of} depends on tokio with the feature `net`"));
        }
    }
    distinct(found)
}

fn without(of: &str, tree: &[Package], others: &[&str]) -> Vec<String> {
    let unwanted = tree.iter().filter(|package| others.contains(&package.name.as_str()));
    distinct(
        unwanted
            .map(|package| format!("{of} depends on {}", package.name))
            .collect(),
    )
}

fn foreign_sources(lock: &str) -> Vec<String> {
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = "));
    let foreign = sources.filter(|source| {
        let source = source.trim_matches('"');
        !(source.starts_with("registry+") && source.ends_with(REGISTRY))
    });
    distinct(
        foreign
            .map(|source| format!("Cargo.lock has a package from {source}"))
            .collect(),
    )
}

fn distinct(mut found: Vec<String>) -> Vec<String> {
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, features: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            version: String::new(),
            features: features.iter().map(|&feature| feature.to_owned()).collect(),
            licence: String::new(),
        }
    }

    #[test]
    fn mqtt_libraries_and_the_network_are_seen() {
        let good = [package("tars-ports", &[]), package("tokio", &["sync", "default"])];
        assert!(without_mqtt_and_net("tars-ports", &good).is_empty());
        let bad = [
            package("paho-mqtt", &[]),
            package("tokio", &["net"]),
            package("tokio", &["net"]),
        ];
        assert_eq!(
            without_mqtt_and_net("x", &bad),
            ["x depends on paho-mqtt", "x depends on tokio with the feature `net`"]
        );
    }

    #[test]
    fn the_wrong_direction_is_seen() {
        let tree = [
            package("adapter-a", &[]),
            package("tars-mqtt", &[]),
            package("tars-ports", &[]),
        ];
        assert_eq!(
            without("adapter-a", &tree, &["adapter-b", FACADE]),
            ["adapter-a depends on tars-mqtt"]
        );
        assert!(without("adapter-a", &tree, &["adapter-b"]).is_empty());
    }

    #[test]
    fn another_source_is_seen() {
        let line = |source: &str| format!("name = \"a\"\nsource = \"{source}\"\n");
        let good = line(&format!("registry+https://example{REGISTRY}"));
        assert!(foreign_sources(&good).is_empty());
        for bad in ["git+https://example/repo#1", "registry+https://example/other"] {
            assert_eq!(foreign_sources(&(good.clone() + &line(bad) + &line(bad))).len(), 1);
        }
    }
}
