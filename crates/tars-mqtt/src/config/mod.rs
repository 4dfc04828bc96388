//! Configuration: from the environment, from `.env`, from code, checked as a whole.
//!
//! The way of a setting: [`settings`] names it and its rule, [`sources`] has its variable's text,
//! [`builder`] its value from code, [`reading`] decides between them, [`assemble`] checks what
//! spans several and makes the [`Config`]; whatever is wrong meets in one [`report`]. Nothing here
//! opens a connection.

mod assemble;
mod builder;
mod credentials;
mod env_file;
mod files;
mod reading;
mod report;
mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod url;

use std::path::PathBuf;
use std::time::Duration;

use tars_contracts::HealthFormat;
use tars_ports::{Credentials, Error, ErrorKind};

pub use builder::ConfigBuilder;
pub use url::BrokerUrl;

/// Everything a client is told. `Debug` shows no password.
///
/// A value made by [`from_env`](Self::from_env), [`new`](Self::new) or
/// [`builder`](Self::builder) is valid as a whole. The fields may be changed afterwards;
/// [`validate`](Self::validate) checks them again.
///
/// The defaults are those of the builder's methods of the same names.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where the broker is.
    pub broker: BrokerUrl,
    /// Who this client is to the broker.
    pub client_id: String,
    /// The `source` of the envelopes.
    pub source_name: String,
    /// As they were when the configuration was made; see
    /// [`current_credentials`](Self::current_credentials).
    pub credentials: Option<Credentials>,
    /// Where the password is from, if it is from a file.
    pub password_file: Option<PathBuf>,
    /// How long nothing may be sent before a PINGREQ.
    pub keep_alive: Duration,
    /// Whether health is published.
    pub health: bool,
    /// Between two heartbeats; `None`: they are off.
    pub heartbeat: Option<Duration>,
    /// How health is written.
    pub health_format: HealthFormat,
    /// How long a handled message is remembered; zero: deduplication is off.
    pub dedupe_ttl: Duration,
    /// How many handled messages are remembered at most, per subscription.
    pub dedupe_max_entries: usize,
    /// Whether a lost connection is made anew.
    pub reconnect: bool,
    /// Nominal delay before the first reconnect.
    pub reconnect_min_delay: Duration,
    /// Nominal delay that doubling stops at.
    pub reconnect_max_delay: Duration,
    /// Whether the broker forgets the session when the connection ends.
    pub clean_session: bool,
    /// Whether connecting keeps trying instead of failing on the first refusal.
    pub connect_retry: bool,
    /// Largest packet in either direction, in bytes.
    pub max_packet_size: usize,
    /// How long a QoS 1 or 2 publish may stay unsettled.
    pub publish_timeout: Duration,
    /// How long a shutdown waits for handlers and unsettled publishes.
    pub shutdown_timeout: Duration,
    /// PEM file with the certificates to trust; `None`: the system's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate chain.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the client's private key.
    pub key_file: Option<PathBuf>,
    /// Which library makes the connections.
    pub adapter: Adapter,
    /// Bound on one attempt to connect, and on each SUBACK and UNSUBACK.
    pub connect_timeout: Duration,
    /// Unsettled QoS 1 and 2 publishes on the wire at one time.
    pub max_inflight: u16,
    /// Unsettled publishes that are kept, on the wire or waiting.
    pub outbox_messages: usize,
    /// The same in bytes of payload.
    pub outbox_bytes: usize,
    /// At so many received and unacknowledged messages reading pauses.
    pub inbound_messages: usize,
    /// The same in bytes of payload.
    pub inbound_bytes: usize,
    /// Subscriptions that there are at most.
    pub max_subscriptions: usize,
    warnings: Vec<String>,
}

impl Config {
    /// From the environment, and below it the file `.env` in the working directory. To override
    /// some of it in code: `Config::builder().env().keepalive(…).build()`.
    ///
    /// # Errors
    /// All problems together, as [`ConfigBuilder::build`].
    pub fn from_env() -> Result<Self, Error> {
        Self::builder().env().build()
    }

    /// Defaults for this broker and client id; neither environment nor `.env` is read.
    ///
    /// # Errors
    /// All problems together, as [`ConfigBuilder::build`].
    pub fn new(url: &str, client_id: impl Into<String>) -> Result<Self, Error> {
        Self::builder().url(url).client_id(client_id).build()
    }

    /// Nothing set yet.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Whether it is still valid after fields were changed. Reads the password file again.
    ///
    /// # Errors
    /// All problems together, as [`ConfigBuilder::build`], by the names of the builder's methods.
    pub fn validate(&self) -> Result<(), Error> {
        ConfigBuilder::from(self.clone()).build().map(drop)
    }

    /// User name and password for the next connection: the password file is read again, so that a
    /// renewed secret is taken over without a restart. Blocks for that read.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the file cannot be used at present.
    pub fn current_credentials(&self) -> Result<Option<Credentials>, Error> {
        let (Some(path), Some(credentials)) = (&self.password_file, &self.credentials) else {
            return Ok(self.credentials.clone());
        };
        match files::password(path) {
            Ok(password) => Ok(Some(Credentials::new(&credentials.username, Some(password)))),
            Err(reason) => Err(Error::new(
                ErrorKind::Config,
                format!("the password file {}: {reason}", path.display()),
            )),
        }
    }

    /// What is odd and no error: unknown `MQTT_*` variables with the known name that is nearest,
    /// and TLS files for a connection that is not encrypted. Logged already.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The MQTT library that makes the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Adapter {
    /// rumqttc, by the feature `rumqttc`.
    #[default]
    Rumqttc,
    /// Eclipse Paho, by the feature `paho`.
    Paho,
}

impl Adapter {
    /// As in `MQTT_ADAPTER`, and the name of the feature that compiles it in.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rumqttc => "rumqttc",
            Self::Paho => "paho",
        }
    }

    /// Whether this build has it.
    #[must_use]
    pub fn is_compiled_in(self) -> bool {
        match self {
            Self::Rumqttc => cfg!(feature = "rumqttc"),
            Self::Paho => cfg!(feature = "paho"),
        }
    }
}
