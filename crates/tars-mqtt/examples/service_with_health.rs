//! A whole service: several handlers, health, heartbeat, a peer it waits for, graceful shutdown;
//! and a dashboard that watches it. A service ends with Ctrl-C or SIGTERM; this one also when the
//! dashboard has seen enough.
//!
//! ```sh
//! cargo run -p tars-mqtt --example service_with_health
//! ```

mod broker;

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Error, soon};
use serde::{Deserialize, Serialize};
use tars_mqtt::{Client, Envelope, Event, HealthStatus, TopicName};
use tokio::sync::{Notify, mpsc};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "wake.event", topic = "wake/event", qos = 1)]
struct Wake {
    word: String,
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "camera.lost", topic = "camera/lost", qos = 1)]
struct CameraLost {}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "service.stop", topic = "movement/stop", qos = 1)]
struct Stop {}

/// The service. `Client::run` says `connected` before it and `shutdown` after it.
async fn serve(client: Client) -> Result<(), tars_mqtt::Error> {
    client
        .wait_for_peer("dashboard")
        .timeout(Duration::from_secs(10))
        .await?;
    client
        .on(async |wake: Wake| println!("movement: woken by {:?}", wake.word))
        .await?;

    let weak = client.downgrade(); // a handler that holds a `Client` would keep it alive
    let on_lost = move |_: CameraLost| {
        let client = weak.upgrade();
        async move {
            let Some(client) = client else { return Ok(()) };
            client
                .publish_health(false)
                .event("blind")
                .error("the camera is lost")
                .await
        }
    };
    client.on(on_lost).await?;

    let stop = Arc::new(Notify::new());
    let stopper = stop.clone();
    let on_stop = move |_: Stop| {
        stopper.notify_one();
        async {}
    };
    client.on(on_stop).await?;
    client.publish_health(true).event("ready").await?;
    tokio::select! {
        signal = client.until_signal() => signal,
        () = stop.notified() => Ok(()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let broker = Broker::find().await?;
    let dashboard = Client::new(broker.config("dashboard").enable_health(true).build()?)?;
    dashboard.connect().await?;
    let (sender, mut statuses) = mpsc::channel(16);
    let watch = move |status: Envelope<HealthStatus>, topic: TopicName| {
        let sender = sender.clone();
        async move {
            println!("dashboard: {topic}: ok {}, {:?}", status.data.ok, status.data.event);
            sender.send((status.source, status.data.event)).await
        }
    };
    dashboard.subscribe("system/health/+", watch).await?;

    let config = broker.config("movement").enable_health(true).enable_heartbeat(true);
    let service = tokio::spawn(Client::run(config.build()?, serve));
    let mut until = async |event: &str| {
        loop {
            let (source, seen) = soon(statuses.recv()).await?.ok_or("the dashboard is gone")?;
            if source == "movement" && seen.as_deref() == Some(event) {
                return Ok::<(), Error>(());
            }
        }
    };
    until("ready").await?;
    dashboard
        .send(&Wake {
            word: "tars".to_owned(),
        })
        .await?;
    dashboard.send(&CameraLost {}).await?;
    until("blind").await?;
    dashboard.send(&Stop {}).await?;
    until("shutdown").await?;
    soon(service).await???;
    dashboard.shutdown().await;
    Ok(())
}
