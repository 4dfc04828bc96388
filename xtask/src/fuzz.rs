//! The fuzzer, for as long as one likes. CI replays its corpus without it.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::command::root;
use crate::nightly;

/// One input may take so long, in seconds, before it counts as a find.
const PATIENCE: u32 = 30;

/// Runs every target in turn, or the one that was asked for.
///
/// # Errors
/// A find, with where it is; or what is missing.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let targets = targets()?;
    let Wish { minutes, target } = Wish::parse(arguments, &targets)?;
    nightly::require("fuzz", "cargo install cargo-fuzz")?;
    let chosen: Vec<&String> = targets
        .iter()
        .filter(|name| target.as_ref().is_none_or(|t| t == *name))
        .collect();
    let seconds = (minutes * 60).div_ceil(chosen.len() as u64);
    for name in chosen {
        println!("\n{name}: {seconds} s");
        fs::create_dir_all(root().join("fuzz/found").join(name)).context("no folder for what is found")?;
        let line = nightly::cargo("fuzz run --fuzz-dir fuzz")
            .arguments([
                name.clone(),
                format!("fuzz/found/{name}"),
                format!("fuzz/corpus/{name}"),
            ])
            .words("-- -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1")
            .arguments([format!("-max_total_time={seconds}"), format!("-timeout={PATIENCE}")]);
        line.run().with_context(|| {
            format!(
                "if the target found something, it is in fuzz/artifacts/{name}: copy it to fuzz/regressions/{name}, \
                 where `cargo test -p fuzz-targets` runs it from now on, and repair what it shows"
            )
        })?;
    }
    Ok(())
}

struct Wish {
    /// In all.
    minutes: u64,
    target: Option<String>,
}

impl Wish {
    fn parse(arguments: &[String], targets: &[String]) -> Result<Self> {
        let (mut minutes, mut target) = (1, None);
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--minutes" => minutes = value?.parse().context("--minutes takes a whole number")?,
                "--target" => {
                    let name = value?;
                    if !targets.contains(name) {
                        bail!("there is no target `{name}`; the targets are {}", targets.join(", "));
                    }
                    target = Some(name.clone());
                }
                unknown => bail!("there is no option `{unknown}`: fuzz takes --minutes N and --target T"),
            }
        }
        Ok(Self { minutes, target })
    }
}

/// The names of all targets.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Wish> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Wish::parse(&arguments, &["dedupe".to_owned(), "topics".to_owned()])
    }

    #[test]
    fn a_wish_is_understood_or_told_what_is_wrong() {
        let wish = parse("--minutes 60 --target topics").ok();
        assert_eq!(
            wish.map(|wish| (wish.minutes, wish.target)),
            Some((60, Some("topics".to_owned())))
        );
        for (bad, told) in [
            ("--minutes", "needs a value"),
            ("--minutes x", "whole number"),
            ("--target none", "dedupe, topics"),
            ("--fast 1", "no option"),
        ] {
            assert!(
                parse(bad).is_err_and(|error| format!("{error:#}").contains(told)),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_targets_are_found() {
        assert!(targets().is_ok_and(|targets| targets.contains(&"envelope".to_owned())));
    }
}
