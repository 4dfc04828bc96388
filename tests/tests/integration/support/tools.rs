//! Mosquitto's command-line clients.

use std::collections::VecDeque;
use std::process::Stdio;

use tars_testkit::mosquitto::Mosquitto;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::child::Child;
use super::{PATIENCE, within};

const ADVICE: &str = "`cargo xtask test` installs it, or `apt-get install -y mosquitto-clients`";

fn tool(program: &str, broker: &Mosquitto) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &broker.port().to_string()]);
    command
}

/// Nothing else is published there.
const MARK: &str = "tools/mark";

/// `mosquitto_sub`, once it is subscribed, which it does not tell: so it subscribes to a retained
/// message as well, last, and has that. Each message is a line of `format` (mosquitto_sub(1),
/// "Output format").
pub(crate) async fn subscribed(broker: &Mosquitto, filter: &str, format: &str) -> Messages {
    publish(broker, &["-t", MARK, "-r", "-q", "1", "-m", "x"], b"").await;
    let mut command = tool("mosquitto_sub", broker);
    command.args(["-t", filter, "-t", MARK, "-q", "1", "-F", &format!("%t: {format}")]);
    let mut messages = Messages {
        child: Child::spawn(command, ADVICE),
        retained: VecDeque::new(),
    };
    loop {
        let line = messages.child.line().await;
        if line.starts_with(MARK) {
            return messages;
        }
        messages.retained.push_back(line);
    }
}

/// What a running `mosquitto_sub` prints.
pub(crate) struct Messages {
    child: Child,
    /// Printed before it was ready.
    retained: VecDeque<String>,
}

impl Messages {
    pub(crate) async fn next(&mut self) -> String {
        let line = match self.retained.pop_front() {
            Some(line) => line,
            None => self.child.line().await,
        };
        let (_topic, message) = line.split_once(": ").expect("as the format says");
        message.to_owned()
    }
}

/// What `mosquitto_sub` prints, run with these arguments up to its end.
pub(crate) async fn sub(broker: &Mosquitto, arguments: &[&str]) -> String {
    let mut command = tool("mosquitto_sub", broker);
    command.args(arguments).args(["-W", &PATIENCE.as_secs().to_string()]);
    let end = Child::spawn(command, ADVICE).end().await;
    assert!(end.status.success(), "mosquitto_sub: {}", end.errors);
    end.output
}

/// Runs `mosquitto_pub` with these arguments, and `input` as its standard input.
pub(crate) async fn publish(broker: &Mosquitto, arguments: &[&str], input: &[u8]) {
    let mut command = tool("mosquitto_pub", broker);
    let spawned = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("mosquitto_pub cannot be started ({error}); {ADVICE}"));
    let mut stdin = child.stdin.take().unwrap();
    let run = async {
        // A client that takes its message from an argument may be gone before it reads.
        let _ = stdin.write_all(input).await;
        drop(stdin);
        child.wait_with_output().await.unwrap()
    };
    let output = within("mosquitto_pub", run).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
