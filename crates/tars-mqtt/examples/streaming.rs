//! An answer that comes piece by piece: the words of a language model, in order, to their end.
//!
//! ```sh
//! cargo run -p tars-mqtt --example streaming
//! ```

mod broker;

use std::time::Duration;

use broker::{Broker, Error, soon};
use serde::{Deserialize, Serialize};
use tars_mqtt::{Client, Context, Envelope};

#[derive(Serialize, Deserialize)]
struct Prompt {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Delta {
    delta: String,
}

/// Publishes `llm.stream.delta` with the request's id, `seq` and `done: false` in the data, and
/// at the end `llm.stream.done`. If it fails in between, the one who asked gets an error.
async fn complete(prompt: Envelope<Prompt>, context: Context) -> Result<(), tars_mqtt::Error> {
    let mut deltas = context.stream_reply("llm/stream", "llm.stream")?;
    for word in prompt.data.text.split_inclusive(' ').rev() {
        deltas.send(&Delta { delta: word.to_owned() }).await?;
        tokio::time::sleep(Duration::from_millis(30)).await; // thinking
    }
    deltas.finish().await
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let broker = Broker::find().await?;
    let llm = Client::new(broker.config("llm").build()?)?;
    llm.connect().await?;
    llm.subscribe("llm/request", complete).concurrency(8).await?;

    let screen = Client::new(broker.config("screen").build()?)?;
    screen.connect().await?;
    let prompt = Prompt {
        text: "backwards comes this as well as ".to_owned(),
    };
    let request = screen.request_stream::<Delta>("llm/request", "llm.request", &prompt);
    let mut deltas = request
        .reply_on("llm/stream")
        .idle_timeout(Duration::from_secs(5))
        .await?;
    let mut answer = String::new();
    while let Some(item) = soon(deltas.next()).await? {
        let delta = item?.data.delta;
        print!("{delta}");
        answer.push_str(&delta);
    }
    println!();

    screen.shutdown().await;
    llm.shutdown().await;
    if answer == "as well as this comes backwards " {
        Ok(())
    } else {
        Err("a wrong answer".into())
    }
}
