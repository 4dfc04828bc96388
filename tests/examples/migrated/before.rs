//! The memory worker, written by hand on rumqttc. It remembers what is said (`stt/final`), finds
//! it again (`memory/query` → `memory/results`), and lets the language model make one sentence of
//! it (`memory/summarise` → `memory/summary`, with `llm/request` → `llm/response` in between).

mod memory;

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memory::Memory;
use rumqttc::{AsyncClient, ClientError, Event, LastWill, MqttOptions, Outgoing, Packet, Publish, QoS};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    ts: f64,
    source: String,
    data: T,
}

#[derive(Deserialize)]
struct FinalTranscript {
    text: String,
}

#[derive(Deserialize)]
struct Query {
    text: String,
}

#[derive(Serialize)]
struct Results {
    results: Vec<String>,
}

#[derive(Serialize)]
struct Prompt {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Reply {
    reply: String,
}

struct Service {
    mqtt: AsyncClient,
    client_id: String,
    memory: Memory,
    /// Who waits for a reply, by the id of the request.
    waiting: Mutex<HashMap<String, oneshot::Sender<Reply>>>,
    summaries: Semaphore,
}

impl Service {
    fn new(mqtt: AsyncClient, client_id: String) -> Self {
        Self {
            mqtt,
            client_id,
            memory: Memory::default(),
            waiting: Mutex::default(),
            summaries: Semaphore::new(16),
        }
    }

    async fn publish<T: Serialize>(
        &self,
        topic: &str,
        event_type: &str,
        data: T,
        id: Option<String>,
        retain: bool,
    ) -> Result<(), ClientError> {
        let payload = envelope(event_type, &self.client_id, data, id);
        self.mqtt.publish(topic, QoS::AtLeastOnce, retain, payload).await
    }

    async fn publish_health(&self, ok: bool, event: &str) -> Result<(), ClientError> {
        let topic = format!("system/health/{}", self.client_id);
        let status = json!({"ok": ok, "event": event, "timestamp": now()});
        self.publish(&topic, "health.status", status, None, true).await
    }

    /// After each connect: the broker has forgotten the session.
    async fn begin(&self, first: bool) -> Result<(), ClientError> {
        for topic in ["stt/final", "memory/query", "memory/summarise"] {
            self.mqtt.subscribe(topic, QoS::AtLeastOnce).await?;
        }
        self.mqtt.subscribe("llm/response", QoS::AtMostOnce).await?;
        if first {
            self.publish_health(true, "connected").await?;
            self.publish_health(true, "ready").await
        } else {
            self.publish_health(true, "reconnected").await
        }
    }

    async fn handle(&self, message: Publish) {
        let result = match message.topic.as_str() {
            "stt/final" => self.remember(&message.payload),
            "memory/query" => self.find(&message.payload).await,
            "memory/summarise" => self.summarise(&message.payload).await,
            "llm/response" => self.answered(&message.payload),
            _ => Ok(()),
        };
        if let Err(error) = result {
            eprintln!("a message on {} failed: {error}", message.topic);
        }
    }

