//! From the attribute and the fields to the implementation.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{Attribute, Data, DeriveInput, Error, Field, Fields, LitStr, Meta, Path, Result, Token};

use crate::arguments::{self, Arguments};
use crate::topic;

/// The implementation of `Event`; its items are found in `home`.
pub(crate) fn event(input: &DeriveInput, home: Path) -> Result<TokenStream> {
    let arguments = Arguments::of(input)?;
    let mut problems = Problems(None);
    problems.check(shape(input));
    problems.check(no_field_has_the_attribute(input));
    let event_type = problems.check(event_type(input, &arguments));
    let topic = problems.check(required(input, arguments.topic.as_ref(), "topic = \"stt/final\""));
    let parameters = topic.and_then(|topic| problems.check(parameters(input, topic)));
    let qos = arguments
        .qos
        .as_ref()
        .and_then(|number| problems.check(arguments::qos(number)));
    problems.none()?;

    let home = arguments.home.as_ref().unwrap_or(&home);
    let qos = qos.map(|name| {
        let name = format_ident!("{name}");
        quote!(const QOS: #home::QoS = #home::QoS::#name;)
    });
    let retain = arguments.retain.map(|retain| quote!(const RETAIN: bool = #retain;));
    let methods = methods(&parameters.unwrap_or_default());
    let name = &input.ident;
    let (generics, of, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics #home::Event for #name #of #bounds {
            const TYPE: &'static str = #event_type;
            const TOPIC: &'static str = #topic;
            #qos
            #retain
            #methods
        }
    })
}

/// All that is wrong with a type.
struct Problems(Option<Error>);

impl Problems {
    fn check<T>(&mut self, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| match &mut self.0 {
                Some(all) => all.combine(error),
                none => *none = Some(error),
            })
            .ok()
    }

    fn none(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

fn shape(input: &DeriveInput) -> Result<()> {
    match input.data {
        Data::Union(_) => Err(Error::new(
            input.ident.span(),
            "a union cannot be an event; use a struct with named fields",
        )),
        _ => Ok(()),
    }
}

fn no_field_has_the_attribute(input: &DeriveInput) -> Result<()> {
    let on_field = fields(input).find_map(|field| arguments::attributes(&field.attrs).next());
    match on_field {
        Some(attribute) => Err(Error::new(
            attribute.span(),
            "`#[event(…)]` stands on the type; a parameter `{field}` of its topic names a field",
        )),
        None => Ok(()),
    }
}

fn event_type<'a>(input: &DeriveInput, arguments: &'a Arguments) -> Result<&'a LitStr> {
    let event_type = required(input, arguments.event_type.as_ref(), "type = \"stt.final\"")?;
    if event_type.value().is_empty() {
        return Err(Error::new(event_type.span(), "the type of an event is not empty"));
    }
    Ok(event_type)
}

fn required<'a>(input: &DeriveInput, value: Option<&'a LitStr>, example: &str) -> Result<&'a LitStr> {
    value.ok_or_else(|| {
        let (key, _) = example.split_once(' ').unwrap_or_default();
        let what = format!("an event needs its {key}, such as `#[event({example})]`");
        Error::new(input.ident.span(), what)
    })
}

/// The fields that parameters of the topic name.
fn parameters<'a>(input: &'a DeriveInput, topic: &LitStr) -> Result<Vec<&'a Field>> {
    let text = topic.value();
    let names = topic::parameters(&text).map_err(|why| Error::new(topic.span(), why))?;
    names.into_iter().map(|name| field(input, name, topic.span())).collect()
}

fn field<'a>(input: &'a DeriveInput, name: &str, topic: Span) -> Result<&'a Field> {
    let is_named = |field: &&Field| field.ident.as_ref().is_some_and(|ident| ident.unraw() == name);
    fields(input).find(is_named).ok_or_else(|| {
        let type_name = &input.ident;
        let what = match input.data {
            Data::Enum(_) => format!("the parameter `{{{name}}}` needs a field, which the enum `{type_name}` has not"),
            _ => format!("the parameter `{{{name}}}` names no field of `{type_name}`"),
        };
        Error::new(topic, what)
    })
}

fn fields(input: &DeriveInput) -> impl Iterator<Item = &Field> {
    let fields = match &input.data {
        Data::Struct(data) => Some(&data.fields),
        Data::Enum(_) | Data::Union(_) => None,
    };
    fields.into_iter().flat_map(Fields::iter)
}

