//! What the suites share: clients, a limit on every wait, and what the modules below hold.

pub(crate) mod child;
pub(crate) mod python;
pub(crate) mod seen;
pub(crate) mod tap;
pub(crate) mod tools;
pub(crate) mod traffic;

use std::panic::Location;
use std::time::Duration;

use tars_mqtt::{Adapter, Client, Config, ConfigBuilder};
use tars_testkit::mosquitto::{Mosquitto, MosquittoBuilder};

/// The adapters that are compiled in, with their names.
pub(crate) const ADAPTERS: &[(&str, Adapter)] = &[
    ("rumqttc", Adapter::Rumqttc),
    #[cfg(feature = "paho")]
    ("paho", Adapter::Paho),
];

/// Far above what anything here takes, also on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The smallest delay before a reconnect that is allowed.
const RECONNECT: Duration = Duration::from_millis(100);

/// Those that are compiled in.
pub(crate) fn adapters() -> impl Iterator<Item = Adapter> {
    [Adapter::Rumqttc, Adapter::Paho]
        .into_iter()
        .filter(|adapter| adapter.is_compiled_in())
}

/// Awaits it, for [`PATIENCE`] at most.
#[track_caller]
pub(crate) fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller}: not within {PATIENCE:?}: {what}"),
        }
    }
}

/// Starts a broker; without Mosquitto the test fails and says how to install it.
pub(crate) async fn started(builder: MosquittoBuilder) -> Mosquitto {
    builder.start().await.unwrap_or_else(|error| panic!("{error}"))
}

/// A broker with the testkit's defaults.
pub(crate) async fn broker() -> Mosquitto {
    started(Mosquitto::builder()).await
}

/// A configuration that reconnects quickly.
pub(crate) fn config(broker: &Mosquitto, client_id: &str) -> ConfigBuilder {
    Config::builder()
        .url(broker.url())
        .client_id(client_id)
        .reconnect_min_delay(RECONNECT)
        .reconnect_max_delay(5 * RECONNECT)
}

pub(crate) async fn connected_with(config: ConfigBuilder) -> Client {
    let client = Client::new(config.build().unwrap()).unwrap();
    within("connecting", client.connect()).await.unwrap();
    client
}

pub(crate) async fn connected(broker: &Mosquitto, client_id: &str) -> Client {
    connected_with(config(broker, client_id)).await
}
