//! What `cargo tree` says, without the network.

use anyhow::{Result, bail};

use crate::command::Line;

/// A package in a dependency tree.
#[derive(Debug, PartialEq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) features: Vec<String>,
    /// Empty, where the package names none.
    pub(crate) licence: String,
}

/// The packages that `selection` leads to, itself included; some may come twice.
pub(crate) fn packages(selection: &str) -> Result<Vec<Package>> {
    let line = Line::cargo("tree --offline --locked --prefix none")
        .words(selection)
        .arguments(["--format", "{p}\t{f}\t{l}"]);
    let packages = parse(&line.output()?);
    // Each rule holds for an empty tree: better no answer than that one.
    if packages.is_empty() {
        bail!("`{line}` named no package");
    }
    Ok(packages)
}

fn parse(text: &str) -> Vec<Package> {
    let package = |line: &str| {
        // A package shown before has a mark instead of its dependencies.
        let line = line.strip_suffix(" (*)").unwrap_or(line);
        let mut fields = line.split('\t');
        let mut words = fields.next()?.split_whitespace();
        Some(Package {
            name: words.next()?.to_owned(),
            version: words.next()?.to_owned(),
            features: fields
                .next()?
                .split(',')
                .filter(|feature| !feature.is_empty())
                .map(str::to_owned)
                .collect(),
            licence: fields.next()?.trim().to_owned(),
        })
    };
    text.lines().filter_map(package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let text = "tokio v1.2.3\tsync,net\tMIT\nserde v1.0.0 (proc-macro)\t\tMIT OR Apache-2.0 (*)\n\nx v1\t\t\n";
        let package = |name: &str, version: &str, features: &[&str], licence: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            features: features.iter().map(|&feature| feature.to_owned()).collect(),
            licence: licence.to_owned(),
        };
        let expected = [
            package("tokio", "v1.2.3", &["sync", "net"], "MIT"),
            package("serde", "v1.0.0", &[], "MIT OR Apache-2.0"),
            package("x", "v1", &[], ""),
        ];
        assert_eq!(parse(text), expected);
    }
}
