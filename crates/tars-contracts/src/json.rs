//! Reading JSON from a peer: nesting is bounded, and errors keep the payload to themselves.

use serde::de::DeserializeOwned;
use simd_json::{Buffers, Deserializer, ErrorType};

use crate::ContractError;

/// How deep arrays and objects may be nested in what is read, the outermost counted: 128 levels.
///
/// Reading a value recurses once for each level, so without a bound a hostile payload would
/// overflow the stack. Writing has no bound of its own: it follows the caller's own value.
pub const MAX_DEPTH: usize = 128;

/// Reads a `T` in place: strings are unescaped inside `bytes`, which are scrap afterwards.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &mut [u8]) -> Result<T, ContractError> {
    // The tape is built iteratively and refuses deep nesting there; only then does serde recurse.
    let mut buffers = Buffers::with_max_depth(bytes.len(), MAX_DEPTH);
    let mut tape = Deserializer::from_slice_with_buffers(bytes, &mut buffers).map_err(|error| match error.error() {
        ErrorType::DepthLimitExceeded => ContractError::TooDeep { limit: MAX_DEPTH },
        kind => ContractError::InvalidJson {
            reason: words(kind),
            offset: error.index(),
        },
    })?;
    T::deserialize(&mut tape).map_err(|error| ContractError::Deserialize {
        reason: match error.error() {
            ErrorType::Serde(message) => redacted(message),
            kind => words(kind),
        },
    })
}

/// `ExpectedString` as "expected string". The kinds that parsing yields carry no payload.
fn words(kind: &ErrorType) -> String {
    let mut text = String::new();
    for c in format!("{kind:?}").chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// What may be shown of a message of serde's.
///
/// serde quotes the value it met (``invalid type: string "secret", expected u32``). The kind before
/// the quote and the expectation after it come from our side; what a type's own `Deserialize` says
/// may hold anything, so nothing of that is kept.
fn redacted(message: &str) -> String {
    const OURS: [&str; 3] = ["missing field `", "duplicate field `", "invalid length "];
    const QUOTING: [&str; 4] = [
        "invalid type: ",
        "invalid value: ",
        "unknown field `",
        "unknown variant `",
    ];

    let starts_with_one_of = |known: &[&str]| known.iter().any(|start| message.starts_with(start));
    // From the right: the quoted value may contain ", expected " too.
    match message.rsplit_once(", expected ") {
        Some((met, expected)) if starts_with_one_of(&QUOTING) => {
            let met = met.split(['"', '`']).next().unwrap_or_default();
            format!("{}, expected {expected}", met.trim_end())
        }
        _ if starts_with_one_of(&OURS) => message.to_owned(),
        _ => "a value was refused by the type that reads it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_out_of_messages() {
        for (message, shown) in [
            (
                r#"invalid type: string "x, expected y", expected u32"#,
                "invalid type: string, expected u32",
            ),
            (
                "invalid value: integer `300`, expected u8",
                "invalid value: integer, expected u8",
            ),
            (
                "unknown variant `x`, expected `a` or `b`",
                "unknown variant, expected `a` or `b`",
            ),
            ("missing field `text`", "missing field `text`"),
            ("bad token: secret", "a value was refused by the type that reads it"),
            ("invalid value: secret", "a value was refused by the type that reads it"),
        ] {
            assert_eq!(redacted(message), shown);
        }
        assert_eq!(words(&ErrorType::InvalidUtf8), "invalid utf8");
    }
}
