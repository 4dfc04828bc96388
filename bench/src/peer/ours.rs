//! The facade, as a service uses it: `publish_event` and typed handlers, with its defaults.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tars_mqtt::{Adapter, Client, Config, Envelope, ErrorKind, LifecycleEvent, QoS, State};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{Job, Pace, Peer, Report, Side, Talk, Tally};
use crate::clock;
use crate::event::{EVENT_TYPE, Transcript};

/// Receipts that a pipelining publisher keeps before it looks at the oldest.
const RECEIPTS: usize = 1000;

pub(super) async fn run(job: &Job) -> Result<()> {
    let mut config = Config::builder()
        .url(format!("mqtt://127.0.0.1:{}", job.port))
        .client_id(job.client_id())
        .source_name("bench");
    match job.peer {
        Peer::OursPaho => config = config.adapter(Adapter::Paho),
        Peer::OursDedupe => config = config.dedupe_ttl(Duration::from_secs(300)),
        _ => {}
    }
    let client = Client::new(config.build()?)?;
    client.connect().await?;
    let mut talk = Talk::default();
    let report = match job.side {
        Side::Publish => publish(job, &client, &mut talk).await?,
        Side::Subscribe => subscribe(job, &client, &mut talk).await?,
        Side::Request => request(job, &client, &mut talk).await?,
        Side::Respond => respond(job, &client, &mut talk).await?,
        Side::Idle => idle(job, &client, &mut talk).await?,
        Side::Offline => offline(job, &client, &mut talk).await?,
        Side::Reconnect => reconnect(job, &client, &mut talk).await?,
    };
    talk.end().await?;
    talk.report(report)?;
    client.shutdown().await;
    Ok(())
}

async fn publish(job: &Job, client: &Client, talk: &mut Talk) -> Result<Report> {
    talk.ready().await?;
    let (first, next) = (clock::now(), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..job.tasks {
        tasks.spawn(publish_some(job.clone(), client.clone(), next.clone()));
    }
    let (mut count, mut resident_on_the_way) = (0, Vec::new());
    while let Some(published) = tasks.join_next().await {
        let (some, resident) = published??;
        count += some;
        resident_on_the_way.extend(resident);
    }
    let last = clock::now();
    talk.done()?;
    Ok(Report {
        count,
        first,
        last,
        resident_on_the_way,
        ..Report::default()
    })
}

/// Takes numbers as long as there are any. How many were confirmed, and memory after each tenth.
async fn publish_some(job: Job, client: Client, next: Arc<AtomicU64>) -> Result<(u64, Vec<u64>)> {
    let mut transcript = Transcript::of_size(job.size);
    let (mut count, mut receipts) = (0, VecDeque::new());
    let (tenth, mut resident) = ((job.messages / 10).max(1), Vec::new());
    loop {
        transcript.n = next.fetch_add(1, Ordering::Relaxed);
        if transcript.n >= job.messages {
            break;
        }
        let publish = client
            .publish_event(job.topic.as_str(), EVENT_TYPE, &transcript)
            .qos(job.qos());
        if job.qos == 0 || job.pace == Pace::Awaited {
            publish.await?;
            count += 1;
        } else {
            receipts.push_back(publish.accepted().await?);
            if receipts.len() == RECEIPTS
                && let Some(oldest) = receipts.pop_front()
            {
                oldest.await?;
                count += 1;
            }
        }
        if transcript.n % tenth == tenth - 1 {
            resident.push(clock::resident());
        }
    }
    for receipt in receipts {
        receipt.await?;
        count += 1;
    }
    Ok((count, resident))
}

async fn subscribe(job: &Job, client: &Client, talk: &mut Talk) -> Result<Report> {
    let (told, done) = oneshot::channel();
    let state = Arc::new(Mutex::new((Tally::default(), Some(told))));
    let resident = Arc::new(Mutex::new(Vec::new()));
    let (messages, tenth, tenths) = (job.messages, (job.messages / 10).max(1), resident.clone());
    let subscribe = client.subscribe(&job.topic, move |envelope: Envelope<Transcript>| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.count % tenth == tenth - 1 {
            tenths
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(clock::resident());
        }
        if state.0.add(envelope.data.n, messages)
            && let Some(told) = state.1.take()
        {
            let _ = told.send((clock::now(), state.0.count, state.0.sum));
        }
        async {}
    });
    subscribe.qos(job.qos()).await?;
    talk.ready().await?;
    let (last, count, sum) = done.await.context("the subscription ended")?;
    talk.done()?;
    Ok(Report {
        count,
        sum: Some(sum),
        last,
        resident_on_the_way: std::mem::take(&mut *resident.lock().unwrap_or_else(PoisonError::into_inner)),
        ..Report::default()
    })
}

