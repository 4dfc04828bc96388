//! A child process, seen through its lines: a service of this package, or a tool.
//!
//! Invariants: its input and outputs are the test's own, its environment has no `MQTT_*` that the
//! test did not give, and it does not outlive the value.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child as Process, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::within;

pub(crate) struct Child {
    process: Process,
    lines: Lines<BufReader<ChildStdout>>,
    errors: JoinHandle<String>,
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    /// What it said on standard output and was not read before.
    pub(crate) output: String,
    /// All it said on standard error.
    pub(crate) errors: String,
}

/// The fixture in one of its roles; see `src/bin/fixture.rs`.
pub(crate) fn fixture(role: &str) -> Command {
    let mut command = service(env!("CARGO_BIN_EXE_fixture"));
    command.arg(role);
    command
}

/// A program whose environment has no `MQTT_*`.
pub(crate) fn service(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MQTT_") {
            command.env_remove(name);
        }
    }
    // A folder without `.env`; a test that wants one sets its own.
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    command
}

impl Child {
    /// # Panics
    /// If there is no such program, with `advice`.
    pub(crate) fn spawn(mut command: Command, advice: &str) -> Self {
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut process = spawned.unwrap_or_else(|error| {
            let program = command.as_std().get_program().display();
            panic!("{program} cannot be started ({error}); {advice}")
        });
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut stderr = process.stderr.take().unwrap();
        // Read all the time, so that a child that says a lot does not stand still.
        let errors = tokio::spawn(async move {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes).await;
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self { process, lines, errors }
    }

    /// A service of this package.
    pub(crate) fn start(command: Command) -> Self {
        Self::spawn(command, "it is built together with this test")
    }

    /// The next line of its standard output.
    ///
    /// # Panics
    /// If it ends before, with all it said on standard error.
    pub(crate) async fn line(&mut self) -> String {
        match within("a line of a child process", self.lines.next_line())
            .await
            .unwrap()
        {
            Some(line) => line,
            None => {
                let status = within("the end of a child process", self.process.wait()).await;
                let errors = within("its standard error", &mut self.errors).await.unwrap();
                panic!("the child ended ({status:?}) without another line; it said: {errors}")
            }
        }
    }

    /// Reads on until this line.
    pub(crate) async fn until_line(&mut self, wanted: &str) {
        while self.line().await != wanted {}
    }

    fn id(&self) -> u32 {
        self.process.id().expect("it was not waited for yet")
    }

    /// The most memory it ever held, in KiB (`VmHWM`, proc(5)).
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> End {
        let status = within("the end of a child process", self.process.wait()).await.unwrap();
        let mut output = String::new();
        while let Some(line) = within("its last lines", self.lines.next_line()).await.unwrap() {
            output.push_str(&line);
            output.push('\n');
        }
        let errors = within("its standard error", self.errors).await.unwrap();
        End { status, output, errors }
    }

    /// SIGKILL: it has no time for a last word.
    pub(crate) async fn kill(self) -> End {
        self.signal(Signal::KILL);
        self.end().await
    }

    /// SIGTERM: it may finish.
    pub(crate) async fn terminate(self) -> End {
        self.signal(Signal::TERM);
        self.end().await
    }
}
