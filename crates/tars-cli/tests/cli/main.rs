//! The command as it is run by people and scripts, against a real Mosquitto.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod completions;
mod deploy;
mod doctor;
mod tail;
mod tls;
mod watch;

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tars_mqtt::{Client, Config, ConfigBuilder};
use tars_testkit::mosquitto::Mosquitto;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Far above what any of it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command line in an empty folder, with no `MQTT_` variable but those given.
pub(crate) struct Tars {
    command: Command,
    _folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Each line of stdout as JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Tars {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tars"));
        command.args(arguments).current_dir(folder.path()).kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MQTT_") || name == "NO_COLOR" || name == "CLICOLOR_FORCE" {
                command.env_remove(name);
            }
        }
        Self {
            command,
            _folder: folder,
        }
    }

    /// On this broker.
    pub(crate) fn at(broker: &Mosquitto, arguments: &[&str]) -> Self {
        Self::new(arguments).variable("MQTT_URL", &broker.url())
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self._folder.path()
    }

    pub(crate) async fn run(self) -> Ended {
        self.run_with("").await
    }

    /// With this on stdin.
    pub(crate) async fn run_with(mut self, input: &str) -> Ended {
        let pipes = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        // A command that does not read its stdin may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
        let output = timeout(PATIENCE, child.wait_with_output())
            .await
            .expect("it ends")
            .unwrap();
        Ended {
            code: output.status.code().expect("it was not killed"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Left running.
    pub(crate) fn start(mut self) -> Running {
        let pipes = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = pipes.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running {
            child,
            lines,
            _tars: self,
        }
    }
}

/// A command that goes on until it is stopped.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _tars: Tars,
}

impl Running {
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("a line comes")
            .unwrap();
        line.expect("it still runs")
    }

    /// The next line of JSON that this is true of.
    pub(crate) async fn json_until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = serde_json::from_str(&self.line().await).unwrap();
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Nobody reads its output any more; its exit code.
    pub(crate) async fn unread(self) -> i32 {
        let Self { mut child, lines, .. } = self;
        drop(lines);
        timeout(PATIENCE, child.wait())
            .await
            .expect("it ends")
            .unwrap()
            .code()
            .unwrap()
    }
}

pub(crate) fn service(broker: &Mosquitto, client_id: &str) -> ConfigBuilder {
    Config::builder().url(broker.url()).client_id(client_id)
}

pub(crate) async fn connected(config: ConfigBuilder) -> Client {
    let client = Client::new(config.build().unwrap()).unwrap();
    client.connect().await.unwrap();
    client
}
