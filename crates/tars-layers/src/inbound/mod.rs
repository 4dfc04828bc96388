//! Layers on a [`Connector`](tars_ports::Connector): what arrives goes through them. Give
//! the layered connector to the client's builder.

mod filter;
mod observe;

pub use filter::{FilterInbound, FilteredConnector, PassedOver};
pub use observe::{ObserveInbound, ObservedConnector, Received};
