//! SPEC 5.3: bad input is counted, logged and acknowledged; never a panic, never a disconnect.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde::Deserialize;
use tars_mqtt::{Client, Envelope, Message, QoS};
use tars_testkit::memory::MemoryBroker;

use crate::{Seen, config, secs, settle};

#[derive(Deserialize)]
struct Transcript {
    #[allow(dead_code)]
    text: String,
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_bad_input_is_skipped_and_seen() {
    let broker = MemoryBroker::new();
    let hooked = Arc::new(AtomicUsize::new(0));
    let count = hooked.clone();
    let client = Client::builder(config("svc").max_packet_size(20 << 20).build().unwrap())
        .connector(broker.connector())
        .on_invalid(move |context, invalid| {
            assert_eq!(context.topic().as_str(), "stt/final");
            assert!(!invalid.reason().is_empty() && invalid.reason().len() < 500);
            count.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    client.connect().await.unwrap();
    let seen = Seen::default();
    let handled = seen.clone();
    client
        .subscribe("stt/final", move |event: Envelope<Transcript>| {
            handled.push(event.data.text);
            async {}
        })
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let nested = [r#"{"type":"t","data":{"text":"#, &"[".repeat(1 << 20)].concat();
    let bad: Vec<Bytes> = vec![
        Bytes::new(),
        Bytes::from_static(b"not json"),
        Bytes::from_static(b"\xff\xfe\x00"),
        Bytes::from_static(b"[1,2]"),
        Bytes::from_static(b"{}"),
        Bytes::from_static(br#"{"type":"","data":{"text":"x"}}"#),
        Bytes::from_static(br#"{"type":"t"}"#),
        Bytes::from_static(br#"{"type":"t","data":["x"]}"#),
        Bytes::from_static(br#"{"type":"t","data":{"text":7}}"#),
        Bytes::from_static(br#"{"type":"t","data":{}}"#),
        Bytes::from(nested),
        Bytes::from(vec![b'['; 16 << 20]),
        Bytes::from(
            (0..16u32 << 20)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect::<Vec<_>>(),
        ),
    ];
    let kinds = bad.len();
    for payload in bad {
        client
            .publish("stt/final", payload)
            .qos(QoS::AtLeastOnce)
            .timeout(secs(30))
            .await
            .unwrap();
    }
    client
        .publish_event("stt/final", "stt.final", &serde_json::json!({"text": "good"}))
        .await
        .unwrap();
    assert_eq!(seen.reach(1).await, ["good"]);
    let stats = client.stats();
    assert_eq!((stats.invalid as usize, stats.handled, stats.failed), (kinds, 1, 0));
    assert_eq!(hooked.load(Ordering::SeqCst), kinds);
    assert_eq!(broker.backlog("svc"), (0, 0));
    assert_eq!(client.stats().connects, 1);
}

/// Every way in which a payload is read: by a handler with deduplication, as a reply, as an
/// item of a stream. 200,000 levels would overflow any of our stacks.
#[tokio::test(start_paused = true)]
async fn nesting_overflows_no_reader() {
    const LEVELS: usize = 200_000;
    let arrays = "[".repeat(LEVELS) + &"]".repeat(LEVELS);
    let objects = r#"{"a":"#.repeat(LEVELS) + "1" + &"}".repeat(LEVELS);
    let head = r#""id":"req","type":"deep","ts":1,"source":"s""#;
    let payloads = [
        "[".repeat(LEVELS),
        arrays.clone(),
        format!(r#"{{{head},"data":{objects}}}"#),
        format!(r#"{{{head},"data":{{"seq":{arrays}}}}}"#),
        format!(r#"{{{head},"data":{{"seq":0,"done":{arrays}}}}}"#),
        format!(r#"{{{head},"data":{{}},"unknown":{objects}}}"#),
    ];
    let broker = MemoryBroker::new();
    let client = crate::connected_with(&broker, crate::config("svc").dedupe_ttl(crate::secs(60))).await;
    client
        .subscribe("deep", async |_: Envelope| -> () { panic!("no envelope is that deep") })
        .await
        .unwrap();
    for (number, payload) in (1..).zip(&payloads) {
        let data = serde_json::json!({});
        let request = client
            .request::<tars_mqtt::Data>("ask", "ask", &data)
            .correlation_id("req");
        let reply = request.reply_on("answer").timeout(crate::secs(1)).into_future();
        let request = client.request_stream::<tars_mqtt::Data>("ask", "ask", &data);
        let mut items = request.reply_on("stream").correlation_id("req").await.unwrap();
        let publish = async {
            settle().await;
            for topic in ["deep", "answer", "stream"] {
                broker.publish(Message::new(topic.parse().unwrap(), payload.clone()));
            }
        };
        let (reply, item, ()) = tokio::join!(reply, items.next(), publish);
        reply.unwrap_err();
        item.unwrap().unwrap_err();
        assert!(client.stats().invalid >= number);
        assert_eq!(client.stats().failed, 0);
    }
}
