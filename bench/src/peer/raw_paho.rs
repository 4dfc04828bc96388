//! The same loop on paho-mqtt.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, bail};
use paho_mqtt::{AsyncClient, ConnectOptionsBuilder, CreateOptionsBuilder, Message};

use super::{Job, Pace, Report, Side, Talk, Tally};
use crate::clock;
use crate::event::{Plain, Transcript};

pub(super) async fn run(job: &Job) -> Result<()> {
    match job.side {
        Side::Publish => publish(job).await,
        Side::Subscribe => subscribe(job).await,
        side => bail!("raw paho has no side {side:?}"),
    }
}

fn client(job: &Job) -> Result<AsyncClient> {
    let options = CreateOptionsBuilder::new_v3()
        .server_uri(format!("tcp://127.0.0.1:{}", job.port))
        .client_id(job.client_id())
        .persistence(paho_mqtt::PersistenceType::None)
        .finalize();
    Ok(AsyncClient::new(options)?)
}

async fn connect(client: &AsyncClient, job: &Job) -> Result<()> {
    let options = ConnectOptionsBuilder::new_v3()
        .clean_session(true)
        .max_inflight(i32::from(job.window))
        .finalize();
    client.connect(options).await?;
    Ok(())
}

async fn publish(job: &Job) -> Result<()> {
    let client = client(job)?;
    connect(&client, job).await?;
    let window = if job.pace == Pace::Awaited {
        1
    } else {
        usize::from(job.window)
    };
    let mut transcript = Transcript::of_size(job.size);
    let mut talk = Talk::default();
    talk.ready().await?;
    let mut report = Report {
        first: clock::now(),
        ..Report::default()
    };
    let mut tokens = VecDeque::with_capacity(window);
    for n in 0..job.messages {
        transcript.n = n;
        let payload = serde_json::to_vec(&Plain::new("bench", &transcript))?;
        let message = Message::new(job.topic.as_str(), payload, i32::from(job.qos));
        tokens.push_back(client.publish(message));
        if tokens.len() == window
            && let Some(token) = tokens.pop_front()
        {
            token.await?;
            report.count += 1;
        }
    }
    for token in tokens {
        token.await?;
        report.count += 1;
    }
    report.last = clock::now();
    talk.done()?;
    talk.end().await?;
    talk.report(report)
}

async fn subscribe(job: &Job) -> Result<()> {
    let mut client = client(job)?;
    let messages = client.get_stream(None);
    connect(&client, job).await?;
    client.subscribe(job.topic.as_str(), i32::from(job.qos)).await?;
    let mut talk = Talk::default();
    talk.ready().await?;
    let mut tally = Tally::default();
    while tally.count < job.messages {
        let message = messages.recv().await?.context("the connection ended")?;
        let envelope: Plain<Transcript> = serde_json::from_slice(message.payload())?;
        tally.add(envelope.data.n, job.messages);
    }
    let last = clock::now();
    talk.done()?;
    talk.end().await?;
    talk.report(Report {
        count: tally.count,
        sum: Some(tally.sum),
        last,
        ..Report::default()
    })
}
