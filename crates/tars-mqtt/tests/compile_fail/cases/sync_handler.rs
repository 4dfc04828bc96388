//! A handler that is not async.

use serde::Deserialize;
use tars_mqtt::{Client, Event, InboundMessage, Route};

#[derive(Deserialize, Event)]
#[event(type = "stt.final", topic = "stt/final")]
struct FinalTranscript {}

fn sync(_: InboundMessage) {}

fn uses(client: Client) {
    let _ = client.subscribe("a", |_: InboundMessage| ()); //~ a message handler is async, but this one returns `()`
    let _ = client.subscribe("a", sync); //~ write `async |…| { … }`, `|…| async move { … }` or `async fn`
    let _ = client.on(|_: FinalTranscript| ()); //~ a message handler is async, but this one returns `()`
    let _ = Route::on(|_: FinalTranscript| Ok::<(), String>(())); //~ a message handler is async
}

fn main() {
    let _ = uses;
}
