//! SPEC 5.3 over a real broker: whatever others publish is counted and skipped, and the link stays.

use serde::Deserialize;
use tars_mqtt::{Client, Envelope, QoS};

use crate::support::seen::Seen;
use crate::support::tools::publish;
use crate::support::{broker, config, within};

#[derive(Deserialize)]
struct Wake {
    word: String,
}

/// Every kind, by name.
fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let mut garbage = vec![0; 1024 * 1024];
    fastrand::Rng::with_seed(7).fill(&mut garbage);
    let deep = |open: &str| open.repeat(1024 * 1024 / open.len()).into_bytes();
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("not JSON", text("garbage")),
        (
            "cut short",
            text(r#"{"id":"1","type":"wake","ts":1.5,"source":"s","data":{"word":"ta"#),
        ),
        ("two values", text(r#"{"type":"wake","data":{"word":"x"}} {}"#)),
        (
            "a byte order mark",
            text("\u{feff}{\"type\":\"wake\",\"data\":{\"word\":\"x\"}}"),
        ),
        ("a comment", text("{\"type\":\"wake\",/**/\"data\":{\"word\":\"x\"}}")),
        (
            "no UTF-8",
            b"{\"type\":\"wake\",\"data\":{\"word\":\"\xff\xfe\"}}".to_vec(),
        ),
        (
            "half a surrogate pair",
            text(r#"{"type":"wake","data":{"word":"\ud800"}}"#),
        ),
        ("a number", text("42")),
        ("null", text("null")),
        ("an array", text(r#"["wake",{"word":"x"}]"#)),
        ("no type", text(r#"{"data":{"word":"x"}}"#)),
        ("an empty type", text(r#"{"type":"","data":{"word":"x"}}"#)),
        ("a type that is no string", text(r#"{"type":7,"data":{"word":"x"}}"#)),
        ("no data", text(r#"{"type":"wake"}"#)),
        ("data that is no object", text(r#"{"type":"wake","data":["x"]}"#)),
        ("data that is null", text(r#"{"type":"wake","data":null}"#)),
        ("data that does not fit", text(r#"{"type":"wake","data":{"word":1}}"#)),
        ("data that lacks a field", text(r#"{"type":"wake","data":{}}"#)),
        (
            "a time that is no number",
            text(r#"{"type":"wake","ts":"now","data":{"word":"x"}}"#),
        ),
        (
            "a time out of bounds",
            text(r#"{"type":"wake","ts":1e999,"data":{"word":"x"}}"#),
        ),
        ("1 MiB of garbage", garbage),
        ("1 MiB of zeros", vec![0; 1024 * 1024]),
        ("1 MiB of [", deep("[")),
        ("1 MiB of nested objects", deep(r#"{"data":"#)),
    ]
}

#[tokio::test]
async fn every_kind_is_counted_and_skipped_and_the_link_stays() {
    let broker = broker().await;
    let config = config(&broker, "svc").build().unwrap();
    let reasons = Seen::default();
    let hook_reasons = reasons.clone();
    let builder = Client::builder(config)
        .on_invalid(move |context, invalid| hook_reasons.push((context.payload().len(), invalid.reason().to_owned())));
    let client = builder.build().unwrap();
    within("connecting", client.connect()).await.unwrap();
    let words = Seen::default();
    let handler_words = words.clone();
    let handler = move |wake: Envelope<Wake>| {
        handler_words.push(wake.data.word);
        async {}
    };
    client.subscribe("wake/+", handler).qos(QoS::AtLeastOnce).await.unwrap();

    // `-n` is the empty payload, which no input can be.
    publish(&broker, &["-t", "wake/empty", "-q", "1", "-n"], b"").await;
    let first = reasons.reach(1).await;
    assert_eq!(first[0].0, 0);
    for (number, (name, payload)) in (2..).zip(bad()) {
        // A topic whose first character is not ASCII, and others.
        let topic = if number % 2 == 0 {
            "wake/überraschung"
        } else {
            "wake/x y"
        };
        publish(&broker, &["-t", topic, "-q", "1", "-s"], &payload).await;
        let all = reasons.reach(number).await;
        let (length, reason) = &all[number - 1];
        assert_eq!(*length, payload.len(), "{name}");
        assert!(!reason.is_empty() && reason.len() < 300, "{name}: {reason}");
    }
    let good = br#"{"type":"wake","data":{"word":"tars"}}"#;
    publish(&broker, &["-t", "wake/good", "-q", "1", "-s"], good).await;
    assert_eq!(words.reach(1).await, ["tars"]);

    let stats = client.stats();
    assert_eq!(stats.invalid, bad().len() as u64 + 1);
    assert_eq!((stats.handled, stats.failed, stats.connects), (1, 0, 1));
    assert!(client.is_connected());
    assert!(client.shutdown().await.is_complete());
    // What was skipped was acknowledged: the broker has nothing left for this client.
    let acknowledged = broker.log().matches("Received PUBACK from svc").count();
    assert_eq!(acknowledged, bad().len() + 2);
}
