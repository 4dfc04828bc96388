//! `#[derive(Event)]`, as `tars-contracts` and `tars-mqtt` offer it beside their trait of that
//! name. Depend on one of those, not on this crate.
//!
//! ```text
//! #[derive(Serialize, Deserialize, Event)]
//! #[event(type = "health.status", topic = "system/health/{service}", qos = 1, retain)]
//! struct Health { service: String, ok: bool }
//! ```
//!
//! | key | what it says | default |
//! |---|---|---|
//! | `type = "…"` | the envelope's type, not empty | required |
//! | `topic = "…"` | a topic name (MQTT 3.1.1 section 4.7); a level `{field}` is a parameter | required |
//! | `qos = 0`, `1` or `2` | what it is published and subscribed with | 0 |
//! | `retain`, `retain = true` | the broker keeps the last one | false |
//! | `crate = "…"` | the path to `tars_contracts` or `tars_mqtt`, if that has another name here | |
//!
//! Everything that can be checked is checked when it is compiled, and each mistake is told where it
//! is. Structs and enums may be events, generic ones too; only a struct has fields for parameters.

mod arguments;
mod expand;
mod topic;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Ties a type to its event type, topic, QoS and retain flag. For crates that depend on
/// `tars-contracts`, which offers it as `Event`.
#[proc_macro_derive(Event, attributes(event))]
pub fn event(input: TokenStream) -> TokenStream {
    derive(input, "::tars_contracts")
}

/// The same for crates that depend on `tars-mqtt`, which offers it as `Event`: what a derive
/// writes can only name what its user depends on.
#[proc_macro_derive(FacadeEvent, attributes(event))]
pub fn facade_event(input: TokenStream) -> TokenStream {
    derive(input, "::tars_mqtt")
}

fn derive(input: TokenStream, home: &str) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let expanded = syn::parse_str(home).and_then(|home| expand::event(&input, home));
    expanded.unwrap_or_else(syn::Error::into_compile_error).into()
}
