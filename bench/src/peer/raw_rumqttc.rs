//! The loop a careful person writes by hand: rumqttc, serde_json, `tcp_nodelay`, the same window.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, NetworkOptions, Outgoing, Publish, QoS};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::{Job, Pace, Report, Side, Talk, Tally};
use crate::clock;
use crate::event::{Plain, Transcript};

pub(super) async fn run(job: &Job) -> Result<()> {
    match job.side {
        Side::Publish => publish(job).await,
        Side::Subscribe => subscribe(job).await,
        Side::Request => request(job).await,
        Side::Respond => respond(job).await,
        side => bail!("raw rumqttc has no side {side:?}"),
    }
}

pub(super) fn qos(job: &Job) -> QoS {
    if job.qos == 0 {
        QoS::AtMostOnce
    } else {
        QoS::AtLeastOnce
    }
}

/// Connected, and subscribed where there is a filter.
async fn connect(job: &Job, filter: Option<(&str, QoS)>) -> Result<(AsyncClient, EventLoop)> {
    let mut options = MqttOptions::new(job.client_id(), "127.0.0.1", job.port);
    options.set_inflight(job.window).set_max_packet_size(16 << 20, 16 << 20);
    let (client, mut events) = AsyncClient::new(options, usize::from(job.window));
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    while !matches!(events.poll().await?, Event::Incoming(Incoming::ConnAck(_))) {}
    if let Some((filter, qos)) = filter {
        client.subscribe(filter, qos).await?;
        while !matches!(events.poll().await?, Event::Incoming(Incoming::SubAck(_))) {}
    }
    Ok((client, events))
}

async fn publish(job: &Job) -> Result<()> {
    let (client, mut events) = connect(job, None).await?;
    let (settled, mut settlements) = mpsc::channel(usize::from(job.window));
    let (messages, qos, awaited) = (job.messages, qos(job), job.qos > 0 && job.pace == Pace::Awaited);
    let polling = tokio::spawn(async move {
        let mut count = 0;
        loop {
            let done = match events.poll().await? {
                Event::Outgoing(Outgoing::Publish(_)) => qos == QoS::AtMostOnce,
                Event::Incoming(Incoming::PubAck(_)) => true,
                _ => false,
            };
            if done {
                count += 1;
                // Only who awaits each one is told of each one.
                if awaited || count == messages {
                    settled.send(count).await?;
                }
            }
        }
        #[allow(unreachable_code, reason = "the type of the errors")]
        Ok::<(), anyhow::Error>(())
    });
    let mut transcript = Transcript::of_size(job.size);
    let mut talk = Talk::default();
    talk.ready().await?;
    let mut report = Report {
        first: clock::now(),
        ..Report::default()
    };
    for n in 0..messages {
        transcript.n = n;
        let payload = serde_json::to_vec(&Plain::new("bench", &transcript))?;
        client.publish(job.topic.as_str(), qos, false, payload).await?;
        if awaited {
            report.count = settlements.recv().await.context("the connection ended")?;
        }
    }
    while report.count < messages {
        report.count = settlements.recv().await.context("the connection ended")?;
    }
    report.last = clock::now();
    talk.done()?;
    talk.end().await?;
    polling.abort();
    talk.report(report)
}

async fn subscribe(job: &Job) -> Result<()> {
    let (_client, mut events) = connect(job, Some((&job.topic, qos(job)))).await?;
    let mut talk = Talk::default();
    talk.ready().await?;
    let messages = job.messages;
    let (told, done) = oneshot::channel();
    let polling = tokio::spawn(async move {
        let (mut tally, mut told) = (Tally::default(), Some(told));
        loop {
            if let Event::Incoming(Incoming::Publish(publish)) = events.poll().await? {
                let envelope = read(&publish)?;
                if tally.add(envelope.data.n, messages)
                    && let Some(told) = told.take()
                {
                    let _ = told.send((clock::now(), tally.count, tally.sum));
                }
            }
        }
        #[allow(unreachable_code, reason = "the type of the errors")]
        Ok::<(), anyhow::Error>(())
    });
    let (last, count, sum) = done.await.context("the connection ended")?;
    talk.done()?;
    talk.end().await?;
    polling.abort();
    talk.report(Report {
        count,
        sum: Some(sum),
        last,
        ..Report::default()
    })
}

fn read(publish: &Publish) -> Result<Plain<Transcript>> {
    Ok(serde_json::from_slice(&publish.payload)?)
}

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Plain<Transcript>>>>>;

async fn request(job: &Job) -> Result<()> {
    let reply_topic = job.reply_topic();
    let (client, mut events) = connect(job, Some((&reply_topic, QoS::AtMostOnce))).await?;
    let waiting = Waiting::default();
    let replies = waiting.clone();
    let polling = tokio::spawn(async move {
        loop {
            if let Event::Incoming(Incoming::Publish(publish)) = events.poll().await? {
                let reply = read(&publish)?;
                let waiter = replies.lock().unwrap_or_else(PoisonError::into_inner).remove(&reply.id);
                if let Some(waiter) = waiter {
                    let _ = waiter.send(reply);
                }
            }
        }
        #[allow(unreachable_code, reason = "the type of the errors")]
        Ok::<(), anyhow::Error>(())
    });
    let mut transcript = Transcript::of_size(job.size);
    let mut talk = Talk::default();
    talk.ready().await?;
    let mut report = Report::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(job.rate)?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0..job.messages {
        ticks.tick().await;
        transcript.n = n;
        let begin = clock::now();
        let envelope = Plain::new("bench", &transcript);
        let (waiter, reply) = oneshot::channel();
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(envelope.id.clone(), waiter);
        let payload = serde_json::to_vec(&envelope)?;
        client
            .publish(job.topic.as_str(), QoS::AtLeastOnce, false, payload)
            .await?;
        let reply = reply.await.context("the connection ended")?;
        report.latencies.push(clock::now() - begin);
        report.count += u64::from(reply.data.n == n);
    }
    talk.done()?;
    talk.end().await?;
    polling.abort();
    talk.report(report)
}

async fn respond(job: &Job) -> Result<()> {
    let (client, mut events) = connect(job, Some((&job.topic, QoS::AtLeastOnce))).await?;
    let mut talk = Talk::default();
    talk.ready().await?;
    talk.done()?;
    let reply_topic = job.reply_topic();
    let polling = tokio::spawn(async move {
        loop {
            if let Event::Incoming(Incoming::Publish(publish)) = events.poll().await? {
                let request = read(&publish)?;
                let reply = Plain {
                    id: request.id,
                    ..Plain::new("bench", &request.data)
                };
                // Awaited here, in the task that polls, it could wait for itself.
                let payload = serde_json::to_vec(&reply)?;
                client.try_publish(reply_topic.as_str(), QoS::AtLeastOnce, false, payload)?;
            }
        }
        #[allow(unreachable_code, reason = "the type of the errors")]
        Ok::<(), anyhow::Error>(())
    });
    talk.end().await?;
    polling.abort();
    talk.report(Report::default())
}
