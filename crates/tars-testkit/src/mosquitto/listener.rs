//! A further port of a broker: with TLS, WebSocket, or both.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A listener beside the plain one that every [`Mosquitto`](super::Mosquitto) has.
#[derive(Debug, Clone, Default)]
#[must_use = "a listener is nothing without a builder that takes it"]
pub struct Listener {
    websocket: bool,
    certificate: Option<(PathBuf, PathBuf)>,
    client_ca: Option<PathBuf>,
    lines: Vec<String>,
}

impl Listener {
    /// Plain MQTT over TCP, so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Over WebSocket.
    pub fn websocket(mut self) -> Self {
        self.websocket = true;
        self
    }

    /// Over TLS, with this certificate and its private key: PEM files.
    pub fn tls(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate = Some((cert.into(), key.into()));
        self
    }

    /// Lets only clients in that have a certificate of this authority.
    pub fn require_certificate(mut self, ca: impl Into<PathBuf>) -> Self {
        self.client_ca = Some(ca.into());
        self
    }

    /// Adds a line of mosquitto.conf, of those that belong to a listener.
    pub fn config_line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Its part of mosquitto.conf.
    pub(super) fn write(&self, port: u16, text: &mut String) {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "listener {port} 127.0.0.1");
        let mut file = |name: &str, path: &Path| {
            let _ = writeln!(text, "{name} {}", path.display());
        };
        if let Some((cert, key)) = &self.certificate {
            file("certfile", cert);
            file("keyfile", key);
        }
        if let Some(ca) = &self.client_ca {
            file("cafile", ca);
            text.push_str("require_certificate true\n");
        }
        if self.websocket {
            text.push_str("protocol websockets\n");
        }
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
    }
}
