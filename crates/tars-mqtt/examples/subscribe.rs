//! Handlers: what they take, for one topic or many, what becomes of an error and of bad input.
//!
//! ```sh
//! cargo run -p tars-mqtt --example subscribe
//! ```

mod broker;

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Error, soon};
use serde::Deserialize;
use serde_json::json;
use tars_mqtt::{Client, Context, Data, Envelope, InboundMessage, OnFailure, QoS};
use tokio::sync::Semaphore;

#[derive(Deserialize)]
struct Wake {
    word: String,
}

/// A typed event. What does not fit is counted, logged, and never gets here.
async fn on_wake(wake: Envelope<Wake>) {
    println!("{} said {:?}", wake.source, wake.data.word);
}

/// Any event below a topic. An error is retried, logged and counted; it harms nobody else.
async fn on_command(command: Envelope<Data>, context: Context) -> Result<(), String> {
    println!("{} on {}", command.event_type, context.topic());
    match command.data.get("speed") {
        Some(_) => Ok(()),
        None => Err("a command without a speed".into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let broker = Broker::find().await?;
    let client = Client::new(broker.config("subscribe").build()?)?;
    client.connect().await?;

    client.subscribe("wake/event", on_wake).await?;
    let commands = client
        .subscribe("commands/#", on_command)
        .qos(QoS::AtLeastOnce)
        .concurrency(4);
    commands
        .on_failure(OnFailure::retry(2, Duration::from_millis(50)))
        .await?;

    // Raw bytes, and a closure that shares something: cloned for each run.
    let frames = Arc::new(Semaphore::new(0));
    let counter = frames.clone();
    let on_frame = move |frame: InboundMessage| {
        let counter = counter.clone();
        async move {
            println!("{} bytes on {}", frame.payload.len(), frame.topic);
            counter.add_permits(1);
        }
    };
    let camera = client.subscribe("camera/+", on_frame).await?;

    client
        .publish_event("wake/event", "wake.event", &json!({"word": "tars"}))
        .await?;
    client.publish("wake/event", "no envelope at all").await?;
    client
        .publish_event("commands/drive", "drive.start", &json!({"speed": 3}))
        .await?;
    client
        .publish_event("commands/arm/left", "arm.raise", &json!({}))
        .await?;
    client.publish("camera/front", vec![0; 4096]).await?;
    soon(frames.acquire()).await??.forget();
    camera.unsubscribe().await?;

    // Running handlers finish, their retries too.
    client.shutdown().await;
    let stats = client.stats();
    println!(
        "handled {}, failed {}, invalid {}",
        stats.handled, stats.failed, stats.invalid
    );
    if (stats.handled, stats.failed, stats.invalid) != (3, 3, 1) {
        return Err("that is not what was expected".into());
    }
    Ok(())
}
