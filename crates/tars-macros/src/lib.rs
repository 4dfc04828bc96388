//! `#[derive(Event)]`, as `tars-contracts` and `tars-mqtt` offer it beside their trait of that
//! name. Depend on one of those, not on this crate.

mod arguments;
mod expand;
mod topic;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

#[doc = include_str!("event.md")]
#[proc_macro_derive(Event, attributes(event))]
pub fn event(input: TokenStream) -> TokenStream {
    derive(input, "::tars_contracts")
}

// A derive can only name what its user depends on: so there is one for each of the two crates.
#[doc = include_str!("event.md")]
#[proc_macro_derive(FacadeEvent, attributes(event))]
pub fn facade_event(input: TokenStream) -> TokenStream {
    derive(input, "::tars_mqtt")
}

fn derive(input: TokenStream, home: &str) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let expanded = syn::parse_str(home).and_then(|home| expand::event(&input, home));
    expanded.unwrap_or_else(syn::Error::into_compile_error).into()
}
