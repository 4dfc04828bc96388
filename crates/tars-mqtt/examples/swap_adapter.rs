//! One service, run on each MQTT library that is compiled in: the same output.
//!
//! ```sh
//! cargo run --example swap_adapter                    # rumqttc
//! cargo run --example swap_adapter --features paho    # both; needs cmake and a C compiler
//! ```
//!
//! A service chooses with `MQTT_ADAPTER=rumqttc|paho`; no line of it changes.

mod broker;

use broker::{Broker, Error, soon};
use serde::Deserialize;
use serde_json::json;
use tars_mqtt::{Adapter, Client, Context, Envelope, QoS};
use tokio::sync::mpsc;

#[derive(Deserialize)]
struct Question {
    text: String,
}

#[derive(Deserialize)]
struct Answer {
    length: usize,
}

/// The service: it knows nothing of adapters.
async fn service(client: &Client) -> Result<Vec<String>, Error> {
    let answer = async |question: Envelope<Question>, context: Context| {
        let length = question.data.text.chars().count();
        context
            .reply("count/answer", "count.answer", &json!({ "length": length }))
            .await
            .map(|_| ())
    };
    client.subscribe("count/ask", answer).qos(QoS::AtLeastOnce).await?;
    let (answers, mut inbox) = mpsc::channel(8);
    let collect = move |answer: Envelope<Answer>| {
        let answers = answers.clone();
        async move { answers.send((answer.id, answer.data.length)).await }
    };
    client.subscribe("count/answer", collect).qos(QoS::AtLeastOnce).await?;

    let mut lines = Vec::new();
    for text in ["cargo", "Endurance", "日本語"] {
        let ask = client.publish_event("count/ask", "count.ask", &json!({ "text": text }));
        let id = ask.correlation_id(format!("ask-{text}")).qos(QoS::ExactlyOnce).await?;
        let answer = soon(inbox.recv()).await?;
        let (answered, length) = answer.ok_or("no answer")?;
        lines.push(format!(
            "{text:?} has {length} characters (asked {id}, answered {answered})"
        ));
    }
    Ok(lines)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let broker = Broker::find().await?;
    let mut outputs = Vec::new();
    for adapter in [Adapter::Rumqttc, Adapter::Paho] {
        if !adapter.is_compiled_in() {
            println!("{}: not compiled in (turn on the feature of its name)", adapter.name());
            continue;
        }
        let config = broker.config("swap").adapter(adapter).build()?;
        let output = Client::run(config, async |client: Client| service(&client).await).await?;
        println!("{}:", adapter.name());
        output.iter().for_each(|line| println!("  {line}"));
        outputs.push(output);
    }
    let same = outputs.windows(2).all(|pair| pair[0] == pair[1]);
    println!(
        "swap_adapter: {}",
        if same {
            "ok: the same output"
        } else {
            "failed: the outputs differ"
        }
    );
    if same { Ok(()) } else { Err("the outputs differ".into()) }
}
