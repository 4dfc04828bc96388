//! Bytes from a peer who is broken or means harm: always a value or an error.

use std::error::Error;

use proptest::prelude::*;
use serde::Deserialize;
use tars_contracts::{ContractError, Data, Envelope, EnvelopeHead, HealthStatus, Heartbeat, MAX_DEPTH, TopicName};

const LARGE: usize = 16 << 20;

fn read(payload: &[u8]) -> Result<Envelope, ContractError> {
    Envelope::from_bytes(payload)
}

fn assert_too_deep(payload: &str) {
    let too_deep = |error| matches!(error, Some(ContractError::TooDeep { limit: MAX_DEPTH }));
    assert!(too_deep(read(payload.as_bytes()).err()));
    assert!(too_deep(Heartbeat::from_bytes(payload.as_bytes()).err()));
    EnvelopeHead::peek(payload.as_bytes());
}

#[test]
fn sixteen_mebibytes_of_brackets_do_not_overflow_the_stack() {
    assert_too_deep(&"[".repeat(LARGE));
    assert_too_deep(&r#"{"a":"#.repeat(LARGE / 5));
    assert_too_deep(&(r#"{"type":"t","data":{"a":"#.to_owned() + &"[".repeat(LARGE)));
}

#[test]
fn nesting_counts_in_ignored_fields_too() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let payload = format!(r#"{{"type":"t","ignored":{deep},"data":{{}}}}"#);
    assert_too_deep(&payload);
    let head = EnvelopeHead::peek(payload.as_bytes()).unwrap();
    assert_eq!(head.event_type.as_deref(), Some("t"));
}

#[test]
fn the_limit_is_exact() {
    let at = |depth: usize| {
        // The envelope itself is one level, `data` another.
        let inside = depth - 2;
        let deep = "[".repeat(inside) + &"]".repeat(inside);
        read(format!(r#"{{"type":"t","data":{{"a":{deep}}}}}"#).as_bytes())
    };
    at(MAX_DEPTH).unwrap();
    assert!(matches!(at(MAX_DEPTH + 1), Err(ContractError::TooDeep { .. })));
    // Brackets in strings and side by side are no nesting.
    let flat = format!(
        r#"{{"type":"t","data":{{"s":"\"{}","l":[{}[]]}}}}"#,
        "[{".repeat(1000),
        "[],".repeat(1000)
    );
    read(flat.as_bytes()).unwrap();
}

#[test]
fn what_is_no_json_says_so() {
    let cut = br#"{"type":"t","data":{"a":1"#;
    let payloads: [&[u8]; 12] = [
        b"",
        b" ",
        b"\0",
        b"nope",
        b"{",
        b"}",
        cut,
        b"{} {}",
        b"\xef\xbb\xbf{}",
        br#"{"type":"t","data":{"a":"\ud800"}}"#,
        b"{\"type\":\"\xff\",\"data\":{}}",
        br#"{"type":"t","data":{"a":NaN}}"#,
    ];
    for payload in payloads {
        let error = read(payload).unwrap_err();
        assert!(
            matches!(error, ContractError::InvalidJson { .. }),
            "{payload:?}: {error:?}"
        );
    }
    for payload in ["[]", "null", "7", r#""text""#, r#"["t",{}]"#] {
        assert!(matches!(
            read(payload.as_bytes()),
            Err(ContractError::Deserialize { .. })
        ));
        assert!(EnvelopeHead::peek(payload.as_bytes()).is_none());
    }
    assert!(read(&vec![0xA5; LARGE]).is_err());
    assert!(read(&vec![b' '; LARGE]).is_err());
    assert!(read(&vec![b'"'; LARGE]).is_err());
}

#[test]
fn numbers_beyond_range_are_values_or_errors() {
    for number in ["1e400", "-1e400", &"9".repeat(400), "1e-400", "-0"] {
        let envelope = format!(r#"{{"type":"t","ts":{number},"data":{{"n":{number}}}}}"#);
        if let Ok(read) = read(envelope.as_bytes()) {
            assert!(read.ts.is_finite());
            read.to_bytes().unwrap();
        }
    }
}

#[test]
fn errors_do_not_quote_the_payload() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read to fail")]
    struct Typed {
        number: u8,
        kind: Option<Kind>,
        topic: Option<TopicName>,
    }
    #[derive(Debug, Deserialize)]
    enum Kind {
        A,
        B,
    }
    for data in [
        r#"{"number":"SECRET"}"#,
        r#"{"number":"SECRET, expected SECRET"}"#,
        r#"{"number":4242}"#,
        r#"{"number":1,"SECRET":2}"#,
        r#"{"number":1,"kind":"SECRET"}"#,
        r#"{"number":1,"kind":{"SECRET":1}}"#,
        r#"{"number":1,"topic":"SECRET/#"}"#,
        r#""SECRET""#,
        r#"{"number":1} SECRET"#,
        r#"{"number":SECRET}"#,
        r#"{"SECRET":1}"#,
    ] {
        let payload = format!(r#"{{"id":"i","type":"t","data":{data}}}"#);
        let error = Envelope::<Typed>::from_bytes(payload.as_bytes()).unwrap_err();
        let shown = format!("{error} {error:?} {:?}", error.source());
        assert!(!shown.contains("SECRET") && !shown.contains("4242"), "{shown}");
    }
    let error = read(br#"{"id":["SECRET"],"type":"t","data":{}}"#).unwrap_err();
    assert!(!error.to_string().contains("SECRET"), "{error}");
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_every_way(&bytes);
    }

    #[test]
    fn almost_json_never_panics(text in r#"[\[\]{}:,"\\ tn0-9.eE+-]{0,200}"#) {
        read_every_way(text.as_bytes());
    }

    #[test]
    fn damaged_envelopes_never_panic(
        at in any::<prop::sample::Index>(),
        byte: u8,
        end in any::<prop::sample::Index>(),
    ) {
        let mut payload =
            r#"{"id":"7","type":"t","ts":1.5,"source":"é\n","data":{"ok":true,"n":[-1e5,null]}}"#
                .as_bytes()
                .to_vec();
        *at.get_mut(&mut payload) = byte;
        read_every_way(&payload);
        read_every_way(&payload[..end.index(payload.len())]);
    }
}

fn read_every_way(bytes: &[u8]) {
    let _ = Envelope::<Data>::from_bytes(bytes);
    let _ = Envelope::<HealthStatus>::from_bytes(bytes);
    let _ = Envelope::<serde::de::IgnoredAny>::from_bytes(bytes);
    let _ = Heartbeat::from_bytes(bytes);
    let _ = EnvelopeHead::peek(bytes);
}
