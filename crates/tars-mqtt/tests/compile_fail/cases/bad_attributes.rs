//! Attributes of the derive that say nothing, or the wrong thing.

use tars_mqtt::Event;

#[derive(Event)]
struct NoAttribute {} //~ an event needs its topic, such as `#[event(topic = "stt/final")]`

#[derive(Event)]
#[event(topic = "a")]
struct NoType {} //~ an event needs its type, such as `#[event(type = "stt.final")]`

#[derive(Event)]
#[event(type = "a", topic = "a/#")] //~ the level `#` has a wildcard, which is for subscribing only
struct Wildcard {}

#[derive(Event)]
#[event(type = "a", topic = "a/room-{n}")] //~ a parameter fills a whole level
struct PartOfALevel {
    n: u8,
}

#[derive(Event)]
#[event(type = "a", topic = "a/{missing}")] //~ the parameter `{missing}` names no field of `NoField`
struct NoField {}

#[derive(Event)]
#[event(
    type = "a",
    topic = "a",
    qos = 3, //~ the QoS of an event is 0, 1 or 2
)]
struct QoS3 {}

#[derive(Event)]
#[event(type = "a", topic = "a")]
#[event(type = "b")] //~ this key is there twice
struct Twice {}

#[derive(Event)]
#[event(type = "a", topic = "a", retained)] //~ an event has the keys `type`, `topic`, `qos`, `retain` and `crate`
struct UnknownKey {}

#[derive(Event)]
#[event(type = "a", topic = "a")]
union Overlaid { //~ a union cannot be an event
    a: u8,
}

#[derive(Event)]
#[event(type = "a", topic = "a/{unshown}")]
struct NotShown {
    unshown: Vec<u8>, //~ `Vec<u8>`
}

fn main() {}
