//! [`ConfigBuilder`]: the settings in code, and the sources below them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use tars_contracts::HealthFormat;
use tars_ports::Error;

use super::sources::Sources;
use super::{Adapter, Config, assemble};

/// Collects settings; [`build`](Self::build) checks them all together.
///
/// Each method is named as its variable, without `MQTT_` and in lower case. What is given here
/// overrides what [`env`](Self::env) reads, whichever is called first; of two calls of one method
/// the last one counts. An empty text or path means "not set".
///
/// ```
/// use std::time::Duration;
/// use tars_mqtt::Config;
///
/// let config = Config::builder()
///     .url("mqtt://localhost")
///     .client_id("stt")
///     .enable_health(true)
///     .keepalive(Duration::from_secs(20))
///     .build()?;
/// assert_eq!(config.broker.port, 1883);
/// # Ok::<(), tars_mqtt::Error>(())
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct ConfigBuilder {
    pub(super) sources: Option<Sources>,
    pub(super) url: Option<SecretString>,
    pub(super) client_id: Option<String>,
    pub(super) source_name: Option<String>,
    pub(super) keepalive: Option<Duration>,
    pub(super) enable_health: Option<bool>,
    pub(super) enable_heartbeat: Option<bool>,
    pub(super) heartbeat_interval: Option<Duration>,
    pub(super) dedupe_ttl: Option<Duration>,
    pub(super) dedupe_max_entries: Option<usize>,
    pub(super) reconnect_min_delay: Option<Duration>,
    pub(super) reconnect_max_delay: Option<Duration>,
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) clean_session: Option<bool>,
    pub(super) connect_retry: Option<bool>,
    pub(super) max_packet_size: Option<usize>,
    pub(super) publish_timeout: Option<Duration>,
    pub(super) shutdown_timeout: Option<Duration>,
    pub(super) reconnect: Option<bool>,
    pub(super) health_format: Option<HealthFormat>,
    pub(super) adapter: Option<Adapter>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) max_inflight: Option<u16>,
    pub(super) outbox_messages: Option<usize>,
    pub(super) outbox_bytes: Option<usize>,
    pub(super) inbound_messages: Option<usize>,
    pub(super) inbound_bytes: Option<usize>,
    pub(super) max_subscriptions: Option<usize>,
}

impl ConfigBuilder {
    /// Reads the environment, and below it the file `.env` in the working directory, once and
    /// now. Problems with reading are told by [`build`](Self::build). Without this call neither
    /// is looked at.
    pub fn env(mut self) -> Self {
        self.sources = Some(Sources::read(Path::new(".env")));
        self
    }

