//! Ways to publish: an event, with options, typed, pipelined, raw bytes, and what cannot be sent.
//!
//! ```sh
//! cargo run -p tars-mqtt --example publish
//! ```

mod broker;

use std::time::Duration;

use broker::{Broker, Error};
use serde::Serialize;
use serde_json::json;
use tars_mqtt::{Client, Event, QoS};

#[derive(Serialize, Event)]
#[event(type = "stt.final", topic = "stt/{room}/final", qos = 1)]
struct FinalTranscript {
    room: &'static str,
    text: &'static str,
    confidence: f32,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let broker = Broker::find().await?;
    let client = Client::new(broker.config("publish").build()?)?;
    client.connect().await?;

    // QoS 0: best effort. Any `Serialize` that makes a JSON object will do.
    let data = json!({"text": "hel", "is_final": false});
    client.publish_event("stt/partial", "stt.partial", &data).await?;

    // QoS 1: when this returns, the broker has it.
    let data = json!({"reply": "It is sunny."});
    let reply = client.publish_event("llm/response", "llm.response", &data);
    let id = reply.correlation_id("request-7").qos(QoS::AtLeastOnce).await?;
    println!("answered {id}");

    // State that whoever comes later finds.
    let config = client.publish_event("example/config", "config.update", &json!({"mode": "production"}));
    config
        .qos(QoS::AtLeastOnce)
        .retain(true)
        .timeout(Duration::from_secs(5))
        .await?;
    let kept = client.retained::<serde_json::Map<_, _>>("example/config").await?;
    println!("the broker keeps {:?}", kept.ok_or("nothing is kept")?.data);

    // A type that knows its topic and QoS.
    client
        .send(&FinalTranscript {
            room: "hall",
            text: "hello",
            confidence: 0.95,
        })
        .await?;

    // Pipelined: taken in one after the other, settled together.
    let mut receipts = Vec::new();
    for number in 0..100_u8 {
        let frame = client.publish("camera/frame", vec![number; 1024]); // raw bytes
        receipts.push(frame.qos(QoS::AtLeastOnce).accepted().await?);
    }
    for receipt in receipts {
        receipt.await?;
    }

    // What cannot be sent is an error before a byte is.
    let error = client.publish_event("stt/+", "stt.final", &json!({})).await.err();
    println!("refused: {}", error.ok_or("a topic with a wildcard was published to")?);

    // An empty retained message takes the state away.
    client
        .publish("example/config", "")
        .qos(QoS::AtLeastOnce)
        .retain(true)
        .await?;
    client.shutdown().await;
    println!("published: {}", client.stats().published);
    Ok(())
}
