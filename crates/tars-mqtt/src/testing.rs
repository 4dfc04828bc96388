//! What the tests of a service need, with the feature `testing`: [`TestBroker`], a client
//! that is connected to it, and mockall fakes of the ports ([`mock`]).
//!
//! Turn it on for tests alone:
//!
//! ```toml
//! [dev-dependencies]
//! tars-mqtt = { version = "0.1", features = ["testing"] }
//! ```
//!
//! ```
//! use serde_json::json;
//! use tars_mqtt::testing::TestBroker;
//! use tars_mqtt::{Client, Context, Envelope, Error};
//!
//! /// The service under test: it takes a client and knows nothing of tests.
//! async fn echo(client: &Client) -> Result<(), Error> {
//!     let handler = async |said: Envelope, context: Context| {
//!         context.reply("echo/reply", "echo.reply", &said.data).await.map(|_| ())
//!     };
//!     client.subscribe("echo/say", handler).await.map(|_| ())
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
//! // In a `#[tokio::test(start_paused = true)]`:
//! let broker = TestBroker::new();
//! let client = tars_mqtt::testing::connect(&broker, "echo").await;
//! echo(&client).await.unwrap();
//! let reply: Envelope = broker.request("echo/say", "echo.say", &json!({"text": "hi"}), "echo/reply").await;
//! assert_eq!(reply.data["text"], "hi");
//! client.shutdown().await;
//! # });
//! ```

pub use tars_ports::mock;
pub use tars_testkit::TestBroker;
pub use tars_testkit::memory::{MemoryBroker, MemoryConnector};

use crate::{Client, Config, ConfigBuilder};

/// A configuration for a client of a broker in memory: an address that nobody looks at, this
/// client id, and the defaults; nothing of the environment.
pub fn config(client_id: &str) -> ConfigBuilder {
    Config::builder().url("mqtt://memory").client_id(client_id)
}

/// A client with this configuration, not connected yet. Its reconnect delays are the same in
/// every run.
///
/// # Panics
/// If the configuration is invalid.
#[track_caller]
pub fn client(broker: &TestBroker, config: ConfigBuilder) -> Client {
    let config = config.build().unwrap_or_else(|error| panic!("{error}"));
    let builder = Client::builder(config).connector(broker.connector()).seed(0);
    builder.build().unwrap_or_else(|error| panic!("{error}"))
}

/// A connected client with [`config`] and nothing else.
///
/// # Panics
/// If the broker refuses it.
pub async fn connect(broker: &TestBroker, client_id: &str) -> Client {
    let client = client(broker, config(client_id));
    client.connect().await.unwrap_or_else(|error| panic!("{error}"));
    client
}