    /// As [`env`](Self::env), with these variables for the environment and no file.
    #[doc(hidden)]
    pub fn vars<N: Into<String>, V: Into<String>>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.sources = Some(Sources::variables(variables));
        self
    }

    /// Where the broker is, as in [`BrokerUrl`](super::BrokerUrl), with or without credentials.
    /// Required.
    pub fn url(mut self, url: impl Into<SecretString>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Who this client is to the broker; of two with one id the broker throws one out. Required,
    /// 1 to 65,535 bytes without U+0000; with health or heartbeat on without `/`, `+` and `#`.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// The `source` of the envelopes. Default: the client id.
    pub fn source_name(mut self, name: impl Into<String>) -> Self {
        self.source_name = Some(name.into());
        self
    }

    /// How long nothing may be sent before a PINGREQ. Whole seconds, 1 to 3600. Default 60 s.
    pub fn keepalive(mut self, interval: Duration) -> Self {
        self.keepalive = Some(interval);
        self
    }

    /// Whether health is published, and left as the last will. Default `false`.
    pub fn enable_health(mut self, on: bool) -> Self {
        self.enable_health = Some(on);
        self
    }

    /// Whether heartbeats are published, and watched. Default `false`.
    pub fn enable_heartbeat(mut self, on: bool) -> Self {
        self.enable_heartbeat = Some(on);
        self
    }

    /// Between two heartbeats; checked also while they are off. At least 1 s. Default 30 s.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = Some(interval);
        self
    }

    /// How long a handled message is remembered. Default zero: no deduplication.
    pub fn dedupe_ttl(mut self, ttl: Duration) -> Self {
        self.dedupe_ttl = Some(ttl);
        self
    }

    /// How many handled messages are remembered at most, per subscription. Zero is an error where
    /// deduplication is on. Default 10,000.
    pub fn dedupe_max_entries(mut self, entries: usize) -> Self {
        self.dedupe_max_entries = Some(entries);
        self
    }

    /// Nominal delay before the first reconnect. At least 0.1 s. Default 0.5 s.
    pub fn reconnect_min_delay(mut self, delay: Duration) -> Self {
        self.reconnect_min_delay = Some(delay);
        self
    }

    /// Nominal delay that doubling stops at, and how long a connection has to last to count as
    /// stable. At least 0.5 s, and not below the minimum delay. Default 5 s.
    pub fn reconnect_max_delay(mut self, delay: Duration) -> Self {
        self.reconnect_max_delay = Some(delay);
        self
    }

    /// Overrides the URL's user name. At most 65,535 bytes, without U+0000.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// Overrides the URL's password, and a password file from a lower source. At most 65,535
    /// bytes; needs a user name.
    pub fn password(mut self, password: impl Into<SecretString>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// A file with the password, read by [`build`](Self::build) and for every new connection
    /// ([`Config::current_credentials`]). One line end at its end is left out. Overrides the
    /// URL's password, and a password from a lower source.
    pub fn password_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.password_file = Some(path.into());
        self
    }

    /// PEM file with the certificates to trust. Default: the system's roots.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// PEM file with the client's certificate chain; needs a key file.
    pub fn cert_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.cert_file = Some(path.into());
        self
    }

    /// PEM file with the client's private key; needs a certificate file.
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_file = Some(path.into());
        self
    }

    /// Whether the broker forgets the session when the connection ends. Default `true`.
    pub fn clean_session(mut self, on: bool) -> Self {
        self.clean_session = Some(on);
        self
    }

    /// Whether connecting keeps trying instead of failing on the first refusal. Default `false`.
    pub fn connect_retry(mut self, on: bool) -> Self {
        self.connect_retry = Some(on);
        self
    }

    /// Largest packet in either direction, in bytes: 128 to 268,435,455. Default 16 MiB.
    pub fn max_packet_size(mut self, bytes: usize) -> Self {
        self.max_packet_size = Some(bytes);
        self
    }

    /// How long a QoS 1 or 2 publish may stay unsettled, reconnects included. Above zero. Default
    /// 30 s.
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = Some(timeout);
        self
    }

    /// How long a shutdown waits for handlers and unsettled publishes. Zero: not at all. Default
    /// 5 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = Some(timeout);
        self
    }

    /// Whether a lost connection is made anew; `false`: the client ends with the reason. Default
    /// `true`.
    pub fn reconnect(mut self, on: bool) -> Self {
        self.reconnect = Some(on);
        self
    }

    /// How health is written. Default [`HealthFormat::Reference`].
    pub fn health_format(mut self, format: HealthFormat) -> Self {
        self.health_format = Some(format);
        self
    }

    /// Which library makes the connections; one that is not compiled in is an error. Default
    /// [`Adapter::Rumqttc`].
    pub fn adapter(mut self, adapter: Adapter) -> Self {
        self.adapter = Some(adapter);
        self
    }

    /// Bound on one attempt to connect, from name lookup to CONNACK, and on each SUBACK and
    /// UNSUBACK. Above zero. Default 10 s. Has no variable.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Unsettled QoS 1 and 2 publishes on the wire at one time. At least 1. Default 100. Has no
    /// variable.
    pub fn max_inflight(mut self, publishes: u16) -> Self {
        self.max_inflight = Some(publishes);
        self
    }

    /// Unsettled publishes that are kept, on the wire or waiting; at the bound, publishing waits.
    /// At least 1. Default 1000. Has no variable.
    pub fn outbox_messages(mut self, messages: usize) -> Self {
        self.outbox_messages = Some(messages);
        self
    }

    /// The same in bytes of payload. At least 1. Default 64 MiB. Has no variable.
    pub fn outbox_bytes(mut self, bytes: usize) -> Self {
        self.outbox_bytes = Some(bytes);
        self
    }

    /// At so many received and unacknowledged messages reading pauses. At least 1. Default 1024.
    /// Has no variable.
    pub fn inbound_messages(mut self, messages: usize) -> Self {
        self.inbound_messages = Some(messages);
        self
    }

    /// The same in bytes of payload; one message always fits. At least 1. Default 64 MiB. Has no
    /// variable.
    pub fn inbound_bytes(mut self, bytes: usize) -> Self {
        self.inbound_bytes = Some(bytes);
        self
    }

    /// So many subscriptions there are at most, routes of the builder and reply topics included;
    /// one more is [`ErrorKind::Full`](tars_ports::ErrorKind::Full). At least 1. Default 10,000.
    /// Has no variable.
    pub fn max_subscriptions(mut self, subscriptions: usize) -> Self {
        self.max_subscriptions = Some(subscriptions);
        self
    }

    /// Checks everything and reads the password file. Warnings are logged here, also on failure,
    /// and kept for [`Config::warnings`].
    ///
    /// # Errors
    /// One [`ErrorKind::Config`](tars_ports::ErrorKind::Config) for all problems: its first line
    /// has their number, each further line one problem with its setting, value, source and rule.
    pub fn build(self) -> Result<Config, Error> {
        assemble::assemble(self)
    }
}

