//! The peer's end of its talk with the harness.

use std::io::Write as _;

use anyhow::{Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

use super::Report;
use crate::clock;

/// See the module.
#[derive(Debug)]
pub struct Talk {
    lines: Lines<BufReader<Stdin>>,
    cpu: u64,
}

impl Default for Talk {
    fn default() -> Self {
        Self {
            lines: BufReader::new(tokio::io::stdin()).lines(),
            cpu: 0,
        }
    }
}

impl Talk {
    /// Says that it is ready, and waits for the beginning.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        say("ready")?;
        self.hear("go").await?;
        self.cpu = clock::cpu();
        Ok(())
    }

    /// Says that all is done.
    pub(crate) fn done(&self) -> Result<()> {
        say("done")
    }

    /// Waits for the end.
    pub(crate) async fn end(&mut self) -> Result<()> {
        self.hear("end").await
    }

    /// Reports; CPU time and memory are added here.
    pub(crate) fn report(&self, report: Report) -> Result<()> {
        let report = Report {
            cpu: clock::cpu() - self.cpu,
            resident: clock::resident(),
            ..report
        };
        say(&serde_json::to_string(&report)?)
    }

    /// Does nothing at all, from beginning to end.
    pub(crate) async fn idle(mut self) -> Result<()> {
        self.ready().await?;
        self.done()?;
        self.end().await?;
        self.report(Report::default())
    }

    /// Waits for this line.
    pub(crate) async fn hear(&mut self, word: &str) -> Result<()> {
        match self.lines.next_line().await? {
            Some(line) if line == word => Ok(()),
            Some(line) => bail!("`{line}` came, where `{word}` was expected"),
            None => bail!("the harness is gone"),
        }
    }
}

/// Tells the harness a line.
pub(crate) fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
