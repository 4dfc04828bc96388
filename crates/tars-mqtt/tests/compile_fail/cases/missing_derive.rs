//! Types that lack a derive.

use serde::{Deserialize, Serialize};
use tars_mqtt::{Client, Context, Envelope, Event};

struct Nothing {}

#[derive(Serialize, Deserialize)]
struct NoEvent {}

#[derive(Event)]
#[event(type = "stt.final", topic = "stt/final")]
struct NoSerde {}

fn uses(client: Client, context: Context) {
    let _ = client.subscribe("a", async |_: Envelope<Nothing>| ()); //~ `#[derive(serde::Deserialize)]`
    let _ = client.on(async |_: NoSerde| ()); //~ `#[derive(serde::Deserialize)]`
    let _ = client.on(async |_: NoEvent| ()); //~ `NoEvent` is not an event: its event type and topic are not known
    let _ = client.on(async |_: Envelope<NoEvent>, _: Context| ()); //~ take a type with `#[derive(Event)]` and `#[event(type = "…", topic = "…")]`, or an `Envelope` of one
    let _ = client.send(&NoEvent {}); //~ put `#[derive(Event)]` and `#[event(type = "…", topic = "…")]` on the struct
    let _ = client.send(&NoSerde {}); //~ `#[derive(serde::Serialize)]`
    let _ = context.send_reply(&NoEvent {}); //~ `NoEvent` is not an event
    let _ = client.publish_event("a", "a", &Nothing {}); //~ `#[derive(serde::Serialize)]`
}

fn main() {
    let _ = uses;
}
