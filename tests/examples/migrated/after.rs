//! The memory worker on tars-mqtt. It remembers what is said (`stt/final`), finds it again
//! (`memory/query` → `memory/results`), and lets the language model make one sentence of it
//! (`memory/summarise` → `memory/summary`, with `llm/request` → `llm/response` in between).

mod memory;

use std::time::Duration;

use memory::Memory;
use serde::{Deserialize, Serialize};
use tars_mqtt::{Client, Config, Context, Envelope, Error, Event};

#[derive(Deserialize, Event)]
#[event(type = "stt.final", topic = "stt/final", qos = 1)]
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

async fn serve(client: Client) -> Result<(), Error> {
    let memory = Memory::default();

    let memories = memory.clone();
    let remember = move |heard: FinalTranscript| {
        memories.remember(heard.text);
        async {}
    };
    client.on(remember).await?;

    let memories = memory.clone();
    let find = move |query: Envelope<Query>| {
        let results = memories.find(&query.data.text);
        async { Ok::<_, Error>(Results { results }) }
    };
    client
        .respond("memory/query", "memory/results", "memory.results", find)
        .await?;

    let summarise = move |query: Envelope<Query>, context: Context| {
        let text = memory.find(&query.data.text).join("\n");
        async move {
            let request = context.request::<Reply>("llm/request", "llm.request", &Prompt { text });
            let reply = request
                .reply_on("llm/response")
                .timeout(Duration::from_secs(10))
                .await?;
            Ok::<_, Error>(reply.data)
        }
    };
    let summaries = client.respond("memory/summarise", "memory/summary", "memory.summary", summarise);
    summaries.concurrency(16).await?;

    client.publish_health(true).event("ready").await?;
    client.until_signal().await
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    Client::run(Config::from_env()?, serve).await
}