async fn request(job: &Job, client: &Client, talk: &mut Talk) -> Result<Report> {
    let (mut transcript, reply_topic) = (Transcript::of_size(job.size), job.reply_topic());
    talk.ready().await?;
    let mut report = Report::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(job.rate)?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0..job.messages {
        ticks.tick().await;
        transcript.n = n;
        let begin = clock::now();
        let reply = client
            .request::<Transcript>(job.topic.as_str(), EVENT_TYPE, &transcript)
            .reply_on(&reply_topic)
            .await?;
        report.latencies.push(clock::now() - begin);
        report.count += u64::from(reply.data.n == n);
    }
    talk.done()?;
    Ok(report)
}

async fn respond(job: &Job, client: &Client, talk: &mut Talk) -> Result<Report> {
    async fn echo(request: Envelope<Transcript>) -> Result<Transcript, tars_mqtt::Error> {
        Ok(request.data)
    }
    client.respond(&job.topic, job.reply_topic(), EVENT_TYPE, echo).await?;
    talk.ready().await?;
    talk.done()?;
    Ok(Report::default())
}

async fn idle(job: &Job, client: &Client, talk: &mut Talk) -> Result<Report> {
    for number in 0..job.messages {
        let filter = format!("{}/{number}", job.topic);
        client.subscribe(filter, async |_: Envelope| {}).await?;
    }
    talk.ready().await?;
    talk.done()?;
    Ok(Report::default())
}

async fn offline(job: &Job, client: &Client, talk: &mut Talk) -> Result<Report> {
    let transcript = Transcript::of_size(job.size);
    let mut state = client.state();
    talk.ready().await?;
    state.until(State::Reconnecting).await;
    // Up to the bound they are kept; what comes then is refused.
    let mut kept = Vec::new();
    for _ in 0..client.config().outbox_messages {
        let publish = client.publish_event(job.topic.as_str(), EVENT_TYPE, &transcript);
        kept.push(publish.qos(QoS::AtLeastOnce).accepted().await?);
    }
    let mut report = Report {
        resident_on_the_way: vec![clock::resident()],
        ..Report::default()
    };
    let mut refused = 0;
    for _ in 0..job.messages {
        let publish = client.publish_event(job.topic.as_str(), EVENT_TYPE, &transcript);
        match publish.qos(QoS::AtLeastOnce).fail_fast().await {
            Err(error) if matches!(error.kind(), ErrorKind::NotConnected | ErrorKind::Full) => refused += 1,
            Err(error) => return Err(error.into()),
            Ok(_) => report.count += 1,
        }
    }
    report.sum = Some(refused);
    report.resident_on_the_way.push(clock::resident());
    drop(kept);
    talk.done()?;
    Ok(report)
}

async fn reconnect(job: &Job, client: &Client, talk: &mut Talk) -> Result<Report> {
    let last_topic = format!("{}/{}", job.topic, job.messages - 1);
    client
        .publish_event(last_topic.as_str(), EVENT_TYPE, &Transcript::of_size(job.size))
        .qos(QoS::AtLeastOnce)
        .retain(true)
        .await?;
    let (told, mut handled) = mpsc::channel(16);
    for number in 0..job.messages {
        let told = told.clone();
        let handler = move |_: Envelope<Transcript>| {
            let _ = told.try_send(clock::now());
            async {}
        };
        client.subscribe(format!("{}/{number}", job.topic), handler).await?;
    }
    handled.recv().await.context("the retained message did not come")?;
    let mut events = client.lifecycle();
    talk.ready().await?;
    let (mut begin, mut restored) = (0, 0);
    while restored < job.messages {
        match events.next().await.context("the client ended")? {
            LifecycleEvent::ReconnectScheduled { delay, .. } => {
                begin = clock::now() + u64::try_from(delay.as_nanos())?;
            }
            LifecycleEvent::SubscriptionsRestored { filters } => restored += filters.len() as u64,
            LifecycleEvent::SubscriptionRefused { filter } => bail!("{filter} was refused"),
            _ => {}
        }
    }
    let last = clock::now().max(handled.recv().await.context("the client ended")?);
    talk.done()?;
    Ok(Report {
        count: restored,
        latencies: vec![last.saturating_sub(begin)],
        ..Report::default()
    })
}