    fn remember(&self, payload: &[u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let heard: Envelope<FinalTranscript> = parse(payload)?;
        self.memory.remember(heard.data.text);
        Ok(())
    }

    async fn find(&self, payload: &[u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let query: Envelope<Query> = parse(payload)?;
        let results = self.memory.find(&query.data.text);
        let results = Results { results };
        self.publish("memory/results", "memory.results", results, Some(query.id), false)
            .await?;
        Ok(())
    }

    async fn summarise(&self, payload: &[u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let query: Envelope<Query> = parse(payload)?;
        let _permit = self.summaries.acquire().await?;
        let text = self.memory.find(&query.data.text).join("\n");
        let summary = match self.ask(Prompt { text }).await {
            Ok(reply) => {
                self.publish("memory/summary", "memory.summary", reply, Some(query.id), false)
                    .await
            }
            Err(error) => {
                let data = json!({"error": error.to_string(), "kind": "error"});
                self.publish("memory/summary", "memory.summary.error", data, Some(query.id), false)
                    .await
            }
        };
        Ok(summary?)
    }

    /// A request to the language model, and its reply.
    async fn ask(&self, prompt: Prompt) -> Result<Reply, Box<dyn Error + Send + Sync>> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (sender, receiver) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone(), sender);
        let asked = async {
            self.publish("llm/request", "llm.request", prompt, Some(id.clone()), false)
                .await?;
            timeout(Duration::from_secs(10), receiver)
                .await
                .map_err(|_| "no reply came within 10 s")?
                .map_err(|_| "no reply will come".into())
        };
        let reply = asked.await;
        // Whatever came of it, nothing of it stays.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        reply
    }

    fn answered(&self, payload: &[u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let reply: Envelope<Reply> = parse(payload)?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.remove(&reply.id) {
            let _ = sender.send(reply.data);
        }
        Ok(())
    }
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

fn envelope<T: Serialize>(event_type: &str, source: &str, data: T, id: Option<String>) -> Vec<u8> {
    let envelope = Envelope {
        id: id.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string()),
        event_type: event_type.to_owned(),
        ts: now(),
        source: source.to_owned(),
        data,
    };
    serde_json::to_vec(&envelope).expect("what is sent here can be written as JSON")
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<Envelope<T>, serde_json::Error> {
    serde_json::from_slice(payload)
}

/// Beats until it is aborted.
async fn beat(service: Arc<Service>, interval: Duration) {
    let topic = format!("system/keepalive/{}", service.client_id);
    loop {
        let beat = json!({"ok": true, "event": "heartbeat", "timestamp": now()}).to_string();
        if let Err(error) = service.mqtt.try_publish(&topic, QoS::AtMostOnce, false, beat) {
            eprintln!("a heartbeat failed: {error}");
        }
        sleep(interval).await;
    }
}

fn options(client_id: &str) -> Result<MqttOptions, Box<dyn Error>> {
    let host = std::env::var("MQTT_BROKER_HOST").unwrap_or_else(|_| "localhost".to_owned());
    let port = std::env::var("MQTT_BROKER_PORT").map_or(Ok(1883), |port| port.parse())?;
    let mut options = MqttOptions::new(client_id, host, port);
    options.set_keep_alive(Duration::from_secs(60));
    options.set_max_packet_size(16 << 20, 16 << 20);
    let status = json!({"ok": false, "event": "offline", "error": "connection lost", "timestamp": now()});
    let will = envelope("health.status", client_id, status, None);
    let topic = format!("system/health/{client_id}");
    options.set_last_will(LastWill::new(topic, will, QoS::AtLeastOnce, true));
    Ok(options)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client_id = std::env::var("MQTT_CLIENT_ID")?;
    let (mqtt, mut events) = AsyncClient::new(options(&client_id)?, 64);
    let service = Arc::new(Service::new(mqtt, client_id));
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let heartbeat = tokio::spawn(beat(service.clone(), Duration::from_secs(30)));

    let (mut connected_before, mut delay) = (false, Duration::from_millis(500));
    loop {
        let event = tokio::select! {
            event = events.poll() => event,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let (service, first) = (service.clone(), !connected_before);
                connected_before = true;
                delay = Duration::from_millis(500);
                // Not here: this loop must go on, or the requests to it stand still.
                tokio::spawn(async move {
                    if let Err(error) = service.begin(first).await {
                        eprintln!("cannot subscribe: {error}");
                    }
                });
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                let service = service.clone();
                tokio::spawn(async move { service.handle(message).await });
            }
            Ok(_) => {}
            Err(error) if !connected_before => return Err(error.into()),
            Err(error) => {
                eprintln!("the connection is lost: {error}");
                sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(5));
            }
        }
    }

    // Poll on until the last word and DISCONNECT are written.
    heartbeat.abort();
    let service = service.clone();
    tokio::spawn(async move {
        if service.publish_health(false, "shutdown").await.is_ok() {
            let _ = service.mqtt.disconnect().await;
        }
    });
    let ending = async {
        loop {
            match events.poll().await {
                Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    let _ = timeout(Duration::from_secs(5), ending).await;
    Ok(())
}
