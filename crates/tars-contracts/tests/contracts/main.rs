//! The wire contracts, through the public API: what the original services sent, laws, hostile input.
#![allow(clippy::unwrap_used)]

mod events;
mod hostile;
mod laws;
mod ordered;
mod reading;
mod topics;
mod vectors;
mod writing;
