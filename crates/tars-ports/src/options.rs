//! How to connect, once.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::Message;

/// What carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Transport {
    /// `mqtt://`
    #[default]
    Tcp,
    /// `mqtts://`
    Tls,
    /// `ws://`
    WebSocket,
    /// `wss://`
    WebSocketTls,
}

impl Transport {
    /// The scheme of its URLs.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "mqtt",
            Self::Tls => "mqtts",
            Self::WebSocket => "ws",
            Self::WebSocketTls => "wss",
        }
    }

    /// The port where the URL names none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 1883,
            Self::Tls => 8883,
            Self::WebSocket => 80,
            Self::WebSocketTls => 443,
        }
    }

    /// Whether TLS protects the bytes.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::WebSocketTls)
    }

    /// Whether they travel in WebSocket frames.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::WebSocketTls)
    }
}

/// What TLS is made of: PEM files, each read again for every attempt, so that renewed
/// ones are taken over. For transports without TLS they mean nothing.
///
/// There is no way to leave the check of the broker's certificate or of its name out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The certificates to trust; `None`: the roots of the system.
    pub ca: Option<PathBuf>,
    /// The client's certificate, then those that lead to its authority; goes with `key`.
    pub cert: Option<PathBuf>,
    /// The client's private key, not encrypted; goes with `cert`.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// These files.
    #[must_use]
    pub fn new(ca: Option<PathBuf>, cert: Option<PathBuf>, key: Option<PathBuf>) -> Self {
        Self { ca, cert, key }
    }
}

/// User name and password. `Debug` shows neither the password nor its length.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Credentials {
    /// MQTT 3.1.1 section 3.1.3.4.
    pub username: String,
    /// Section 3.1.3.5; without one only the user name is sent.
    pub password: Option<SecretString>,
}

impl Credentials {
    /// Both parts of them.
    #[must_use]
    pub fn new(username: impl Into<String>, password: Option<SecretString>) -> Self {
        Self {
            username: username.into(),
            password,
        }
    }
}

/// Everything an adapter needs for one attempt.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Host name or address, an IPv6 one without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Default [`Transport::Tcp`].
    pub transport: Transport,
    /// Path of a WebSocket URL. Default `/mqtt`.
    pub path: String,
    /// What TLS is made of. Default: the roots of the system, no client certificate.
    pub tls: TlsFiles,
    /// Not empty.
    pub client_id: String,
    /// Default none.
    pub credentials: Option<Credentials>,
    /// How long nothing may be sent before a PINGREQ. Default 60 s.
    pub keep_alive: Duration,
    /// Whether the broker forgets the session at the end of the connection. Default `true`.
    pub clean_session: bool,
    /// What the broker publishes if this connection ends without DISCONNECT.
    pub last_will: Option<Message>,
    /// Bound on the whole attempt, name lookup to CONNACK, and on each later
    /// exchange (SUBACK, UNSUBACK). Default 10 s.
    pub timeout: Duration,
    /// Largest packet in either direction, in bytes. Default 16 MiB.
    pub max_packet_size: usize,
    /// Unsettled QoS 1 and 2 publishes at one time. Default 100.
    pub max_inflight: u16,
    /// Unsettled QoS 2 publishes at one time. Default 10. It must stay below the
    /// broker's own window (Mosquitto: 20): MQTT 3.1.1 has no receive maximum to learn
    /// it from, and a Mosquitto whose window is full acknowledges the next publish and
    /// drops it.
    pub max_inflight_qos2: u16,
    /// At so many received and unacknowledged messages reading pauses. Default 1,024,
    /// well above every broker's own window, which normally binds first.
    pub inbound_messages: usize,
    /// The same in payload bytes. Default 64 MiB. One message always fits.
    pub inbound_bytes: usize,
}

impl ConnectOptions {
    /// Defaults, for this broker and client id.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16, client_id: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port,
            transport: Transport::Tcp,
            path: "/mqtt".to_owned(),
            tls: TlsFiles::default(),
            client_id: client_id.into(),
            credentials: None,
            keep_alive: Duration::from_secs(60),
            clean_session: true,
            last_will: None,
            timeout: Duration::from_secs(10),
            max_packet_size: 16 * 1024 * 1024,
            max_inflight: 100,
            max_inflight_qos2: 10,
            inbound_messages: 1024,
            inbound_bytes: 64 * 1024 * 1024,
        }
    }

    /// `scheme://host:port`, for logs and errors: never with credentials.
    #[must_use]
    pub fn address(&self) -> String {
        let scheme = self.transport.scheme();
        if self.host.contains(':') {
            format!("{scheme}://[{}]:{}", self.host, self.port)
        } else {
            format!("{scheme}://{}:{}", self.host, self.port)
        }
    }
}
