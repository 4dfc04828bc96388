//! Making a client with more than a configuration.

use std::sync::Arc;

use futures_util::FutureExt;
use tars_ports::{Capabilities, Connector, Credentials, Error, ErrorKind, Transport};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::config::{Adapter, Config};
use crate::context::Context;
use crate::handler::{InboundMessage, Invalid};
use crate::hooks::Hooks;
use crate::session::Session;
use crate::shared::Shared;
use crate::subscribe::Route;

/// Builds a [`Client`].
#[must_use = "a builder does nothing until `build`"]
pub struct ClientBuilder {
    config: Config,
    connector: Option<Arc<dyn Connector>>,
    routes: Vec<Route>,
    hooks: Hooks,
    seed: Option<u64>,
}

impl ClientBuilder {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            connector: None,
            routes: Vec::new(),
            hooks: Hooks::default(),
            seed: None,
        }
    }

    /// A handler that is in place before the first packet. With a persistent session
    /// (`MQTT_CLEAN_SESSION=false`) the broker may send before anything is subscribed.
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// A connector of one's own, instead of the one `MQTT_ADAPTER` names: a further
    /// adapter, a layer around one, or a fake for tests.
    pub fn connector(mut self, connector: impl Connector + 'static) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Asked for user name and password before every attempt to connect, the first and each
    /// later one: for tokens that expire, and secrets from a vault. It takes the place of
    /// all credentials of the configuration, and gets `connect_timeout` for its answer; an
    /// error, a panic or the end of that time is a failed attempt like any other, tried
    /// again soon where [`Error::is_transient`] says so.
    ///
    /// ```
    /// use tars_mqtt::{Client, Config, Credentials, Error};
    ///
    /// # async fn fresh_token() -> Result<String, Error> { Ok("t0ken".into()) }
    /// let client = Client::builder(Config::new("mqtts://broker.example", "stt")?)
    ///     .credentials(async || Ok(Credentials::new("stt", Some(fresh_token().await?.into()))))
    ///     .build()?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn credentials<F, Answer>(mut self, provider: F) -> Self
    where
        F: Fn() -> Answer + Send + Sync + 'static,
        Answer: Future<Output = Result<Credentials, Error>> + Send + 'static,
    {
        self.hooks.credentials = Some(Arc::new(move || provider().boxed()));
        self
    }

    /// Called with every message that was no valid input for a handler, after it was
    /// counted and logged. It must not block.
    pub fn on_invalid(mut self, hook: impl Fn(&Context, &Invalid) + Send + Sync + 'static) -> Self {
        self.hooks.on_invalid = Some(Arc::new(hook));
        self
    }

    /// Called when the broker accepted a connection, the first and each later one, with
    /// whether it had kept the session. It must not block; for what takes time there is
    /// [`Client::lifecycle`].
    pub fn on_connect(mut self, hook: impl Fn(bool) + Send + Sync + 'static) -> Self {
        self.hooks.on_connect = Some(Arc::new(hook));
        self
    }

    /// Called when a connection has ended: with the reason when it was lost, with `None`
    /// when it was ended on purpose. It must not block.
    pub fn on_disconnect(mut self, hook: impl Fn(Option<&Error>) + Send + Sync + 'static) -> Self {
        self.hooks.on_disconnect = Some(Arc::new(hook));
        self
    }

    /// Called with every message that arrives, before and whether or not a handler gets it;
    /// not with the client's own heartbeats. It must not block: the next message waits for it.
    pub fn on_message(mut self, hook: impl Fn(&InboundMessage) + Send + Sync + 'static) -> Self {
        self.hooks.on_message = Some(Arc::new(hook));
        self
    }

    /// Makes the jitter of the reconnect delays repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The client. It does nothing before [`Client::connect`].
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when a field was changed to something invalid,
    /// [`InvalidFilter`](ErrorKind::InvalidFilter) for a route,
    /// [`Unsupported`](ErrorKind::Unsupported) when something asks for what the adapter cannot do.
    pub fn build(self) -> Result<Client, Error> {
        self.config.validate()?;
        let connector = match self.connector {
            Some(connector) => connector,
            None => adapter(self.config.adapter)?,
        };
        check_transport(self.config.broker.transport, &connector.capabilities())?;
        let shared = Arc::new(Shared::new(self.config, connector.capabilities(), self.hooks));
        let mut failed = None;
        let client = Client::assemble(shared.clone(), |weak, commands: mpsc::Receiver<_>| {
            Session::new(shared, connector, weak, commands, self.routes, self.seed)
                .map_err(|error| failed = Some(error))
                .ok()
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(client),
        }
    }
}

/// Told at once, and not by the first attempt to connect.
fn check_transport(transport: Transport, can: &Capabilities) -> Result<(), Error> {
    let lacks_tls = transport.is_encrypted() && !can.tls;
    let feature = match (lacks_tls, transport.is_websocket() && !can.websocket) {
        (false, false) => return Ok(()),
        (true, false) => "the feature `tls`",
        (false, true) => "the feature `websocket`",
        (true, true) => "the features `tls` and `websocket`",
    };
    let what = format!(
        "MQTT_URL has the scheme {}://, which this adapter does not have: it needs {feature} of tars-mqtt",
        transport.scheme()
    );
    Err(Error::new(ErrorKind::Unsupported, what))
}

fn adapter(adapter: Adapter) -> Result<Arc<dyn Connector>, Error> {
    match adapter {
        #[cfg(feature = "rumqttc")]
        Adapter::Rumqttc => Ok(Arc::new(adapter_rumqttc::RumqttcConnector::new())),
        #[cfg(feature = "paho")]
        Adapter::Paho => Ok(Arc::new(adapter_paho::PahoConnector::new())),
        #[allow(unreachable_patterns, reason = "which are left depends on the features")]
        other => {
            let what = format!("the adapter {other:?} is not compiled in: turn on the feature of its name");
            Err(Error::new(ErrorKind::Unsupported, what))
        }
    }
}
