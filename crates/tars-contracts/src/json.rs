//! Reading JSON from a peer: nesting is bounded, and errors keep the payload to themselves.

use std::cell::Cell;

use serde::de::DeserializeOwned;
use simd_json::{Buffers, Deserializer, ErrorType, INPUT_PADDING, Tape, fill_tape_padded};

use crate::ContractError;

/// How deep arrays and objects may be nested in what is read, the outermost counted: 128 levels.
///
/// Reading a value recurses once for each level, so without a bound a hostile payload would
/// overflow the stack. Writing has no bound of its own: it follows the caller's own value.
pub const MAX_DEPTH: usize = 128;

/// What reading needs besides the payload. Each thread keeps one for its next message, so that a
/// usual one costs no allocation but those of what is read.
struct Scratch {
    /// A copy of the payload and padding: strings are unescaped in it.
    input: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

/// A scratch that a larger payload has widened is not kept: it may be some ten times the payload.
const KEEP: usize = 256 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    fn new() -> Box<Self> {
        Box::new(Self {
            input: Vec::new(),
            buffers: Buffers::with_max_depth(0, MAX_DEPTH),
            tape: Tape::null(),
        })
    }
}

/// Reads a `T`.
pub(crate) fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, ContractError> {
    with_tape(payload, |tape| {
        let mut reader = Deserializer::from_tape(std::mem::replace(tape, Tape(Vec::new())));
        let read = T::deserialize(&mut reader).map_err(|error| ContractError::Deserialize {
            reason: match error.error() {
                ErrorType::Serde(message) => redacted(message),
                kind => words(kind),
            },
        });
        *tape = reader.into_tape();
        read
    })
}

/// Gives `read` the payload as a flat list of values.
pub(crate) fn with_tape<T>(
    payload: &[u8],
    read: impl FnOnce(&mut Tape<'_>) -> Result<T, ContractError>,
) -> Result<T, ContractError> {
    // Taken out, not borrowed: a `T` may read another payload while it is read.
    let mut scratch = SCRATCH.take().unwrap_or_else(Scratch::new);
    let Scratch { input, buffers, tape } = &mut *scratch;
    input.clear();
    input.reserve(payload.len() + INPUT_PADDING);
    input.extend_from_slice(payload);
    input.resize(payload.len() + INPUT_PADDING, 0);
    let mut filled = std::mem::replace(tape, Tape(Vec::new())).reset();
    // The tape is built iteratively and refuses deep nesting there; only then does serde recurse.
    let read = fill_tape_padded(input, payload.len(), buffers, &mut filled)
        .map_err(|error| match error.error() {
            ErrorType::DepthLimitExceeded => ContractError::TooDeep { limit: MAX_DEPTH },
            kind => ContractError::InvalidJson {
                reason: words(kind),
                offset: error.index(),
            },
        })
        .and_then(|()| read(&mut filled));
    *tape = filled.reset();
    if payload.len() <= KEEP {
        SCRATCH.set(Some(scratch));
    }
    read
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
