//! What a Mosquitto process is started with: its configuration and its files.

use std::ffi::OsStr;
use std::fmt::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::process::{CONFIG, OPENSSL, Process};
use super::{Listener, Mosquitto, MosquittoError};

/// Ports tried when another process takes the free one first.
const PORTS: usize = 5;

/// Sets a [`Mosquitto`] up; [`start`](Self::start) starts it.
#[derive(Debug, Clone, Default)]
#[must_use = "a builder starts nothing until `start().await`"]
pub struct MosquittoBuilder {
    persistence: bool,
    lines: Vec<String>,
    users: Vec<(String, String)>,
    acl: Option<String>,
    listeners: Vec<Listener>,
    no_tls13: bool,
}

impl MosquittoBuilder {
    /// Whether sessions and retained messages outlive a stop. Default `false`.
    ///
    /// Mosquitto saves when it is stopped; what changed before a kill is lost unless
    /// `autosave_on_changes true` and `autosave_interval 1` are added as lines.
    pub fn persistence(mut self, on: bool) -> Self {
        self.persistence = on;
        self
    }

    /// Adds a line of mosquitto.conf, after those of the builder.
    pub fn config_line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Lets this user in, and nobody without a password any more.
    pub fn password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.push((user.into(), password.into()));
        self
    }

    /// The text of an access file (`acl_file` in mosquitto.conf(5)).
    pub fn acl(mut self, text: impl Into<String>) -> Self {
        self.acl = Some(text.into());
        self
    }

    /// Adds a listener on a port of its own, after the plain one:
    /// [`Mosquitto::listener_port`].
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Makes TLS 1.2 the newest that it speaks. Mosquitto's own `tls_version` only sets the
    /// oldest; this is a setting of its OpenSSL.
    pub fn without_tls13(mut self) -> Self {
        self.no_tls13 = true;
        self
    }

    /// Starts the process on a free port of 127.0.0.1, and resolves once it has
    /// answered a CONNECT.
    ///
    /// Dropped before it resolves, the process ends.
    ///
    /// # Errors
    /// See [`MosquittoError`].
    pub async fn start(self) -> Result<Mosquitto, MosquittoError> {
        let binary = find("mosquitto", std::env::var_os("MOSQUITTO_BIN").map(PathBuf::from))?;
        let folder = TempDir::with_prefix("tars-mosquitto-").map_err(MosquittoError::io("making a folder"))?;
        self.write_files(&binary, folder.path())?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let ports = free_ports(1 + self.listeners.len()).map_err(MosquittoError::io("finding free ports"))?;
            let (port, further_ports) = (ports[0], ports[1..].to_vec());
            self.write_config(port, &further_ports, folder.path())
                .map_err(MosquittoError::io("writing the configuration"))?;
            match Process::start(port, &binary, folder.path()).await {
                Ok(process) => {
                    return Ok(Mosquitto {
                        process: Some(process),
                        port,
                        further_ports,
                        binary,
                        folder,
                    });
                }
                Err(MosquittoError::Exited { log }) if attempt < PORTS && super::process::port_was_taken(&log) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write_config(&self, port: u16, further_ports: &[u16], folder: &Path) -> std::io::Result<()> {
        let mut text = String::new();
        // Mosquitto started by root becomes the user `mosquitto`, who may not read here.
        if rustix::process::geteuid().is_root() {
            text.push_str("user root\n");
        }
        // A million stands for "no limit", which would be 0: with 0, Mosquitto 2.0.11
        // takes the limit as reached and drops a client whose publish the ACL denies.
        text.push_str("log_dest stderr\nlog_type all\nmax_queued_messages 1000000\n");
        // Global settings end where the listener begins.
        let persistence = match self.persistence {
            true => format!("persistence true\npersistence_location {}/\n", folder.display()),
            false => "persistence false\n".to_owned(),
        };
        text.push_str(&persistence);
        if self.acl.is_some() {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "acl_file {}", folder.join("acl").display());
        }
        if !self.users.is_empty() {
            let _ = writeln!(text, "password_file {}", folder.join("passwords").display());
        }
        let _ = writeln!(text, "listener {port} 127.0.0.1");
        let _ = writeln!(text, "allow_anonymous {}", self.users.is_empty());
        for line in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        for (listener, &port) in self.listeners.iter().zip(further_ports) {
            listener.write(port, &mut text);
        }
        std::fs::write(folder.join(CONFIG), text)
    }

    fn write_files(&self, binary: &Path, folder: &Path) -> Result<(), MosquittoError> {
        let io = MosquittoError::io;
        if let Some(acl) = &self.acl {
            std::fs::write(folder.join("acl"), acl).map_err(io("writing the access file"))?;
        }
        if self.no_tls13 {
            let text = "openssl_conf = conf\n[conf]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n\
                        [tls]\nMaxProtocol = TLSv1.2\n";
            std::fs::write(folder.join(OPENSSL), text).map_err(io("writing the settings of OpenSSL"))?;
        }
        if self.users.is_empty() {
            return Ok(());
        }
        let file = folder.join("passwords");
        let lines: String = self
            .users
            .iter()
            .map(|(user, password)| format!("{user}:{password}\n"))
            .collect();
        std::fs::write(&file, lines).map_err(io("writing the password file"))?;
        // It takes milliseconds, so that it may block. It hashes the file in place, so that no password stands on a command line.
        let program = find("mosquitto_passwd", Some(binary.with_file_name("mosquitto_passwd")))?;
        let run = Command::new(program)
            .arg("-U")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        let status = run.map_err(io("running mosquitto_passwd"))?;
        if !status.success() {
            let failed = std::io::Error::other(status.to_string());
            return Err(io("hashing the passwords with mosquitto_passwd")(failed));
        }
        Ok(())
    }
}

/// `first` if it is a file, else the program in PATH, else where Debian puts daemons.
fn find(program: &'static str, first: Option<PathBuf>) -> Result<PathBuf, MosquittoError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_in(program, first, &path).ok_or(MosquittoError::NotInstalled { program })
}

fn find_in(program: &str, first: Option<PathBuf>, path: &OsStr) -> Option<PathBuf> {
    let folders = std::env::split_paths(path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let candidates = folders.map(|folder| folder.join(program));
    first
        .into_iter()
        .chain(candidates)
        .find(|candidate| candidate.is_file())
}

/// Free at this moment; whoever takes them first has them.
fn free_ports(number: usize) -> std::io::Result<Vec<u16>> {
    let bound: Vec<_> = (0..number)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<_, _>>()?;
    bound.iter().map(|socket| Ok(socket.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_how_to_install_it() {
        let error = find("tars-no-such-broker", None).expect_err("there is no such program");
        assert!(error.to_string().contains("apt-get install -y mosquitto"), "{error}");
    }

    #[test]
    fn a_given_program_comes_first() {
        let given = TempDir::new().expect("a folder");
        let here = given.path().join("mosquitto");
        std::fs::write(&here, "").expect("written");
        let found = find_in("mosquitto", Some(here.clone()), OsStr::new(""));
        assert_eq!(found, Some(here.clone()));
        assert_eq!(find_in("mosquitto", None, given.path().as_os_str()), Some(here));
    }
}