fn methods(parameters: &[&Field]) -> TokenStream {
    let values = parameters.iter().filter_map(|field| {
        let (ident, name) = named(field)?;
        Some(quote_spanned!(place(field)=> #name => ::core::option::Option::Some(&self.#ident),))
    });
    let values: TokenStream = values.collect();
    let from_topic = parameters.iter().filter(|field| is_left_out(&field.attrs));
    let assignments = from_topic.filter_map(|field| {
        let (ident, name) = named(field)?;
        Some(quote_spanned! {place(field)=>
            #name => match ::core::str::FromStr::from_str(level) {
                ::core::result::Result::Ok(value) => {
                    self.#ident = value;
                    true
                }
                ::core::result::Result::Err(_) => false,
            },
        })
    });
    let assignments: TokenStream = assignments.collect();
    let parameter = (!values.is_empty()).then(|| {
        quote! {
            fn parameter(&self, name: &str) -> ::core::option::Option<&dyn ::core::fmt::Display> {
                match name {
                    #values
                    _ => ::core::option::Option::None,
                }
            }
        }
    });
    let set_parameter = (!assignments.is_empty()).then(|| {
        quote! {
            fn set_parameter(&mut self, name: &str, level: &str) -> bool {
                match name {
                    #assignments
                    _ => true,
                }
            }
        }
    });
    quote!(#parameter #set_parameter)
}

/// At the field's type the compiler tells what that lacks; names mean what they mean in the rest.
fn place(field: &Field) -> Span {
    field.ty.span().resolved_at(Span::call_site())
}

fn named(field: &Field) -> Option<(&syn::Ident, String)> {
    let ident = field.ident.as_ref()?;
    Some((ident, ident.unraw().to_string()))
}

/// Whether serde does not read the field from the data.
fn is_left_out(attributes: &[Attribute]) -> bool {
    let of_serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let keys = of_serde.filter_map(|attribute| {
        // What serde does not understand either is told by serde.
        attribute
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .ok()
    });
    keys.flatten()
        .any(|key| key.path().is_ident("skip") || key.path().is_ident("skip_deserializing"))
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    /// All that is told about a type.
    fn problems(input: &DeriveInput) -> Vec<String> {
        match event(input, parse_quote!(::tars_contracts)) {
            Ok(_) => Vec::new(),
            Err(error) => error.into_iter().map(|error| error.to_string()).collect(),
        }
    }

    #[test]
    fn all_mistakes_of_a_type_are_told_together() {
        let input = parse_quote! {
            #[event(type = "", topic = "a/{missing}", qos = 3)]
            struct Wrong { #[event(topic)] field: u8 }
        };
        assert_eq!(
            problems(&input),
            [
                "`#[event(…)]` stands on the type; a parameter `{field}` of its topic names a field",
                "the type of an event is not empty",
                "the parameter `{missing}` names no field of `Wrong`",
                "the QoS of an event is 0, 1 or 2",
            ]
        );
    }

    #[test]
    fn what_is_required_is_asked_for() {
        assert_eq!(
            problems(&parse_quote!(
                struct Empty;
            )),
            [
                "an event needs its type, such as `#[event(type = \"stt.final\")]`",
                "an event needs its topic, such as `#[event(topic = \"stt/final\")]`",
            ]
        );
    }

    #[test]
    fn keys_are_known_and_there_once() {
        let input = parse_quote! {
            #[event(type = "a", topic = "a")]
            #[event(topic = "b")]
            struct Twice;
        };
        assert_eq!(problems(&input), ["this key is there twice"]);
        let input = parse_quote! {
            #[event(type = "a", topic = "a", retained)]
            struct Unknown;
        };
        assert_eq!(
            problems(&input),
            ["an event has the keys `type`, `topic`, `qos`, `retain` and `crate`"]
        );
    }

    #[test]
    fn only_a_struct_has_fields_for_parameters() {
        let input = parse_quote! {
            #[event(type = "a", topic = "a/{b}")]
            enum Choice { B { b: u8 } }
        };
        assert_eq!(
            problems(&input),
            ["the parameter `{b}` needs a field, which the enum `Choice` has not"]
        );
        let input = parse_quote! {
            #[event(type = "a", topic = "a")]
            union Overlaid { a: u8 }
        };
        assert_eq!(
            problems(&input),
            ["a union cannot be an event; use a struct with named fields"]
        );
    }
}
