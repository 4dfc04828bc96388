//! What compiles: so the errors of the others are their own.

use serde::{Deserialize, Serialize};
use tars_mqtt::{Bytes, Client, Context, Envelope, Error, Event, InboundMessage, Route, TopicName};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "stt.final", topic = "stt/{room}", qos = 1, retain)]
struct FinalTranscript {
    room: String,
}

async fn function(_: FinalTranscript, _: Context) -> Result<(), Error> {
    Ok(())
}

async fn uses(client: Client) -> Result<(), Error> {
    client.on(function).await?;
    client.on::<FinalTranscript, _>(function).await?;
    client.on(async |_: FinalTranscript| ()).await?;
    client.on(async |_: Envelope<FinalTranscript>, _: TopicName, _: Bytes, _: InboundMessage| ()).await?;
    client.subscribe("stt/#", async |_: Envelope<FinalTranscript>| Err::<(), _>("a text")).await?;
    let captured = client.downgrade();
    client
        .on(move |event: FinalTranscript| {
            let captured = captured.clone();
            async move {
                let Some(client) = captured.upgrade() else { return Ok(()) };
                client.send(&event).await.map(|_| ())
            }
        })
        .await?;
    let _ = Route::on(function);
    Ok(())
}

fn main() {
    let _ = uses;
}
