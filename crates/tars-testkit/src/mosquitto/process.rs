//! The child itself: from its start to its end, and the signals in between.
//!
//! `std::process::Child` and not tokio's, because it is bound to no runtime: a broker
//! may outlive the test that started it. Waiting for it is done on a blocking thread.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::time::{Instant, sleep, timeout};

use super::{MosquittoError, PATIENCE, probe, read_end_of_log, read_log};

pub(super) const CONFIG: &str = "mosquitto.conf";
/// Where it is, the broker's OpenSSL is set by it.
pub(super) const OPENSSL: &str = "openssl.cnf";
pub(super) const LOG: &str = "mosquitto.log";
/// Mosquitto's own name for it; a new one takes its place when it is complete.
pub(super) const SAVED: &str = "mosquitto.db";

/// Between two looks at a process that has nothing to await.
const LOOK: Duration = Duration::from_millis(5);

/// A child that is not reaped yet. Dropping it kills and reaps it.
#[derive(Debug)]
pub(super) struct Process {
    /// `None` only after it was handed to the thread that reaps it.
    child: Option<Child>,
    pid: Pid,
}

/// Whether the log of a failed start says that somebody else has the port.
pub(super) fn port_was_taken(log: &str) -> bool {
    last_start(log).contains("Address already in use")
}

/// The log goes over all starts; this is what it says since the last one.
fn last_start(log: &str) -> &str {
    log.rfind(" starting").map_or(log, |at| &log[at..])
}

impl Process {
    /// Starts the process, and resolves once it has answered a CONNECT.
    pub(super) async fn start(port: u16, binary: &Path, folder: &Path) -> Result<Self, MosquittoError> {
        let io = MosquittoError::io;
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join(LOG))
            .map_err(io("opening the log"))?;
        let mut command = Command::new(binary);
        if folder.join(OPENSSL).exists() {
            command.env("OPENSSL_CONF", folder.join(OPENSSL));
        }
        let child = command
            .arg("-c")
            .arg(folder.join(CONFIG))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(io("opening the log"))?)
            .stderr(log)
            .spawn()
            .map_err(io("starting mosquitto"))?;
        let pid = Pid::from_child(&child);
        let mut process = Self {
            child: Some(child),
            pid,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = timeout(PATIENCE, probe::answers(port)).await;
            let exited = process
                .child
                .as_mut()
                .is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if exited {
                return Err(MosquittoError::Exited {
                    log: read_end_of_log(folder),
                });
            }
            // Another broker that happens to have the port would answer too: this one
            // has the probe in its log.
            if let Ok(Ok(from)) = answer
                && last_start(&read_log(folder)).contains(&format!("from {from} on"))
            {
                return Ok(process);
            }
            if Instant::now() >= deadline {
                return Err(MosquittoError::Slow {
                    what: "answer a CONNECT",
                    log: read_end_of_log(folder),
                });
            }
            // A process that opens a socket tells nobody: there is nothing to await.
            sleep(LOOK).await;
        }
    }

    /// As [`start`](Self::start), again and again while the port is taken: the kernel
    /// may need a moment to let go of the last process's socket.
    pub(super) async fn start_on(port: u16, binary: &Path, folder: &Path) -> Result<Self, MosquittoError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::start(port, binary, folder).await {
                Err(MosquittoError::Exited { log }) if port_was_taken(&log) && Instant::now() < deadline => {
                    sleep(LOOK).await;
                }
                result => return result,
            }
        }
    }

    pub(super) async fn terminate(mut self, folder: &Path) -> Result<(), MosquittoError> {
        self.signal(Signal::TERM)?;
        // A stopped process keeps the signal until it goes on.
        self.signal(Signal::CONT)?;
        let pid = self.pid;
        let mut reaped = self.reap();
        match timeout(PATIENCE, &mut reaped).await {
            Ok(result) => result,
            Err(_) => {
                // The thread still waits for it, so the id is still its own.
                kill_process(pid, Signal::KILL)
                    .map_err(|errno| MosquittoError::io("killing mosquitto")(errno.into()))?;
                reaped.await?;
                Err(MosquittoError::Slow {
                    what: "end after SIGTERM",
                    log: read_end_of_log(folder),
                })
            }
        }
    }

    pub(super) async fn kill(mut self) -> Result<(), MosquittoError> {
        self.signal(Signal::KILL)?;
        self.reap().await
    }

    pub(super) fn pause(&self, folder: &Path) -> Result<(), MosquittoError> {
        self.signal(Signal::STOP)?;
        // Returns once it stands still, which takes microseconds. NOWAIT leaves a
        // child that died meanwhile to be reaped by its owner.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid), options)
            .map_err(|errno| MosquittoError::io("pausing mosquitto")(errno.into()))?;
        match status {
            Some(status) if status.stopped() => Ok(()),
            _ => Err(MosquittoError::Exited {
                log: read_end_of_log(folder),
            }),
        }
    }

    /// Resolves once a complete file has taken the place of the present one.
    pub(super) async fn save(&self, folder: &Path) -> Result<(), MosquittoError> {
        let file = folder.join(SAVED);
        // The number alone may be given out again.
        let version = || {
            std::fs::metadata(&file)
                .ok()
                .map(|file| (file.ino(), file.modified().ok()))
        };
        let before = version();
        let deadline = Instant::now() + PATIENCE;
        while version() == before {
            if Instant::now() >= deadline {
                return Err(MosquittoError::Slow {
                    what: "save after SIGUSR1",
                    log: read_end_of_log(folder),
                });
            }
            // Again and again: what comes while it saves is forgotten at the end of that.
            self.signal(Signal::USR1)?;
            // A file that is replaced tells nobody: there is nothing to await.
            sleep(LOOK).await;
        }
        Ok(())
    }

    pub(super) fn resume(&self) -> Result<(), MosquittoError> {
        self.signal(Signal::CONT)
    }

    /// Waits for the end on a blocking thread, which goes on if the caller does not.
    fn reap(&mut self) -> impl Future<Output = Result<(), MosquittoError>> + Unpin + use<> {
        let child = self.child.take();
        let thread = tokio::task::spawn_blocking(move || child.map(|mut child| child.wait()).transpose());
        Box::pin(async move {
            let waited = thread.await.map_err(std::io::Error::other).flatten();
            waited.map_err(MosquittoError::io("waiting for mosquitto to end"))?;
            Ok(())
        })
    }

    /// Only while the child is not reaped, so that the id cannot be somebody else's.
    fn signal(&self, signal: Signal) -> Result<(), MosquittoError> {
        if self.child.is_none() {
            return Err(MosquittoError::NotRunning);
        }
        kill_process(self.pid, signal).map_err(|errno| MosquittoError::io("sending a signal")(errno.into()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGKILL ends a stopped process too; waiting for it is short. Errors mean
            // that it is gone already.
            let _ = kill_process(self.pid, Signal::CONT);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_start_counts() {
        let log = "1: mosquitto version 2 starting\n1: Error: Address already in use\n";
        assert!(port_was_taken(log));
        let log = format!("{log}2: mosquitto version 2 starting\n2: Error: Unknown configuration variable\n");
        assert!(!port_was_taken(&log));
    }
}
