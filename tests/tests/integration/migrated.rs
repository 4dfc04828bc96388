//! One service, written by hand on rumqttc and on tars-mqtt: from outside they are the same. The
//! service is `examples/migrated/{before,after}.rs`.

use futures_util::future::join_all;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tars_mqtt::{Bytes, Client, Envelope, Error, QoS, State, TopicName};
use tars_testkit::mosquitto::Mosquitto;

use crate::support::child::{Child, service};
use crate::support::seen::Seen;
use crate::support::{PATIENCE, broker, connected, within};

const BEFORE: &str = env!("CARGO_BIN_EXE_memory-before");
const AFTER: &str = env!("CARGO_BIN_EXE_memory-after");

#[derive(Serialize, Deserialize)]
struct Text {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Reply {
    reply: String,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<String>,
}

fn start(program: &str, broker: &Mosquitto) -> Child {
    let mut command = service(program);
    command.env("MQTT_CLIENT_ID", "memory");
    if program == BEFORE {
        command.env("MQTT_BROKER_HOST", "127.0.0.1");
        command.env("MQTT_BROKER_PORT", broker.port().to_string());
    } else {
        command.env("MQTT_URL", broker.url());
        command.env("MQTT_ENABLE_HEALTH", "true");
        command.env("MQTT_ENABLE_HEARTBEAT", "true");
    }
    Child::start(command)
}

/// The rest of the fleet: a language model, and somebody who hears all that the service says.
struct Fleet {
    client: Client,
    said: Seen<(String, Value)>,
}

impl Fleet {
    async fn start(broker: &Mosquitto) -> Self {
        let client = connected(broker, "fleet").await;
        let shout = async |prompt: Envelope<Text>| {
            let reply = prompt.data.text.to_uppercase();
            Ok::<_, Error>(Reply { reply })
        };
        client
            .respond("llm/request", "llm/response", "llm.response", shout)
            .concurrency(4)
            .await
            .unwrap();
        let said = Seen::default();
        let noted = said.clone();
        let note = move |topic: TopicName, payload: Bytes| {
            if let Ok(message) = serde_json::from_slice::<Value>(&payload)
                && (message["source"] == "memory" || topic.as_str().ends_with("keepalive/memory"))
            {
                noted.push((topic.as_str().to_owned(), message));
            }
            async {}
        };
        client.subscribe("#", note).qos(QoS::AtLeastOnce).await.unwrap();
        Self { client, said }
    }

    /// What the service says on this topic, with these words in it: the fields in their order,
    /// without what differs each time.
    async fn hears(&self, topic: &str, words: &str) -> String {
        let is_it = |(on, message): &&(String, Value)| on == topic && message.to_string().contains(words);
        let all = self.said.until(|all| all.iter().any(|said| is_it(&said))).await;
        let (_, message) = all.iter().find(is_it).unwrap();
        let mut message = message.clone();
        for time in ["/ts", "/timestamp", "/data/timestamp"] {
            if let Some(time) = message.pointer_mut(time) {
                assert!(time.as_f64().is_some_and(|time| time > 1.7e9), "{words}: {time}");
                *time = json!("now");
            }
        }
        if message["id"].as_str().is_some_and(is_random) {
            message["id"] = json!("random");
        }
        format!("{topic}: {message}")
    }

    async fn query(&self, id: &str, word: &str) -> Vec<String> {
        let query = Text { text: word.to_owned() };
        let request = self.client.request::<Results>("memory/query", "memory.query", &query);
        let request = request.reply_on("memory/results").correlation_id(id).timeout(PATIENCE);
        request.await.unwrap().data.results
    }

    async fn summary(&self, id: &str) -> String {
        let query = Text { text: "tea".into() };
        let request = self
            .client
            .request::<Reply>("memory/summarise", "memory.summarise", &query);
        let request = request.reply_on("memory/summary").correlation_id(id).timeout(PATIENCE);
        request.await.unwrap().data.reply
    }
}

fn is_random(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// All that can be seen of it from outside.
async fn behaviour(program: &str) -> Vec<String> {
    let mut broker = broker().await;
    let fleet = Fleet::start(&broker).await;
    let client = &fleet.client;
    let mut seen = Vec::new();
    let health = "system/health/memory";

    let service = start(program, &broker);
    seen.push(fleet.hears(health, "connected").await);
    seen.push(fleet.hears(health, "ready").await);
    seen.push(fleet.hears("system/keepalive/memory", "heartbeat").await);

    // It remembers. How soon is not promised: it is asked until it does.
    let heard = Text {
        text: "tea at four".into(),
    };
    let publish = client.publish_event("stt/final", "stt.final", &heard);
    publish.qos(QoS::AtLeastOnce).await.unwrap();
    let asking = async { while fleet.query("probe", "tea").await.is_empty() {} };
    within("the memory of what was said", asking).await;
    assert_eq!(fleet.query("query \"1\"", "tea").await, ["tea at four"]);
    assert_eq!(fleet.query("query 2", "coffee").await, [""; 0]);
    seen.push(fleet.hears("memory/results", r#"query \"1\""#).await);
    seen.push(fleet.hears("memory/results", "query 2").await);

    // Bad input harms nobody.
    for topic in ["stt/final", "memory/query", "memory/summarise", "llm/response"] {
        for bad in [
            "",
            "no JSON",
            r#"{"id":"1","type":"t","ts":1,"source":"s","data":{"text":5}}"#,
        ] {
            client.publish(topic, bad).qos(QoS::AtLeastOnce).await.unwrap();
        }
    }

    // Requests in a request, many at a time.
    let ids: Vec<_> = (0..40).map(|n| format!("summary {n}")).collect();
    for reply in join_all(ids.iter().map(|id| fleet.summary(id))).await {
        assert_eq!(reply, "TEA AT FOUR");
    }
    seen.push(fleet.hears("llm/request", "tea at four").await);
    seen.push(fleet.hears("memory/summary", "summary 39").await);

    // The broker goes and comes back.
    broker.restart().await.unwrap();
    seen.push(fleet.hears(health, "reconnected").await);
    within("the fleet is back", client.state().until(State::Connected)).await;
    assert_eq!(fleet.query("query 3", "tea").await, ["tea at four"]);
    seen.push(fleet.hears("memory/results", "query 3").await);

    // Asked to stop, it says so; killed, its last will does.
    service.signal(Signal::TERM);
    seen.push(fleet.hears(health, "shutdown").await);
    let end = service.end().await;
    assert!(end.status.success(), "{end:?}");
    let service = start(program, &broker);
    fleet
        .said
        .until(|all| {
            let ready = all.iter().filter(|(_, said)| said["data"]["event"] == "ready");
            ready.count() == 2
        })
        .await;
    service.kill().await;
    seen.push(fleet.hears(health, "offline").await);
    seen
}

#[tokio::test]
async fn before_and_after_are_the_same_from_outside() {
    let before = behaviour(BEFORE).await;
    let after = behaviour(AFTER).await;
    assert_eq!(before, after);
    assert_eq!(before.len(), 11);
}

#[tokio::test]
async fn both_say_at_once_that_there_is_no_broker() {
    let mut broker = broker().await;
    broker.stop().await.unwrap();
    for program in [BEFORE, AFTER] {
        let end = start(program, &broker).end().await;
        assert!(!end.status.success() && end.errors.contains("refused"), "{end:?}");
    }
}
