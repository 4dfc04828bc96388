//! Layers around the ports of tars-mqtt: each wraps a publisher and is one itself, or wraps a
//! connector and is one itself. They stack in any order and know neither the client nor an
//! adapter.
//!
//! | layer | around | what it does |
//! |---|---|---|
//! | [`Batching`] | publisher | gathers items per topic and publishes them together |
//! | [`Retry`] | publisher | sends again what failed for a while |
//! | [`Observe`] | publisher | tells a hook what became of each message: a place for metrics |
//! | [`Events`] | publisher | wraps data in envelopes: `publish_event` on a stack |
//! | [`FilterInbound`] | connector | passes over what nobody wants |
//! | [`ObserveInbound`] | connector | tells a hook what arrived, and when it was acknowledged |
//!
//! ```
//! use serde_json::json;
//! use tars_layers::{Batching, Events, LayerExt, Observe, Retry};
//! # use tars_ports::{Receipt, mock::MockPublisher};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tars_ports::Error> {
//! # let mut client = MockPublisher::new();
//! # client.expect_try_publish().times(1).returning(|_| Ok(Receipt::settled()));
//! // The last one is outermost: events are gathered, batches are retried, attempts are seen.
//! let seen = client.layer(Observe::new(|published| println!("{published:?}")));
//! let retried = seen.layer(Retry::new());
//! let batches = retried.clone().layer(Batching::new("sensor-service"));
//! let publisher = batches.clone().layer(Events::new("sensor-service"));
//!
//! let event = publisher.publish_event("sensors/light", "sensors.light", &json!({"lux": 320}));
//! let receipt = event.accepted().await?;
//!
//! // From the outside in, and the client last.
//! batches.shutdown().await;
//! retried.shutdown().await;
//! receipt.await?;
//! # Ok(()) }
//! ```
//!
//! The contract of [`Publisher`](tars_ports::Publisher) holds for each and for every stack:
//! what was taken over settles, what is unsettled is bounded, `Full` gives the message back. What
//! a layer does with order it says itself. Layers with tasks of their own have a `shutdown`, which
//! joins them; it ends the layer and not what it wraps.

mod batching;
mod delivery;
mod events;
mod inbound;
mod layer;
mod observe;
mod receipt;
mod retry;
mod tasks;

pub use batching::{BatchPublisher, BatchStats, Batching};
pub use events::{EventPublisher, Events, PublishEvent};
pub use inbound::{FilterInbound, FilteredConnector, ObserveInbound, ObservedConnector, PassedOver, Received};
pub use layer::{Layer, LayerExt};
pub use observe::{Observe, ObservedPublisher, Published};
pub use retry::{Retry, RetryPublisher};
