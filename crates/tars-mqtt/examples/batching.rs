//! A sensor that publishes its readings in batches, and loses none while the broker is away.
//!
//! ```sh
//! cargo run -p tars-mqtt --example batching
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tars_mqtt::layers::{Batching, LayerExt, Observe};
use tars_mqtt::{Client, Config, Context, Envelope, QoS};
use tars_testkit::embedded::EmbeddedBroker;
use tokio::sync::mpsc;
use tokio::time::timeout;

const READINGS: usize = 25;

#[derive(Deserialize)]
struct Batch {
    items: Vec<Reading>,
    count: usize,
}

#[derive(Deserialize)]
struct Reading {
    number: usize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut broker = EmbeddedBroker::start().await?;
    let config = Config::builder().url(broker.url()).client_id("sensor").build()?;
    let client = Client::new(config)?;
    client.connect().await?;

    let (arrived, mut inbox) = mpsc::channel(READINGS);
    let collect = move |batch: Envelope<Batch>, context: Context| {
        let arrived = arrived.clone();
        async move {
            println!("{}: {} of type {}", context.topic(), batch.data.count, batch.event_type);
            for reading in batch.data.items {
                arrived.send(reading.number).await?;
            }
            Ok::<(), mpsc::error::SendError<usize>>(())
        }
    };
    client
        .subscribe("sensors/+/batch", collect)
        .qos(QoS::AtLeastOnce)
        .await?;

    // Around the client: what leaves is seen, and before that gathered.
    let seen = client.clone().layer(Observe::new(|published| {
        println!("  {} bytes settled after {:?}", published.bytes, published.elapsed);
    }));
    let batching = Batching::new("sensor")
        .qos(QoS::AtLeastOnce)
        .interval(Duration::from_millis(200));
    let batches = seen.clone().layer(batching);

    // The receipt is for those who want to know; a reading goes out without it as well.
    for number in 0..READINGS / 2 {
        drop(batches.add("sensors/temperature", &json!({"number": number})).await?);
    }
    batches.flush().await;
    let mut numbers = BTreeSet::new();
    collect_until(&mut numbers, READINGS / 2, &mut inbox).await?;

    println!("the broker goes away");
    broker.stop().await?;
    for number in READINGS / 2..READINGS {
        drop(batches.add("sensors/temperature", &json!({"number": number})).await?);
    }
    println!("the broker comes back; kept meanwhile: {}", batches.stats().pending);
    broker.start_again().await?;
    batches.flush().await;
    collect_until(&mut numbers, READINGS, &mut inbox).await?;

    batches.shutdown().await;
    seen.shutdown().await;
    let stats = batches.stats();
    client.shutdown().await;
    broker.stop().await?;
    println!(
        "batching: ok: {} readings in {} batches, {} failed",
        stats.items, stats.batches, stats.failed
    );
    if stats.failed == 0 {
        Ok(())
    } else {
        Err("readings were lost".into())
    }
}

/// A set, because at least once may mean twice.
async fn collect_until(
    numbers: &mut BTreeSet<usize>,
    count: usize,
    inbox: &mut mpsc::Receiver<usize>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    while numbers.len() < count {
        let number = timeout(Duration::from_secs(30), inbox.recv()).await?;
        numbers.insert(number.ok_or("the handler is gone")?);
    }
    Ok(())
}