/// Shows no values: there are secrets among them.
impl fmt::Debug for ConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigBuilder").finish_non_exhaustive()
    }
}

/// Everything as given in code, so that it can be changed and checked anew.
impl From<Config> for ConfigBuilder {
    fn from(config: Config) -> Self {
        let (username, password) = match config.credentials {
            Some(credentials) => (Some(credentials.username), credentials.password),
            None => (None, None),
        };
        Self {
            sources: None,
            url: Some(config.broker.to_string().into()),
            client_id: Some(config.client_id),
            source_name: Some(config.source_name),
            keepalive: Some(config.keep_alive),
            enable_health: Some(config.health),
            enable_heartbeat: Some(config.heartbeat.is_some()),
            heartbeat_interval: config.heartbeat,
            dedupe_ttl: Some(config.dedupe_ttl),
            dedupe_max_entries: Some(config.dedupe_max_entries),
            reconnect_min_delay: Some(config.reconnect_min_delay),
            reconnect_max_delay: Some(config.reconnect_max_delay),
            username,
            password: password.filter(|_| config.password_file.is_none()),
            password_file: config.password_file,
            ca_file: config.ca_file,
            cert_file: config.cert_file,
            key_file: config.key_file,
            clean_session: Some(config.clean_session),
            connect_retry: Some(config.connect_retry),
            max_packet_size: Some(config.max_packet_size),
            publish_timeout: Some(config.publish_timeout),
            shutdown_timeout: Some(config.shutdown_timeout),
            reconnect: Some(config.reconnect),
            health_format: Some(config.health_format),
            // The default need not be compiled in: a connector of the user's own may take its place.
            adapter: Some(config.adapter).filter(|adapter| *adapter != Adapter::default()),
            connect_timeout: Some(config.connect_timeout),
            max_inflight: Some(config.max_inflight),
            outbox_messages: Some(config.outbox_messages),
            outbox_bytes: Some(config.outbox_bytes),
            inbound_messages: Some(config.inbound_messages),
            inbound_bytes: Some(config.inbound_bytes),
            max_subscriptions: Some(config.max_subscriptions),
        }
    }
}
