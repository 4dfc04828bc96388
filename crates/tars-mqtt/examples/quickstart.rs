//! An event, a handler, and a client for the length of a scope: connect, listen, publish, go.
//!
//! ```sh
//! cargo run -p tars-mqtt --example quickstart
//! MQTT_URL=mqtt://localhost cargo run -p tars-mqtt --example quickstart
//! ```

mod broker;

use broker::{Broker, Error, soon};
use serde::{Deserialize, Serialize};
use tars_mqtt::{Client, Event};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Event)]
#[event(type = "my.event", topic = "my/topic", qos = 1)]
struct Greeting {
    message: String,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let broker = Broker::find().await?;
    Client::run(broker.config("quickstart").build()?, async |client: Client| {
        let (sender, mut inbox) = mpsc::channel(1);
        let greet = move |greeting: Greeting| {
            let sender = sender.clone();
            async move { sender.send(greeting.message).await }
        };
        client.on(greet).await?;

        let message = "Hello MQTT!".to_owned();
        client.send(&Greeting { message }).await?; // the broker has it
        println!("received: {}", soon(inbox.recv()).await?.ok_or("the handler is gone")?);
        Ok(())
    })
    .await
}
