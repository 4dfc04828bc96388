//! A peer's process, and the harness's end of the talk with it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::Plan;
use crate::peer::{Job, Peer, Report};

/// Far above what any peer takes for its job.
const PATIENCE: Duration = Duration::from_secs(300);

/// Python's side of it.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/peer.py");

/// Starts peers.
#[derive(Debug)]
pub(super) struct Spawner {
    this: PathBuf,
    python: Result<PathBuf, String>,
}

impl Spawner {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        Ok(Self {
            this: std::env::current_exe().context("cannot find this program")?,
            python: plan.python.clone(),
        })
    }

    /// What is not there.
    pub(super) fn missing(&self) -> Option<String> {
        let why = self.python.as_ref().err()?;
        Some(format!("The Python peer was left out: {why}."))
    }

    /// Whether there is this peer.
    pub(super) fn has(&self, peer: Peer) -> bool {
        peer != Peer::Python || self.python.is_ok()
    }

    /// Starts a peer, and waits until it is ready.
    pub(super) async fn start(&self, job: &Job) -> Result<Process> {
        let mut command = match (&self.python, job.peer) {
            (Ok(python), Peer::Python) => {
                let mut command = Command::new(python);
                command.arg(PROGRAM);
                command
            }
            (Err(why), Peer::Python) => bail!("there is no Python peer: {why}"),
            _ => self.this(),
        };
        command.arg(serde_json::to_string(job)?);
        Process::start(command).await
    }

    /// As [`start`](Self::start), under a program that takes this one's command line.
    pub(super) async fn start_under(&self, program: &str, arguments: &[String], job: &Job) -> Result<Process> {
        let mut command = Command::new(program);
        command.args(arguments).arg(&self.this).arg("peer");
        command.arg(serde_json::to_string(job)?);
        Process::start(command).await
    }

    fn this(&self) -> Command {
        let mut command = Command::new(&self.this);
        command.arg("peer");
        command
    }
}

/// Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    async fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let input = child.stdin.take().context("no input")?;
        let output = child.stdout.take().context("no output")?;
        let mut process = Self {
            child,
            input,
            lines: BufReader::new(output).lines(),
        };
        process.hear("ready").await?;
        Ok(process)
    }

    /// The clock starts.
    pub(super) async fn go(&mut self) -> Result<()> {
        Ok(self.input.write_all(b"go\n").await?)
    }

    /// Waits until it has done its job.
    pub(super) async fn done(&mut self) -> Result<()> {
        self.hear("done").await
    }

    /// Ends it, and what it has seen.
    pub(super) async fn end(mut self) -> Result<Report> {
        self.input.write_all(b"end\n").await?;
        let report = self.line().await?;
        // What it does after that is of no interest, but it shall not disturb the next one.
        timeout(PATIENCE, self.child.wait())
            .await
            .context("a peer does not end")??;
        Ok(serde_json::from_str(&report)?)
    }

    async fn hear(&mut self, word: &str) -> Result<()> {
        let line = self.line().await?;
        if line == word {
            return Ok(());
        }
        bail!("a peer said `{line}` where `{word}` was expected")
    }

    async fn line(&mut self) -> Result<String> {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.map_err(|_| anyhow!("a peer said nothing for {PATIENCE:?}"))??;
        line.context("a peer ended before its time; what it said is above")
    }
}
