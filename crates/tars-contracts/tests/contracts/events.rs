//! `#[derive(Event)]`, for a crate that knows these contracts only.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use tars_contracts::{Envelope, Event, QoS};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "stt.final", topic = "stt/final", qos = 1)]
struct FinalTranscript {
    text: String,
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "health.status", topic = "system/health/{service}", qos = 2, retain)]
struct Health {
    #[serde(skip)]
    service: String,
    ok: bool,
}

#[test]
fn the_attribute_says_it_all() {
    assert_eq!(FinalTranscript::TYPE, "stt.final");
    assert_eq!(FinalTranscript::TOPIC, "stt/final");
    assert_eq!(
        (FinalTranscript::QOS, FinalTranscript::RETAIN),
        (QoS::AtLeastOnce, false)
    );
    assert_eq!((Health::QOS, Health::RETAIN), (QoS::ExactlyOnce, true));
    let transcript = FinalTranscript { text: "hi".into() };
    assert_eq!(transcript.topic().unwrap().as_str(), "stt/final");
    assert_eq!(FinalTranscript::filter().unwrap().as_str(), "stt/final");
}

#[test]
fn a_field_that_is_not_in_the_data_travels_in_the_topic() {
    let sent = Health {
        service: "tts".into(),
        ok: true,
    };
    let topic = sent.topic().unwrap();
    let bytes = Envelope::new(Health::TYPE, "tts", sent).to_bytes().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.ends_with(r#""data":{"ok":true}}"#), "{text}");

    let mut received = Envelope::<Health>::from_bytes(&bytes).unwrap();
    assert_eq!(received.data.service, "");
    received.data.read_topic(&topic).unwrap();
    assert_eq!(received.data.service, "tts");
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "a", topic = "{type}/{with_attributes}/{number}/x")]
#[event(retain = false)]
struct Odd {
    r#type: String,
    #[serde(rename = "w", default, alias = "v")]
    with_attributes: String,
    #[serde(skip_deserializing)]
    number: u16,
}

#[test]
fn raw_names_and_attributes_of_serde_are_understood() {
    let mut odd = Odd {
        r#type: "t".into(),
        with_attributes: "w".into(),
        number: 0,
    };
    odd.read_topic(&"other/other/12/x".parse().unwrap()).unwrap();
    assert_eq!(odd.topic().unwrap().as_str(), "t/w/12/x");
    assert!(odd.read_topic(&"t/w/70000/x".parse().unwrap()).is_err());
}

#[derive(Event)]
#[event(type = "chunk", topic = "chunk/{id}", crate = "tars_contracts")]
struct Chunk<'a, T: Display, const N: usize>
where
    T: Clone,
{
    id: T,
    _items: [&'a str; N],
}

#[test]
fn generic_types_are_events() {
    let chunk = Chunk { id: 1.5, _items: ["a"] };
    assert_eq!(chunk.topic().unwrap().as_str(), "chunk/1.5");
}

#[derive(Serialize, Deserialize, Event)]
#[serde(tag = "kind")]
#[event(type = "move", topic = "move")]
enum Move {
    Forward { metres: f32 },
    Stop,
}

#[test]
fn an_enum_that_is_written_as_an_object_is_one() {
    let bytes = Envelope::new(Move::TYPE, "", Move::Forward { metres: 1.0 }).to_bytes();
    let read = Envelope::<Move>::from_bytes(&bytes.unwrap()).unwrap();
    assert!(matches!(read.data, Move::Forward { metres: 1.0 }));
    assert!(Envelope::new(Move::TYPE, "", Move::Stop).to_bytes().is_ok());
}

// The derive's own names must not be taken for those of the macro around it.
macro_rules! event {
    ($name:ident, $field:ident: $type:ty) => {
        #[derive(Event)]
        #[event(type = "of.macro", topic = "of/{level}")]
        struct $name {
            $field: $type,
        }
    };
}
event!(OfMacro, level: u8);

#[test]
fn a_macro_may_write_the_struct() {
    assert_eq!(OfMacro { level: 3 }.topic().unwrap().as_str(), "of/3");
}
