//! What the original Python services put on the wire, byte for byte as captured.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use tars_contracts::{
    ContractError, Envelope, EnvelopeHead, HEALTH_EVENT_TYPE, HealthFormat, HealthStatus, Heartbeat, TopicFilter,
    health_topic, keepalive_topic, write_envelope,
};

use crate::ordered::{assert_same, json};

const ENVELOPES: &str = include_str!("../vectors/vectors.jsonl");
const TOPICS: &str = include_str!("../vectors/topic_vectors.jsonl");
const HEALTH: &str = include_str!("../vectors/health_heartbeat.txt");

/// What the Python caller passed as data: non-finite floats and models have stand-ins in the file.
struct Input<'a>(&'a Value);

impl Serialize for Input<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(map) = self.0 else {
            return match self.0 {
                Value::Array(items) => serializer.collect_seq(items.iter().map(Input)),
                leaf => leaf.serialize(serializer),
            };
        };
        if let Some(float) = map.get("__float__") {
            return serializer.serialize_f64(float.as_str().unwrap().parse().unwrap());
        }
        if map.contains_key("__model__") {
            return Input(&map["dump"]).serialize(serializer);
        }
        let mut out = serializer.serialize_map(Some(map.len()))?;
        for (key, value) in map {
            out.serialize_entry(key, &Input(value))?;
        }
        out.end()
    }
}

#[test]
fn envelopes_are_read_and_written_as_the_original_does() {
    let mut seen = 0;
    for line in ENVELOPES.lines() {
        seen += 1;
        let vector = json(line);
        let text = |key: &str| vector[key].as_str().unwrap().to_owned();
        let payload = text("payload");
        let captured = json(&payload);
        let inputs = &vector["inputs"];
        let event_type = inputs["event_type"].as_str().unwrap();
        let source = inputs["source_name"].as_str().unwrap();
        let id = text("returned_id");

        if event_type.is_empty() {
            // The original let it pass; we neither write nor accept it.
            let mut out = Vec::new();
            assert!(matches!(
                write_envelope(&mut out, &id, "", 1.0, source, &inputs["data"]),
                Err(ContractError::EmptyType)
            ));
            assert!(matches!(
                Envelope::<serde_json::Map<_, _>>::from_bytes(payload.as_bytes()),
                Err(ContractError::EmptyType)
            ));
            continue;
        }

        let read: Envelope = Envelope::from_bytes(payload.as_bytes()).unwrap();
        assert_eq!((&read.id, &*read.event_type, &*read.source), (&id, event_type, source));
        assert_eq!(read.correlation_id(), id);
        assert!(vector["t_before"].as_f64().unwrap() <= read.ts);
        assert!(read.ts <= vector["t_after"].as_f64().unwrap());
        assert_same(&Value::Object(read.data.clone()), &captured["data"]);
        let head = EnvelopeHead::peek(payload.as_bytes()).unwrap();
        assert_eq!(head.id, Some(id.clone()));
        assert_eq!(head.event_type.as_deref(), Some(event_type));

        // Dates, UUIDs and enums are Python's own; there the captured data is the input.
        let data = match &*text("name") {
            "datetime_uuid_enum" => &captured["data"],
            _ => &inputs["data"],
        };
        let mut written = Vec::new();
        write_envelope(&mut written, &id, event_type, read.ts, source, &Input(data)).unwrap();
        assert_same(&json(&written), &captured);
        assert_same(&json(read.to_bytes().unwrap()), &captured);
    }
    assert_eq!(seen, 24);
}

#[test]
fn topics_match_as_the_table_says() {
    let mut seen = 0;
    for line in TOPICS.lines() {
        seen += 1;
        let vector = json(line);
        let filter = TopicFilter::new(vector["filter"].as_str().unwrap());
        match vector["spec"].as_bool() {
            None => assert!(filter.is_err(), "{line}"),
            Some(matches) => {
                let topic = vector["topic"].as_str().unwrap();
                let filter = filter.unwrap();
                assert_eq!(filter.matches(&topic.parse().unwrap()), matches, "{line}");
            }
        }
    }
    assert_eq!(seen, 53);
}

#[test]
fn health_and_heartbeats_are_read_and_written_as_the_original_does() {
    let (mut beats, mut statuses) = (0, 0);
    for line in HEALTH.lines() {
        let fields: Vec<&str> = line.splitn(5, ' ').collect();
        let &[_, topic, qos, retain, payload] = &*fields else {
            panic!("{line}")
        };
        let client_id = topic.rsplit('/').next().unwrap();
        let mut captured = json(payload);
        if topic.starts_with("system/keepalive/") {
            beats += 1;
            assert_eq!((qos, retain), ("0", "0"));
            assert_eq!(keepalive_topic(client_id).unwrap().as_str(), topic);
            let beat = Heartbeat::from_bytes(payload.as_bytes()).unwrap();
            assert_same(&json(beat.to_bytes().unwrap()), &captured);
            assert_eq!(beat.event, Heartbeat::now().event);
        } else {
            statuses += 1;
            assert_eq!((qos, retain), ("1", "1"));
            assert_eq!(health_topic(client_id).unwrap().as_str(), topic);
            let read: Envelope<HealthStatus> = Envelope::from_bytes(payload.as_bytes()).unwrap();
            assert_eq!(read.event_type, HEALTH_EVENT_TYPE);
            assert_eq!(read.data.ok, captured["data"]["ok"]);
            assert_eq!(read.data.error.as_deref(), captured["data"]["err"].as_str());

            let mut written = Vec::new();
            let original = read.data.in_format(HealthFormat::Original);
            let (id, source) = (&read.id, &read.source);
            write_envelope(&mut written, id, HEALTH_EVENT_TYPE, read.ts, source, &original).unwrap();
            let mut written = json(written);
            let message_id = written["data"]["message_id"].take();
            assert_eq!(message_id.as_str().unwrap().len(), 32);
            captured["data"]["message_id"].take();
            assert_same(&written, &captured);

            let back = json(serde_json::to_vec(&read.data).unwrap());
            assert_eq!(serde_json::from_value::<HealthStatus>(back).unwrap(), read.data);
        }
    }
    assert_eq!((beats, statuses), (4, 8));
}
