//! Steady traffic and a link that is cut again and again: memory, tasks and open files stay flat,
//! nothing is lost, and with deduplication on nothing is handled twice.

use std::collections::{HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tars_mqtt::{Client, Config, Envelope, Error, QoS, Receipt, State};
use tars_testkit::mosquitto::Mosquitto;
use tars_testkit::proxy::Proxy;
use tokio::time::{MissedTickBehavior, timeout};

use crate::clock;
use crate::event::{EVENT_TYPE, Transcript};
use crate::harness::{median, quiet};

/// Events a second.
const RATE: u32 = 500;
/// Requests a second.
const REQUESTS: u32 = 50;
/// Of deduplication: three seconds of events, far above what comes twice after a cut. It bounds the replies
/// that a responder keeps as well, which are filled up after thirty seconds, and their table has
/// grown for the last time soon after; as long as bounded room fills up, memory grows.
const REMEMBERED: usize = 1_500;
/// Between a sample and a cut, and a cut and a sample.
const STEP: Duration = Duration::from_secs(5);
/// Until everything has been allocated once, and what is bounded is full.
const WARM_UP: Duration = Duration::from_secs(60);
/// Enough for samples in both halves behind the warm-up.
const SHORTEST: Duration = Duration::from_secs(100);
/// A client that is not connected again after so long has given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many times what the first half has allocated the second may have.
const GROWTH: f64 = 1.05;
/// The same of the memory that the process holds: the allocator keeps what a longer cut once took.
const GROWTH_RESIDENT: f64 = 1.15;
/// Tasks and files that may be there by chance, such as a beat under way.
const BY_CHANCE: f64 = 2.0;

/// At a moment when both clients are connected and no publish is under way.
#[derive(Debug)]
struct Sample {
    at: Duration,
    /// In KiB.
    allocated: f64,
    /// In MiB.
    resident: f64,
    tasks: f64,
    files: f64,
}

/// The events that the handler has not seen yet, and those that it has seen twice.
#[derive(Debug, Default)]
struct Tally {
    awaited: Mutex<HashSet<u64>>,
    twice: AtomicU64,
}

impl Tally {
    fn published(&self, n: u64) {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).insert(n);
    }

    fn handled(&self, n: u64) {
        if !self.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(&n) {
            self.twice.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn left(&self) -> usize {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Runs it for so long, says each minute how it goes, and whether all stayed flat and nothing was
/// lost. `allocated` is asked for the bytes that are in use.
///
/// # Errors
/// Where the time is too short to tell growth from warming up, broker or clients cannot start, or a
/// client does not come back.
pub async fn run(time: Duration, allocated: fn() -> usize) -> Result<bool> {
    ensure!(
        time >= SHORTEST,
        "a soak takes {:.1} minutes at least: the first minute is for warming up",
        minutes(SHORTEST)
    );
    // Nagle's algorithm at the broker would make each request wait, and halve the rate.
    let broker = quiet(Mosquitto::builder()).config_line("set_tcp_nodelay true");
    let mut broker = broker.start().await?;
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, broker.port()))).await?;
    let tally = Arc::new(Tally::default());
    let publisher = connected(&proxy, "soak-publisher").await?;
    let subscriber = connected(&proxy, "soak-subscriber").await?;
    let counted = tally.clone();
    subscriber
        .subscribe("soak/events", move |event: Envelope<Transcript>| {
            counted.handled(event.data.n);
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

    println!(
        "For {:.1} minutes {RATE} events at QoS 1 and {REQUESTS} requests a second; every {} seconds all links are cut.",
        minutes(time),
        2 * STEP.as_secs()
    );
    let begin = Instant::now();
    let (mut samples, mut steps, mut published) = (Vec::new(), 0, 0);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut transcript, mut receipts) = (Transcript::of_size(500), VecDeque::new());
    while begin.elapsed() < time {
        ticks.tick().await;
        transcript.n = published;
        tally.published(published);
        let publish = publisher.publish_event("soak/events", EVENT_TYPE, &transcript);
        receipts.push_back(publish.qos(QoS::AtLeastOnce).accepted().await?);
        published += 1;
        if receipts.len() > RATE as usize
            && let Some(oldest) = receipts.pop_front()
        {
            oldest.await?;
        }
        if published.is_multiple_of(u64::from(RATE / REQUESTS)) {
            // In the middle of a cut it waits for the next link, as a service would.
            publisher
                .request::<Transcript>("soak/request", "soak.request", &transcript)
                .reply_on("soak/reply")
                .timeout(Duration::from_secs(30))
                .await?;
        }
        if begin.elapsed() < STEP * (steps + 1) {
            continue;
        }
        steps += 1;
        if steps % 2 == 0 {
            proxy.cut();
        } else {
            settle(&[&publisher, &subscriber], &mut receipts).await?;
            let sample = sample(begin.elapsed(), allocated());
            // Six steps before and six behind it make a minute.
            if steps % 12 == 11 {
                println!(
                    "minute {}: {published} events, {} of them not handled yet; {} cuts; {:.0} KiB \
                     in use, {:.1} MiB resident, {} tasks, {} open files",
                    steps.div_ceil(12),
                    tally.left(),
                    steps / 2,
                    sample.allocated,
                    sample.resident,
                    sample.tasks,
                    sample.files,
                );
            }
            samples.push(sample);
        }
    }
    settle(&[&publisher, &subscriber], &mut receipts).await?;
    all_handled(&tally).await;
    publisher.shutdown().await;
    subscriber.shutdown().await;
    proxy.stop().await;
    broker.stop().await?;
    let is_flat = verdict(&samples, time);
    let (lost, twice) = (tally.left(), tally.twice.load(Ordering::Relaxed));
    println!("  events: {published} published, {lost} lost, {twice} handled twice");
    let is_ok = is_flat && lost == 0 && twice == 0;
    println!("soak: {}", if is_ok { "ok" } else { "failed" });
    Ok(is_ok)
}

async fn connected(proxy: &Proxy, client_id: &str) -> Result<Client> {
    let config = Config::builder()
        .url(proxy.url())
        .client_id(client_id)
        .clean_session(false)
        .enable_health(true)
        .enable_heartbeat(true)
        .dedupe_ttl(Duration::from_secs(60))
        .dedupe_max_entries(REMEMBERED)
        .reconnect_min_delay(Duration::from_millis(100))
        .reconnect_max_delay(Duration::from_millis(500));
    let client = Client::new(config.build()?)?;
    client.connect().await?;
    Ok(client)
}

/// Connected again, and no publish under way: only then samples can be compared.
async fn settle(clients: &[&Client], receipts: &mut VecDeque<Receipt>) -> Result<()> {
    for client in clients {
        timeout(PATIENCE, client.state().until(State::Connected))
            .await
            .context("a client has not come back after a cut")?;
    }
    for receipt in receipts.drain(..) {
        receipt.await?;
    }
    Ok(())
}

fn sample(at: Duration, allocated: usize) -> Sample {
    Sample {
        at,
        allocated: allocated as f64 / 1024.0,
        resident: clock::resident() as f64 / f64::from(1 << 20),
        tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks() as f64,
        files: clock::open_files() as f64,
    }
}

/// Waits until every event has been handled, for a while.
async fn all_handled(tally: &Tally) {
    let begin = Instant::now();
    while tally.left() > 0 && begin.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Compares the two halves of what came behind the warm-up.
fn verdict(samples: &[Sample], time: Duration) -> bool {
    let warm = WARM_UP.max(time / 3);
    let half = warm + (time - warm) / 2;
    let medians = |what: fn(&Sample) -> f64| {
        [(warm, half), (half, time)].map(|(from, to)| {
            let those = samples.iter().filter(|sample| (from..to).contains(&sample.at));
            median(&those.map(what).collect::<Vec<f64>>())
        })
    };
    println!(
        "The first {:.1} minutes aside, first half and second half:",
        minutes(warm)
    );
    let is_flat = |what: &str, [first, second]: [f64; 2], most: f64| {
        // Nothing seen is nothing proved.
        let is_flat = first > 0.0 && second <= most;
        let verdict = if is_flat { "flat" } else { "NOT FLAT" };
        println!("  {what}: {first:.1}, then {second:.1}, at most {most:.1}: {verdict}");
        is_flat
    };
    let (allocated, resident) = (medians(|sample| sample.allocated), medians(|sample| sample.resident));
    let (tasks, files) = (medians(|sample| sample.tasks), medians(|sample| sample.files));
    [
        is_flat("KiB in use", allocated, GROWTH * allocated[0]),
        is_flat("MiB resident", resident, GROWTH_RESIDENT * resident[0]),
        is_flat("tasks", tasks, tasks[0] + BY_CHANCE),
        is_flat("open files", files, files[0] + BY_CHANCE),
    ]
    .iter()
    .all(|flat| *flat)
}

fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten minutes, with so much more of each from sample to sample.
    fn samples(allocated: f64, tasks: f64, files: f64) -> Vec<Sample> {
        let sample = |step: u32| Sample {
            at: STEP * (2 * step + 1),
            allocated: 1000.0 + allocated * f64::from(step),
            resident: 10.0,
            tasks: 30.0 + tasks * f64::from(step),
            files: 20.0 + files * f64::from(step),
        };
        (0..60).map(sample).collect()
    }

    #[test]
    fn what_grows_is_seen_and_the_warm_up_is_not() {
        let ten = Duration::from_secs(600);
        assert!(verdict(&samples(0.0, 0.0, 0.0), ten));
        assert!(!verdict(&samples(5.0, 0.0, 0.0), ten));
        assert!(!verdict(&samples(0.0, 0.2, 0.0), ten));
        assert!(!verdict(&samples(0.0, 0.0, 0.2), ten));
        let mut cold = samples(0.0, 0.0, 0.0);
        for sample in &mut cold[..19] {
            sample.allocated = 500.0;
        }
        assert!(verdict(&cold, ten));
        assert!(!verdict(&[], ten));
    }
}
