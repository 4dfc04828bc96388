//! Two services and a broker that goes away and comes back: the whole of tars-mqtt
//! in under a minute. Run it with `cargo xtask demo`.
//!
//! Without `MQTT_URL` it brings its own broker, on a free port of this machine; with
//! it, that broker is used, and the part in which the broker stops is left out.

mod brain;
mod captured;
mod timeline;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tars_mqtt::{Client, Config, Data, Envelope, HealthStatus, InboundMessage, LifecycleEvent, QoS, State};
use tars_testkit::embedded::EmbeddedBroker;
use tokio::sync::mpsc;

use crate::brain::Ledger;
use crate::captured::Captured;
use crate::timeline::{Timeline, Who};

const CHAPTERS: usize = 6;
/// Events the brain publishes while there is no broker.
const NOTES: usize = 5;

#[tokio::main]
async fn main() -> ExitCode {
    let timeline = Timeline::start();
    match run(&timeline).await {
        Ok(summary) => {
            let ok = summary.handled == summary.published;
            timeline.last(
                ok,
                format_args!("demo: {}: {summary}", if ok { "ok" } else { "failed" }),
            );
            if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            timeline.last(false, format_args!("demo: failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

struct Summary {
    published: usize,
    handled: usize,
    reconnected: Option<Duration>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lost = self.published.saturating_sub(self.handled);
        write!(f, "published {}, handled {}, lost {lost}", self.published, self.handled)?;
        match self.reconnected {
            Some(time) => write!(f, ", reconnected in {} ms", time.as_millis()),
            None => Ok(()),
        }
    }
}

async fn run(timeline: &Timeline) -> Result<Summary> {
    timeline.chapter(1, CHAPTERS, "a broker, and two services that connect to it");
    let own = match std::env::var("MQTT_URL") {
        Ok(_) => None,
        Err(_) => Some(
            EmbeddedBroker::start()
                .await
                .context("the embedded broker did not start")?,
        ),
    };
    let url = own.as_ref().map(EmbeddedBroker::url);
    match &url {
        Some(url) => timeline.say(
            Who::Broker,
            format_args!("listens on {url} (connect to it with any MQTT client)"),
        ),
        None => timeline.say(Who::Broker, "is the one that MQTT_URL names"),
    }
    let brain = service("tars-demo-brain", url.as_deref())?;
    let ears = service("tars-demo-ears", url.as_deref())?;
    narrate(&brain, Who::Brain, timeline);
    narrate(&ears, Who::Ears, timeline);
    brain.connect().await?;
    ears.connect().await?;
    let ledger = Ledger::new();
    brain::listen(&brain, &ledger, timeline).await?;
    watch_the_fleet(&ears, timeline).await?;
    brain.publish_health(true).event("ready").await?;

    let events = captured::all()?;
    let (valid, invalid): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| event.name != "empty_event_type");
    let (before, after) = valid.split_at(valid.len() / 2);
    let mut expected = BTreeSet::new();

    timeline.chapter(
        2,
        CHAPTERS,
        "captured events of the Python implementation, replayed to typed handlers",
    );
    replay(&ears, before, &mut expected, timeline).await?;
    for event in &invalid {
        ears.publish(event.topic.clone(), event.payload.clone())
            .qos(event.qos())
            .await?;
        timeline.say(
            Who::Ears,
            format_args!("replayed {}, which is no valid envelope", event.name),
        );
    }
    ledger.reach(expected.len()).await?;
    timeline.say(Who::Brain, format_args!("{} handled so far", ledger.distinct()));

    timeline.chapter(3, CHAPTERS, "a request and its reply, matched by correlation id");
    ask(&ears, timeline).await?;

    let mut reconnected = None;
    if let Some(mut broker) = own {
        timeline.chapter(4, CHAPTERS, "the broker stops, and starts again");
        reconnected = Some(restart(&mut broker, &brain, &ears, &mut expected, timeline).await?);
        timeline.chapter(
            5,
            CHAPTERS,
            "the rest of the captured events, over the restored subscriptions",
        );
        finish(&ears, after, &mut expected, &ledger, timeline).await?;
        farewell(&brain, &ears, timeline).await;
        broker.stop().await?;
    } else {
        timeline.chapter(5, CHAPTERS, "the rest of the captured events");
        finish(&ears, after, &mut expected, &ledger, timeline).await?;
        farewell(&brain, &ears, timeline).await;
    }
    Ok(Summary {
        published: expected.len(),
        handled: ledger.distinct(),
        reconnected,
    })
}

/// The settings a service would take from its environment.
fn service(client_id: &str, url: Option<&str>) -> Result<Client> {
    let config = Config::builder()
        .env()
        .client_id(client_id)
        .enable_health(true)
        .enable_heartbeat(true)
        .heartbeat_interval(Duration::from_secs(1))
        .reconnect_min_delay(Duration::from_millis(100));
    let config = match url {
        Some(url) => config.url(url),
        None => config,
    };
    Ok(Client::new(config.build()?)?)
}

/// Tells what happens to a client, as its lifecycle events say it.
fn narrate(client: &Client, who: Who, timeline: &Timeline) {
    let (mut lifecycle, timeline) = (client.lifecycle(), timeline.clone());
    tokio::spawn(async move {
        while let Some(event) = lifecycle.next().await {
            match event {
                LifecycleEvent::Connected { .. } => timeline.say(who, "connected"),
                LifecycleEvent::ConnectionLost { reason } => {
                    timeline.say(who, format_args!("lost the broker: {reason}"))
                }
                LifecycleEvent::ReconnectScheduled { attempt, delay } => {
                    timeline.say(who, format_args!("attempt {attempt} in {} ms", delay.as_millis()));
                }
                LifecycleEvent::SubscriptionsRestored { filters } => {
                    timeline.say(who, format_args!("{} subscriptions restored", filters.len()));
                }
                _ => {}
            }
        }
    });
}

/// Shows what the services say about themselves, each kind of news once.
async fn watch_the_fleet(ears: &Client, timeline: &Timeline) -> Result<()> {
    let lines = timeline.clone();
    let health = move |status: Envelope<HealthStatus>| {
        let what = status.data.event.as_deref().unwrap_or("-");
        lines.say(
            Who::Ears,
            format_args!("health of {}: ok={} {what}", status.source, status.data.ok),
        );
        async {}
    };
    ears.subscribe("system/health/+", health).qos(QoS::AtLeastOnce).await?;
    let (lines, seen) = (timeline.clone(), std::sync::Mutex::new(BTreeSet::new()));
    let beat = move |beat: InboundMessage| {
        let first = seen.lock().is_ok_and(|mut seen| seen.insert(beat.topic.clone()));
        if first {
            lines.say(Who::Ears, format_args!("heartbeat on {}", beat.topic));
        }
        async {}
    };
    ears.subscribe("system/keepalive/+", beat).await?;
    Ok(())
}

async fn replay(
    ears: &Client,
    events: &[Captured],
    expected: &mut BTreeSet<String>,
    timeline: &Timeline,
) -> Result<()> {
    for event in events {
        let envelope: Value = serde_json::from_str(&event.payload)?;
        let id = envelope["id"].as_str().unwrap_or_default();
        expected.insert(match envelope["data"]["seq"].as_u64() {
            Some(seq) if event.topic.as_str() == "llm/stream" => format!("{id}/{seq}"),
            _ => id.to_owned(),
        });
        ears.publish(event.topic.clone(), event.payload.clone())
            .qos(event.qos())
            .retain(event.retain == 1)
            .await?;
    }
    timeline.say(
        Who::Ears,
        format_args!("replayed {} captured events, byte for byte", events.len()),
    );
    Ok(())
}

async fn ask(ears: &Client, timeline: &Timeline) -> Result<()> {
    let (answers, mut inbox) = mpsc::channel(8);
    let subscription = ears
        .subscribe("llm/answer", move |answer: Envelope<Data>| {
            let answers = answers.clone();
            async move { answers.send(answer).await }
        })
        .qos(QoS::AtLeastOnce)
        .await?;
    let id = ears
        .publish_event("llm/ask", "llm.ask", &json!({"text": "cargo bay"}))
        .qos(QoS::AtLeastOnce)
        .await?;
    timeline.say(Who::Ears, format_args!("asked, with id {id}"));
    let answer = async {
        while let Some(answer) = inbox.recv().await {
            if answer.correlation_id() == id {
                return Some(answer);
            }
        }
        None
    };
    let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(10), answer).await else {
        bail!("no answer came to the request {id}");
    };
    timeline.say(
        Who::Ears,
        format_args!("answered, with the same id: {}", answer.data["reply"]),
    );
    subscription.unsubscribe().await?;
    Ok(())
}

/// Stops the broker and starts it again, empty. Returns how long the services took to
/// be back after it was.
async fn restart(
    broker: &mut EmbeddedBroker,
    brain: &Client,
    ears: &Client,
    expected: &mut BTreeSet<String>,
    timeline: &Timeline,
) -> Result<Duration> {
    let mut restored = brain.lifecycle();
    timeline.say(Who::Broker, "stops, and forgets all sessions");
    broker.stop().await?;
    brain.state().until(State::Reconnecting).await;
    let mut receipts = Vec::new();
    for n in 0..NOTES {
        let note = brain
            .publish_event(format!("notes/{n}"), "note.taken", &json!({"n": n}))
            .qos(QoS::AtLeastOnce);
        expected.insert(note.id().to_owned());
        receipts.push(note.accepted().await?);
    }
    timeline.say(
        Who::Brain,
        format_args!("takes {NOTES} QoS 1 events in meanwhile; they wait for the broker"),
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    broker
        .start_again()
        .await
        .context("the embedded broker did not start again")?;
    let back = Instant::now();
    timeline.say(Who::Broker, "is back on the same address");
    let all_back = async {
        while let Some(event) = restored.next().await {
            if matches!(event, LifecycleEvent::SubscriptionsRestored { .. }) {
                break;
            }
        }
        ears.state().until(State::Connected).await;
        back.elapsed()
    };
    let took = tokio::time::timeout(Duration::from_secs(15), all_back)
        .await
        .context("the services did not come back")?;
    for receipt in receipts {
        receipt.await?;
    }
    timeline.say(
        Who::Brain,
        format_args!("all {NOTES} are acknowledged by the broker now"),
    );
    Ok(took)
}

async fn finish(
    ears: &Client,
    events: &[Captured],
    expected: &mut BTreeSet<String>,
    ledger: &Ledger,
    timeline: &Timeline,
) -> Result<()> {
    replay(ears, events, expected, timeline).await?;
    ledger.reach(expected.len()).await
}

async fn farewell(brain: &Client, ears: &Client, timeline: &Timeline) {
    timeline.chapter(6, CHAPTERS, "shutdown: finish what is under way, say so, disconnect");
    for (who, client) in [(Who::Brain, brain), (Who::Ears, ears)] {
        let stats = client.stats();
        let report = client.shutdown().await;
        timeline.say(
            who,
            format_args!(
                "published {}, received {}, invalid {}, connects {}; left open: {}",
                stats.published,
                stats.received,
                stats.invalid,
                stats.connects,
                report.publishes_unsettled + report.handlers_cut_off,
            ),
        );
    }
}
