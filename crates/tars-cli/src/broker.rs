//! Where the broker is, and who this command is to it.

use std::time::Duration;

use clap::Args;
use tars_mqtt::contracts::fresh_id;
use tars_mqtt::{Client, Config, ConfigBuilder, Error, Lifecycle, LifecycleEvent};

use crate::args::seconds;
use crate::exit::in_full;
use crate::{output, times};

/// What every command that connects takes.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Broker, such as mqtt://user:password@host:1883 [default: MQTT_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Own client id, never that of a running service [default: tars-{command}-xxxxxxxx]; for
    /// doctor that of the service [default: MQTT_CLIENT_ID]
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// How long connecting may take, in seconds
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) connect_timeout: Duration,
}

impl BrokerArgs {
    /// The settings a service has, from the environment and `.env`, and from these arguments.
    pub(crate) fn as_a_service(&self) -> ConfigBuilder {
        let config = Config::builder().env();
        match &self.url {
            Some(url) => config.url(url.as_str()),
            None => config,
        }
    }

    /// For a client of this command's own: a name of its own, neither health nor heartbeat,
    /// nothing that the broker would keep.
    pub(crate) fn config(&self, command: &str, source: Option<&str>) -> Result<Config, Error> {
        let id = self.client_id.clone();
        let id = id.unwrap_or_else(|| format!("tars-{command}-{}", suffix()));
        let mut builder = self.as_a_service().client_id(id);
        if let Some(source) = source {
            builder = builder.source_name(source);
        }
        let mut config = builder.build()?;
        self.quieten(&mut config);
        Ok(config)
    }

    /// Leaves no trace in the fleet.
    pub(crate) fn quieten(&self, config: &mut Config) {
        config.health = false;
        config.heartbeat = None;
        config.clean_session = true;
        config.connect_retry = false;
        config.reconnect = true;
        config.dedupe_ttl = Duration::ZERO;
        config.connect_timeout = self.connect_timeout;
    }
}

/// Eight hex digits that nobody else has.
pub(crate) fn suffix() -> String {
    fresh_id()[..8].to_owned()
}

/// Tells on stderr when the connection goes and comes, for as long as it is polled.
pub(crate) async fn tell_of_the_connection(client: &Client) {
    let mut lifecycle = client.lifecycle();
    while let Some(event) = next_of(&mut lifecycle).await {
        output::note(&event);
    }
    // The client is gone, and with it the command.
    std::future::pending().await
}

async fn next_of(lifecycle: &mut Lifecycle) -> Option<String> {
    loop {
        return Some(match lifecycle.next().await? {
            LifecycleEvent::ConnectionLost { reason } => format!("the connection is lost: {}", in_full(&reason)),
            LifecycleEvent::ConnectFailed { error } => in_full(&error),
            LifecycleEvent::ReconnectScheduled { delay, .. } => format!("next attempt in {}", times::took(delay)),
            LifecycleEvent::Connected { .. } => "connected again".to_owned(),
            LifecycleEvent::SubscriptionRefused { filter } => format!("{filter} was refused"),
            _ => continue,
        });
    }
}
