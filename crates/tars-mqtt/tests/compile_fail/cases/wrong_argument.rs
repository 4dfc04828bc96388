//! Handlers with arguments that no message has.

use serde::Deserialize;
use tars_mqtt::{Client, Context, Envelope, Event, InboundMessage};

#[derive(Deserialize, Event)]
#[event(type = "stt.final", topic = "stt/final")]
struct FinalTranscript {}

async fn five(_: Context, _: Context, _: Context, _: Context, _: Context) {}

fn uses(client: Client) {
    let _ = client.subscribe("a", async |_: String| ()); //~ `String` cannot be an argument of a message handler
    let _ = client.subscribe("a", async |_: Context, _: &str| ()); //~ a handler takes `Envelope<T>`
    let _ = client.subscribe("a", async |_: FinalTranscript| ()); //~ an event is taken by the handler of `client.on(handler)`
    let _ = client.subscribe("a", async || ()); //~ is not a message handler
    let _ = client.subscribe("a", five); //~ a handler is an async function or closure with one to four arguments
    let _ = client.subscribe("a", 5); //~ `{integer}` is not a message handler
    let _ = client.on(async |_: InboundMessage| ()); //~ `InboundMessage` is not an event
    let _ = client.on(async || ()); //~ is not a handler of events
    let _ = client.on(async |_: FinalTranscript, _: u8| ()); //~ `u8` cannot be an argument of a message handler
    let _ = client.on(async |_: Context, _: FinalTranscript| ()); //~ `FinalTranscript` cannot be an argument of a message handler
}

fn main() {
    let _ = uses;
}
