//! The way to a broker: [`dial`] makes one async [`Stream`] of a
//! [`ConnectOptions`](tars_ports::ConnectOptions), whatever carries the bytes.
//!
//! | transport | what it is made of |
//! |---|---|
//! | `mqtt` | TCP, without Nagle's delay |
//! | `mqtts` | TLS 1.2 or 1.3 by rustls over it, with the feature `tls` |
//! | `ws`, `wss` | WebSocket frames over either, with the feature `websocket` |
//!
//! It knows nothing of MQTT and nothing of retries: one attempt, which ends with the
//! deadline it is given. The certificate of the broker and its name are always
//! checked; there is no way to leave that out. Files are read anew for every attempt,
//! on a thread where waiting for a disk harms nobody.
//!
//! [`error`] has the sentences that all adapters share.
#![forbid(unsafe_code)]

mod dial;
pub mod error;
mod socket;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "websocket")]
mod websocket;

pub use dial::dial;
pub use stream::Stream;
