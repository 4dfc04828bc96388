//! A real Mosquitto process on loopback, held by a test: started, stopped, killed,
//! paused, and started again on the same port with what it had saved.
//!
//! ```no_run
//! use tars_testkit::mosquitto::Mosquitto;
//!
//! # async fn example() -> Result<(), tars_testkit::mosquitto::MosquittoError> {
//! let mut broker = Mosquitto::builder().persistence(true).start().await?;
//! println!("{}", broker.url());
//! broker.kill().await?;
//! broker.start_again().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: signals go to this child only, by its own id while it is not yet
//! reaped; dropping the value ends the child and removes its folder. It works on a real
//! process, hence not in tokio's paused time.

mod builder;
mod listener;
mod probe;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

pub use builder::MosquittoBuilder;
pub use listener::Listener;

use self::process::Process;

/// How long the broker may take to answer after its start, or to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of the log that an error shows.
const LOG_END: usize = 4096;

/// Why a broker process is not as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MosquittoError {
    /// A program of the package is not there.
    #[error(
        "{program} was not found in PATH, /usr/sbin, /usr/local/sbin or $MOSQUITTO_BIN; install it with \
         `apt-get install -y mosquitto mosquitto-clients` (`cargo xtask test` does)"
    )]
    NotInstalled {
        /// Its name.
        program: &'static str,
    },
    /// Its folder, its files or the process itself could not be made.
    #[error("{what} failed")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// The process ended before it answered.
    #[error("mosquitto ended by itself; it said:\n{log}")]
    Exited {
        /// The end of its log.
        log: String,
    },
    /// It runs and does not answer, or does not end.
    #[error("mosquitto did not {what} within {PATIENCE:?}; it said:\n{log}")]
    Slow {
        /// What was awaited.
        what: &'static str,
        /// The end of its log.
        log: String,
    },
    /// It is stopped and cannot be paused or resumed.
    #[error("mosquitto is not running")]
    NotRunning,
}

impl MosquittoError {
    fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// The broker process. See the [module](self).
#[derive(Debug)]
pub struct Mosquitto {
    // First, so that the process is gone before its folder goes.
    process: Option<Process>,
    port: u16,
    further_ports: Vec<u16>,
    binary: PathBuf,
    folder: TempDir,
}

impl Mosquitto {
    /// A broker to be set up: anybody may connect, nothing is saved, and a
    /// million messages may wait for each client.
    pub fn builder() -> MosquittoBuilder {
        MosquittoBuilder::default()
    }

    /// Starts one with the defaults of [`builder`](Self::builder).
    ///
    /// # Errors
    /// See [`MosquittoError`].
    pub async fn start() -> Result<Self, MosquittoError> {
        Self::builder().start().await
    }

    /// Its port on 127.0.0.1; the same for its whole life.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of a further listener, counted from 0 in the order of
    /// [`MosquittoBuilder::listener`]; the same for its whole life.
    ///
    /// # Panics
    /// When there is no such listener.
    #[must_use]
    pub fn listener_port(&self, index: usize) -> u16 {
        self.further_ports[index]
    }

    /// `mqtt://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Whether there is a process, paused or not. One that died by itself counts as
    /// running until it is stopped or started again.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// All it has said so far, over all its starts (`log_type all`).
    #[must_use]
    pub fn log(&self) -> String {
        read_log(self.folder.path())
    }

    /// Ends it with SIGTERM and waits until it is gone: with persistence, everything is
    /// saved. A paused one is resumed first; a stopped one stays stopped.
    ///
    /// Dropped before it resolves, the end goes on by itself.
    ///
    /// # Errors
    /// [`MosquittoError::Slow`] when it had to be killed in the end.
    pub async fn stop(&mut self) -> Result<(), MosquittoError> {
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        process.terminate(self.folder.path()).await
    }

    /// Ends it with SIGKILL and waits until it is gone: what Mosquitto had not saved
    /// is lost, and no client is told. A stopped one stays stopped.
    ///
    /// # Errors
    /// [`MosquittoError::Io`].
    pub async fn kill(&mut self) -> Result<(), MosquittoError> {
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        process.kill().await
    }

    /// Starts it on the same port, with the same folder, and waits until it answers.
    /// Nothing happens where it runs already. Until the port is free again it is tried
    /// anew, for up to 10 s.
    ///
    /// # Errors
    /// See [`MosquittoError`].
    pub async fn start_again(&mut self) -> Result<(), MosquittoError> {
        if self.process.is_none() {
            let process = Process::start_on(self.port, &self.binary, self.folder.path()).await?;
            self.process = Some(process);
        }
        Ok(())
    }

    /// [`stop`](Self::stop), then [`start_again`](Self::start_again).
    ///
    /// # Errors
    /// See [`MosquittoError`].
    pub async fn restart(&mut self) -> Result<(), MosquittoError> {
        self.stop().await?;
        self.start_again().await
    }

    /// Makes it save (SIGUSR1), and resolves once a save is complete that began after the
    /// call. It needs [`persistence`](MosquittoBuilder::persistence).
    ///
    /// # Errors
    /// [`MosquittoError::NotRunning`]; [`MosquittoError::Slow`] where nothing is saved.
    pub async fn save(&self) -> Result<(), MosquittoError> {
        let process = self.process.as_ref().ok_or(MosquittoError::NotRunning)?;
        // One may be under way that began before: it is the second that counts.
        for _ in 0..2 {
            process.save(self.folder.path()).await?;
        }
        Ok(())
    }

    /// What it saved last: the bytes of its file, which is replaced as a whole. Empty
    /// where there is none.
    ///
    /// # Errors
    /// [`MosquittoError::Io`].
    pub fn saved(&self) -> Result<Vec<u8>, MosquittoError> {
        match std::fs::read(self.folder.path().join(process::SAVED)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(MosquittoError::io("reading what mosquitto saved")),
        }
    }

    /// Removes what it saved: stopped or killed before, it starts again without any
    /// session and any message.
    ///
    /// # Errors
    /// [`MosquittoError::Io`].
    pub fn forget(&self) -> Result<(), MosquittoError> {
        match std::fs::remove_file(self.folder.path().join(process::SAVED)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(MosquittoError::io("removing what mosquitto saved")),
        }
    }

    /// Stops its clock with SIGSTOP: it accepts bytes (the kernel does) and answers
    /// nothing. Returns once it stands still.
    ///
    /// # Errors
    /// [`MosquittoError::NotRunning`], [`MosquittoError::Exited`].
    pub fn pause(&self) -> Result<(), MosquittoError> {
        let process = self.process.as_ref().ok_or(MosquittoError::NotRunning)?;
        process.pause(self.folder.path())
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    /// [`MosquittoError::NotRunning`].
    pub fn resume(&self) -> Result<(), MosquittoError> {
        let process = self.process.as_ref().ok_or(MosquittoError::NotRunning)?;
        process.resume()
    }
}

fn read_log(folder: &Path) -> String {
    match std::fs::read(folder.join(process::LOG)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(no log: {error})"),
    }
}

/// As much of it as an error message bears.
fn read_end_of_log(folder: &Path) -> String {
    let log = read_log(folder);
    let mut start = log.len().saturating_sub(LOG_END);
    while !log.is_char_boundary(start) {
        start += 1;
    }
    log[start..].to_owned()
}
