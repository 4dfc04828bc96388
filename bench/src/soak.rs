//! Steady traffic and a link that is cut again and again: memory, tasks and open files stay flat,
//! and nothing is lost.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tars_mqtt::{Client, Config, Envelope, Error, QoS, State};
use tars_testkit::mosquitto::Mosquitto;
use tars_testkit::proxy::Proxy;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::event::{EVENT_TYPE, Transcript};
use crate::harness::quiet;

/// Events a second.
const RATE: u32 = 500;
/// Between two cuts.
const CUT: Duration = Duration::from_secs(10);
/// Lines of the table.
const SAMPLES: u32 = 20;
/// How much more the last third may have than the second.
const GROWTH: f64 = 1.05;

struct Sample {
    resident: f64,
    tasks: usize,
}

type Seen = Arc<Mutex<HashSet<u64>>>;

/// Runs it for so long, prints a table, and says whether all stayed flat and nothing was lost.
///
/// # Errors
/// Where broker or clients cannot start.
pub async fn run(time: Duration) -> Result<bool> {
    let mut broker = quiet(Mosquitto::builder()).start().await?;
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, broker.port()))).await?;
    let seen = Seen::default();
    let publisher = connected(&proxy, "soak-publisher").await?;
    let subscriber = connected(&proxy, "soak-subscriber").await?;
    let counted = seen.clone();
    // What is too old to be lost still is forgotten, so that the set itself stays small.
    subscriber
        .subscribe("soak/events", move |event: Envelope<Transcript>| {
            counted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&event.data.n);
            async {}
        })
        .qos(QoS::AtLeastOnce)
        .await?;
    async fn echo(request: Envelope<Transcript>) -> Result<Transcript, Error> {
        Ok(request.data)
    }
    subscriber
        .respond("soak/request", "soak/reply", "soak.reply", echo)
        .await?;

    println!("| minute | resident MiB | tasks | open files | published | on their way | cuts |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    let begin = Instant::now();
    let (mut samples, mut cuts, mut published) = (Vec::new(), 0, 0);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut transcript, mut receipts) = (Transcript::of_size(500), std::collections::VecDeque::new());
    while begin.elapsed() < time {
        ticks.tick().await;
        transcript.n = published;
        seen.lock().unwrap_or_else(PoisonError::into_inner).insert(published);
        let publish = publisher.publish_event("soak/events", EVENT_TYPE, &transcript);
        receipts.push_back(publish.qos(QoS::AtLeastOnce).accepted().await?);
        published += 1;
        if receipts.len() > 500
            && let Some(oldest) = receipts.pop_front()
        {
            oldest.await?;
        }
        if published.is_multiple_of(u64::from(RATE) / 5) {
            // In the middle of a cut it waits for the next link, as a service would.
            publisher
                .request::<Transcript>("soak/request", "soak.request", &transcript)
                .reply_on("soak/reply")
                .timeout(Duration::from_secs(30))
                .await?;
        }
        if begin.elapsed() > CUT * (cuts + 1) {
            cuts += 1;
            proxy.cut();
        }
        if begin.elapsed() > time / SAMPLES * (samples.len() as u32 + 1) {
            settled(&[&publisher, &subscriber], &mut receipts).await?;
            let sample = sample();
            println!(
                "| {:.1} | {:.2} | {} | {} | {published} | {} | {cuts} |",
                begin.elapsed().as_secs_f64() / 60.0,
                sample.resident,
                sample.tasks,
                clock::open_files(),
                seen.lock().unwrap_or_else(PoisonError::into_inner).len(),
            );
            samples.push(sample);
        }
    }
    settled(&[&publisher, &subscriber], &mut receipts).await?;
    let lost = all_handled(&seen).await;
    publisher.shutdown().await;
    subscriber.shutdown().await;
    proxy.stop().await;
    broker.stop().await?;
    Ok(verdict(&samples, published, lost, cuts))
}

async fn connected(proxy: &Proxy, client_id: &str) -> Result<Client> {
    let config = Config::builder()
        .url(proxy.url())
        .client_id(client_id)
        .clean_session(false)
        .enable_health(true)
        .enable_heartbeat(true)
        .dedupe_ttl(Duration::from_secs(60))
        .reconnect_min_delay(Duration::from_millis(100))
        .reconnect_max_delay(Duration::from_millis(500));
    let client = Client::new(config.build()?)?;
    client.connect().await?;
    Ok(client)
}

/// Connected again, and nothing under way: only then samples can be compared.
async fn settled(clients: &[&Client], receipts: &mut std::collections::VecDeque<tars_mqtt::Receipt>) -> Result<()> {
    for client in clients {
        client.state().until(State::Connected).await;
    }
    for receipt in receipts.drain(..) {
        receipt.await?;
    }
    Ok(())
}

fn sample() -> Sample {
    Sample {
        resident: clock::resident() as f64 / f64::from(1 << 20),
        tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
    }
}

/// Waits until every event has been handled. How many never were.
async fn all_handled(seen: &Seen) -> usize {
    let begin = Instant::now();
    loop {
        let left = seen.lock().unwrap_or_else(PoisonError::into_inner).len();
        if left == 0 || begin.elapsed() > Duration::from_secs(30) {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn verdict(samples: &[Sample], published: u64, lost: usize, cuts: u32) -> bool {
    let third = samples.len() / 3;
    let most = |samples: &[Sample]| samples.iter().map(|sample| sample.resident).fold(0.0, f64::max);
    let tasks = |samples: &[Sample]| samples.iter().map(|sample| sample.tasks).max().unwrap_or_default();
    let (second, last) = (&samples[third..2 * third], &samples[2 * third..]);
    let growth = most(last) / most(second);
    let is_flat = growth <= GROWTH && tasks(last) <= tasks(second) + 2;
    println!(
        "\nsoak: {}: {published} events, {lost} lost, {cuts} cuts; memory of the last third ÷ the second {growth:.3}, \
         tasks {} and {}",
        if is_flat && lost == 0 { "ok" } else { "not so" },
        tasks(second),
        tasks(last),
    );
    is_flat && lost == 0
}
