//! What the examples share: the broker of `MQTT_URL`, or one inside this process, and a limit on
//! every wait.

use std::time::Duration;

use tars_mqtt::{Config, ConfigBuilder};
use tars_testkit::embedded::EmbeddedBroker;
use tokio::time::timeout;

/// Whatever went wrong.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Where the clients of an example meet.
pub(crate) struct Broker(Option<EmbeddedBroker>);

impl Broker {
    pub(crate) async fn find() -> Result<Self, Error> {
        let elsewhere = std::env::var("MQTT_URL").is_ok();
        Ok(Self(if elsewhere {
            None
        } else {
            Some(EmbeddedBroker::start().await?)
        }))
    }

    /// For a client of it. A service of yours says `Config::from_env()`.
    pub(crate) fn config(&self, client_id: &str) -> ConfigBuilder {
        let config = Config::builder().env().client_id(client_id);
        match &self.0 {
            Some(embedded) => config.url(embedded.url()),
            None => config,
        }
    }
}

/// Awaits it, for ten seconds at most.
#[allow(dead_code, reason = "not every example waits for something")]
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    timeout(Duration::from_secs(10), future)
        .await
        .map_err(|_| "it did not happen within ten seconds".into())
}
