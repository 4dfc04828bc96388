//! The one MQTT client of an event-driven fleet: typed envelopes, automatic
//! reconnection with restored subscriptions, acknowledgement after success, health,
//! heartbeat, graceful shutdown.
//!
//! ```no_run
//! use serde::Deserialize;
//! use serde_json::json;
//! use tars_mqtt::{Client, Config, Envelope, Error};
//!
//! #[derive(Deserialize)]
//! struct Wake { word: String }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     Client::run(Config::from_env()?, async |client: Client| {
//!         client.subscribe("wake/event", async |wake: Envelope<Wake>| println!("{}", wake.data.word)).await?;
//!         client.publish_event("wake/ready", "wake.ready", &json!({"ok": true})).await?;
//!         client.until_signal().await
//!     }).await
//! }
//! ```
//!
//! - [`Client`]: connect, publish, subscribe, health, shutdown.
//! - [`Config`]: from the environment or in code.
//! - [`Event`]: types that know their event type and topic, for [`Client::send`] and [`Client::on`].
//! - [`handler`]: what a handler may take and return.
//! - [`layers`]: batching, retry, hooks for metrics, filters, stacked around client or connector.
//! - [`ports`] and [`contracts`]: the traits below it, and what goes over the wire.
//! - `metrics`, with the feature of that name: the client's numbers through the facade `metrics`.
//! - `testing`, with the feature of that name: a broker in memory and fakes, for the tests of a service.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod burst;
mod client;
mod config;
mod context;
mod credentials;
mod dispatch;
pub mod event;
pub mod handler;
mod hooks;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod internals;
mod lifecycle;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
mod metrics;
mod patterns;
mod publish;
mod readiness;
mod run;
mod service;
mod session;
mod shared;
mod spans;
mod stats;
mod subscribe;
#[cfg(feature = "testing")]
pub mod testing;

pub use bytes::Bytes;
pub use tars_contracts as contracts;
pub use tars_layers as layers;
pub use tars_ports as ports;

pub use tars_contracts::{Data, Envelope, HealthFormat, HealthStatus, Heartbeat, TopicError, TopicFilter, TopicName};
pub use tars_macros::FacadeEvent as Event;
pub use tars_ports::{
    Capabilities, Credentials, Error, ErrorKind, Fate, Message, QoS, Receipt, Refusal, Settled, TlsFault, Transport,
};

pub use builder::ClientBuilder;
pub use client::{Client, WeakClient};
pub use config::{Adapter, BrokerUrl, Config, ConfigBuilder};
pub use context::Context;
pub use dispatch::Unfinished;
pub use event::{Event, EventHandler};
pub use handler::{FromMessage, Handler, InboundMessage};
pub use lifecycle::{Lifecycle, LifecycleEvent, State, StateWatch};
pub use patterns::ErrorReply;
pub use patterns::request::{NoReplyTopic, ReplyOn, Request, RequestFuture};
pub use patterns::respond::{Answer, Responder, ResponderFuture};
pub use patterns::retained::{Retained, WaitForPeer};
pub use patterns::stream::{ReplyStream, StreamRequest};
pub use patterns::stream_reply::StreamReply;
pub use publish::{EventId, Publish, PublishFuture};
pub use service::shutdown::ShutdownReport;
pub use service::status::PublishHealth;
pub use stats::Stats;
pub use subscribe::{Acknowledge, OnFailure, Overflow, Route, Subscribe, SubscribeFuture, Subscription};
