//! Handlers that return what means neither success nor failure.

use serde::Deserialize;
use tars_mqtt::{Client, Event, InboundMessage};

#[derive(Deserialize, Event)]
#[event(type = "stt.final", topic = "stt/final")]
struct FinalTranscript {
    text: String,
}

struct NoError;

fn uses(client: Client) {
    let _ = client.subscribe("a", async |_: InboundMessage| 5); //~ a message handler cannot return `{integer}`
    let _ = client.subscribe("a", async |_: InboundMessage| Ok::<_, String>(5)); //~ return `()` or `Result<(), E>`
    let _ = client.subscribe("a", async |_: InboundMessage| Err::<(), _>(NoError)); //~ a message handler cannot return `Result<(), NoError>`
    let _ = client.on(async |event: FinalTranscript| event.text); //~ a message handler cannot return `String`
}

fn main() {
    let _ = uses;
}
