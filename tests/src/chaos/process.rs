//! One life of a service: its process, what it is told, and the task that enters its lines.

use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::task::JoinHandle;

use super::fleet::FLEET;
use super::ledger::Ledger;
use super::line::{Command, Line};

/// How long a service may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(30);

/// Dropping it kills the process.
pub(super) struct Process {
    child: Child,
    pid: Pid,
    input: ChildStdin,
    reader: JoinHandle<()>,
    may_end: Arc<AtomicBool>,
}

impl Process {
    /// Starts a life of the service at this place in the [`FLEET`].
    pub(super) fn start(
        program: &Path,
        service: usize,
        variables: &[(&'static str, String)],
        folder: &Path,
        ledger: &Ledger,
    ) -> Result<Self, String> {
        let name = FLEET[service].name;
        let first = ledger.change(|book| {
            book.begin_life(service);
            let lane = FLEET[service].lane();
            lane.and_then(|lane| book.lanes.get(&lane)).map_or(0, |lane| lane.next)
        });
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join(format!("{name}.log")));
        let log = log.map_err(|error| format!("the log of {name} cannot be opened: {error}"))?;
        let mut child = tokio::process::Command::new(program)
            .args([name, &first.to_string()])
            // No `MQTT_*` but those given, and no `.env`.
            .env_clear()
            .env(
                "RUST_LOG",
                std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()),
            )
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let program = program.display();
                format!("{program} cannot be started ({error}): `cargo build -p tars-tests --bins` makes it")
            })?;
        let raw = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = raw.and_then(Pid::from_raw).ok_or("a process without an id")?;
        let input = child.stdin.take().ok_or("its standard input is not piped")?;
        let output = child.stdout.take().ok_or("its standard output is not piped")?;
        let may_end = Arc::new(AtomicBool::new(false));
        let (ledger, expected) = (ledger.clone(), may_end.clone());
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                ledger.change(|book| match Line::parse(&line) {
                    Some(line) => book.enter(service, line),
                    // A SIGKILL may cut a line in two; nothing else may.
                    None if expected.load(Ordering::Relaxed) => {}
                    None => book.problems.push(format!("{name} told {line:?}")),
                });
            }
            if !expected.load(Ordering::Relaxed) {
                ledger.change(|book| book.problems.push(format!("{name} ended by itself")));
            }
        });
        Ok(Self {
            child,
            pid,
            input,
            reader,
            may_end,
        })
    }

    pub(super) async fn tell(&mut self, command: Command) -> Result<(), String> {
        let line = format!("{command}\n");
        let written = self.input.write_all(line.as_bytes()).await;
        written.map_err(|error| format!("`{command}` could not be told: {error}"))
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        if self.child.id().is_none() {
            return Err("a process has ended before it was signalled".to_owned());
        }
        kill_process(self.pid, signal).map_err(|error| format!("{signal:?} could not be sent: {error}"))
    }

    /// SIGKILL; returns when the ledger has all that it told.
    pub(super) async fn kill(&mut self) -> Result<(), String> {
        self.may_end.store(true, Ordering::Relaxed);
        self.signal(Signal::KILL)?;
        self.end().await.map(|_| ())
    }

    /// SIGTERM; returns when the ledger has all that it told. Fails unless it ended well.
    pub(super) async fn terminate(&mut self) -> Result<(), String> {
        self.may_end.store(true, Ordering::Relaxed);
        self.signal(Signal::TERM)?;
        match self.end().await? {
            status if status.success() => Ok(()),
            status => Err(format!("a service ended with {status} after SIGTERM")),
        }
    }

    async fn end(&mut self) -> Result<ExitStatus, String> {
        let end = async {
            let status = self.child.wait().await;
            (&mut self.reader).await.map(|()| status)
        };
        let ended = tokio::time::timeout(PATIENCE, end).await;
        let ended = ended.map_err(|_| format!("a service did not end within {PATIENCE:?}"))?;
        let status = ended.map_err(|error| error.to_string())?;
        status.map_err(|error| error.to_string())
    }

    /// Its resident memory in KiB, now.
    pub(super) fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
