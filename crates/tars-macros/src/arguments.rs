//! The keys of `#[event(…)]`.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, DeriveInput, Error, LitBool, LitInt, LitStr, Path, Result, Token};

/// What `#[event(…)]` says.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) event_type: Option<LitStr>,
    pub(crate) topic: Option<LitStr>,
    pub(crate) qos: Option<LitInt>,
    pub(crate) retain: Option<bool>,
    pub(crate) home: Option<Path>,
}

impl Arguments {
    /// From all attributes of a type.
    pub(crate) fn of(input: &DeriveInput) -> Result<Self> {
        let mut arguments = Self::default();
        for attribute in attributes(&input.attrs) {
            attribute.parse_nested_meta(|key| arguments.key(&key))?;
        }
        Ok(arguments)
    }

    fn key(&mut self, key: &ParseNestedMeta<'_>) -> Result<()> {
        let name = key.path.get_ident().map(ToString::to_string).unwrap_or_default();
        match name.as_str() {
            "type" => once(&mut self.event_type, key, key.value()?.parse()?),
            "topic" => once(&mut self.topic, key, key.value()?.parse()?),
            "qos" => once(&mut self.qos, key, key.value()?.parse()?),
            "crate" => {
                let path: LitStr = key.value()?.parse()?;
                once(&mut self.home, key, path.parse()?)
            }
            "retain" => {
                let retain = if key.input.peek(Token![=]) {
                    key.value()?.parse::<LitBool>()?.value
                } else {
                    true
                };
                once(&mut self.retain, key, retain)
            }
            _ => Err(key.error("an event has the keys `type`, `topic`, `qos`, `retain` and `crate`")),
        }
    }
}

fn once<T>(place: &mut Option<T>, key: &ParseNestedMeta<'_>, value: T) -> Result<()> {
    if place.replace(value).is_some() {
        return Err(key.error("this key is there twice"));
    }
    Ok(())
}

/// Those that are ours.
pub(crate) fn attributes(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("event"))
}

/// The number of a QoS as its name.
pub(crate) fn qos(number: &LitInt) -> Result<&'static str> {
    match number.base10_parse() {
        Ok(0_u8) => Ok("AtMostOnce"),
        Ok(1) => Ok("AtLeastOnce"),
        Ok(2) => Ok("ExactlyOnce"),
        _ => Err(Error::new(number.span(), "the QoS of an event is 0, 1 or 2")),
    }
}
