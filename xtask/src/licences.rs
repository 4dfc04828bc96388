//! Licences: the list in deny.toml, and whether a package's expression fits it.
//!
//! The part of cargo-deny that needs no cargo-deny, so that every clone can check it.

use anyhow::{Context as _, Result};

use crate::tree::Package;

/// The licences in `allow = […]` of the section `[licenses]`.
pub(crate) fn allowed(deny_toml: &str) -> Result<Vec<String>> {
    let lines: Vec<&str> = deny_toml
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .skip_while(|line| *line != "[licenses]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .collect();
    let section = lines.join(" ");
    let list = section
        .split_once("allow = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(list, _)| list)
        .context("deny.toml has no `allow = […]` in its section [licenses]")?;
    let names = list.split(',').map(|name| name.trim().trim_matches('"').to_owned());
    Ok(names.filter(|name| !name.is_empty()).collect())
}

/// The exceptions in `exceptions = […]`: a crate, and the licences allowed for it alone.
/// One line each: `{ crate = "name", allow = ["licence"] },`.
pub(crate) fn exceptions(deny_toml: &str) -> Vec<(String, Vec<String>)> {
    let quoted = |text: &str| -> Vec<String> { text.split('"').skip(1).step_by(2).map(str::to_owned).collect() };
    deny_toml
        .lines()
        .filter_map(|line| line.trim().strip_prefix("{ crate = ")?.split_once(", allow = "))
        .filter_map(|(name, licences)| Some((quoted(name).pop()?, quoted(licences))))
        .collect()
}

/// A line for each package whose licence does not fit.
pub(crate) fn refused(packages: &[Package], allowed: &[String], exceptions: &[(String, Vec<String>)]) -> Vec<String> {
    let excepted = |package: &&Package| {
        let mut own = exceptions.iter().filter(|(name, _)| *name == package.name);
        own.any(|(_, licences)| fits(&package.licence, licences))
    };
    let mut refused: Vec<String> = packages
        .iter()
        .filter(|package| !fits(&package.licence, allowed) && !excepted(package))
        .map(|package| match package.licence.as_str() {
            "" => format!("{} names no licence", package.name),
            licence => format!("{} is under `{licence}`, which deny.toml does not allow", package.name),
        })
        .collect();
    refused.sort();
    refused.dedup();
    refused
}

/// Whether an SPDX expression can be met with these licences. One that is malformed cannot.
fn fits(expression: &str, allowed: &[String]) -> bool {
    // The old spelling `MIT/Apache-2.0` means OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = Words {
        words: spaced.split_whitespace().collect(),
        at: 0,
        allowed,
    };
    words.any() == Some(true) && words.at == words.words.len()
}

/// Where the reading of an expression is. `AND` binds tighter than `OR`; `None` is a syntax error.
struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
    allowed: &'a [String],
}

impl<'a> Words<'a> {
    fn any(&mut self) -> Option<bool> {
        let mut result = self.all()?;
        while self.next_is("OR") {
            result |= self.all()?;
        }
        Some(result)
    }

    fn all(&mut self) -> Option<bool> {
        let mut result = self.one()?;
        while self.next_is("AND") {
            result &= self.one()?;
        }
        Some(result)
    }

    fn one(&mut self) -> Option<bool> {
        if self.next_is("(") {
            let result = self.any()?;
            return self.next_is(")").then_some(result);
        }
        let mut licence = self.name()?.to_owned();
        if self.next_is("WITH") {
            licence = format!("{licence} WITH {}", self.name()?);
        }
        Some(self.allowed.contains(&licence))
    }

    fn name(&mut self) -> Option<&'a str> {
        let word = *self.words.get(self.at)?;
        self.at += 1;
        (!["AND", "OR", "WITH", "(", ")"].contains(&word)).then_some(word)
    }

    fn next_is(&mut self, word: &str) -> bool {
        let is_next = self.words.get(self.at) == Some(&word);
        self.at += usize::from(is_next);
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn expressions_are_read_as_spdx_says() {
        let allowed = names(&["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"]);
        let good = [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "MIT AND Unicode-3.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "GPL-3.0 AND ISC OR MIT",
            "Apache-2.0 WITH LLVM-exception",
            "((MIT))",
        ];
        for expression in good {
            assert!(fits(expression, &allowed), "{expression}");
        }
        let bad = [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT AND (GPL-3.0 OR ISC)",
            "GPL-3.0 OR MIT AND ISC",
            "Apache-2.0",
            "MIT WITH LLVM-exception",
            "MIT OR",
            "OR MIT",
            "MIT MIT",
            "(MIT",
            "MIT)",
            "AND",
            "mit",
        ];
        for expression in bad {
            assert!(!fits(expression, &allowed), "{expression}");
        }
    }

    #[test]
    fn the_list_is_found() {
        let text = "allow = [\"no\"]\n[licenses]\nconfidence = 1 # why\nallow = [ # which\n  \"MIT\", # one\n  \"X WITH Y\",\n]\n[bans]\nallow = [\"no\"]\n";
        assert_eq!(allowed(text).ok(), Some(names(&["MIT", "X WITH Y"])));
        assert!(allowed("[licenses]\n[bans]\nallow = []").is_err());
    }

    #[test]
    fn a_refusal_names_the_package() {
        let package = |name: &str, licence: &str| Package {
            name: name.to_owned(),
            version: String::new(),
            features: Vec::new(),
            licence: licence.to_owned(),
        };
        let packages = [
            package("b", "GPL-3.0"),
            package("a", ""),
            package("c", "MIT"),
            package("b", "GPL-3.0"),
        ];
        assert_eq!(
            refused(&packages, &names(&["MIT"]), &[("d".to_owned(), names(&["EPL-2.0"]))]),
            [
                "a names no licence",
                "b is under `GPL-3.0`, which deny.toml does not allow"
            ]
        );
    }
}
