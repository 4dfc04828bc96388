//! A service that answers, and one that asks: typed, in parallel, with errors in words.
//!
//! ```sh
//! cargo run -p tars-mqtt --example request_response
//! ```

mod broker;

use std::time::Duration;

use broker::{Broker, Error};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tars_mqtt::{Client, Envelope, ErrorKind, ErrorReply};

#[derive(Serialize, Deserialize)]
struct Query {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Found {
    results: Vec<String>,
}

/// What it returns is the reply; an error is one too.
async fn search(query: Envelope<Query>) -> Result<Found, ErrorReply> {
    match query.data.text.as_str() {
        "" => Err(ErrorReply::new("empty", "what are you looking for?")),
        text => Ok(Found {
            results: vec![format!("all about {text}")],
        }),
    }
}

async fn ask(client: &Client, text: &str) -> Result<Found, tars_mqtt::Error> {
    let query = Query { text: text.to_owned() };
    let request = client
        .request::<Found>("memory/query", "memory.query", &query)
        .reply_on("memory/results");
    Ok(request.timeout(Duration::from_secs(10)).await?.data)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let broker = Broker::find().await?;
    let memory = Client::new(broker.config("memory").build()?)?;
    memory.connect().await?;
    memory
        .respond("memory/query", "memory/results", "memory.results", search)
        .await?;

    let llm = Client::new(broker.config("llm").build()?)?;
    llm.connect().await?;
    println!("{:?}", ask(&llm, "tea").await?.results);

    // Any number in flight, each with its own reply.
    let texts: Vec<String> = (0..100).map(|number| format!("number {number}")).collect();
    let all = try_join_all(texts.iter().map(|text| ask(&llm, text))).await?;
    let right = all
        .iter()
        .zip(&texts)
        .all(|(found, text)| found.results[0].ends_with(text.as_str()));

    let error = ask(&llm, "").await.err().ok_or("an empty query was answered")?;
    let reply = ErrorReply::of(&error).ok_or("not an error reply")?;
    println!("{}: {}", reply.kind, reply.error);

    let unheard = llm.request::<Found>("memory/nobody", "memory.query", &Query { text: String::new() });
    let unheard = unheard
        .reply_on("memory/results")
        .timeout(Duration::from_millis(200))
        .await;
    println!("{}", unheard.as_ref().err().ok_or("nobody answered")?);

    llm.shutdown().await;
    memory.shutdown().await;
    let late = unheard.is_err_and(|error| error.kind() == ErrorKind::Timeout);
    if right && late && llm.stats().requests == 0 {
        Ok(())
    } else {
        Err("a wrong answer".into())
    }
}
