//! The client against a real broker, in real processes, under every fault that there is.
//!
//! [`run`] starts Mosquitto, five services in processes of their own ([`FLEET`]: two that publish,
//! three that handle on persistent sessions with deduplication), and a fault proxy before each of
//! them. For a bounded time it does to them what a [`Schedule`] says, which a seed decides. A
//! ledger outside the processes under test has a line for everything that was attempted, accepted
//! (`publish` returned `Ok`) and handled, written by a service before the next thing happens, into
//! a pipe that outlives it. In the end everything accepted has to be handled by every
//! subscription, and nothing twice in one life of a process.
//!
//! # What a broker loses itself
//!
//! Mosquitto acknowledges first and saves later, so a SIGKILL may cost messages whatever a client
//! does. To tell those from what a client lost, the broker dies in four ways:
//!
//! - **SIGTERM, in full flight**: it saves before it goes. Nothing may be missing.
//! - **SIGKILL after a save**: publishing pauses until nothing is unsettled, the broker saves
//!   (SIGUSR1), and is killed, while the handlers go on. What they acknowledged since the save comes
//!   again. Nothing may be missing.
//! - **SIGKILL in full flight**: an older state comes back. Before the broker starts again, the file
//!   that it left is read: an event that it had acknowledged, that no handler had finished, and that
//!   is not in the file, is gone with it. The verdict counts those apart, as forgotten by the
//!   broker, and everything else has to be handled. It saves after every twentieth change, so that
//!   those are few.
//! - **SIGKILL, and its file is removed**, once all is handled: no session comes back, every
//!   subscription has to be made again, and the publishing goes on when it is.
//!
//! Subscriptions are saved before the first fault: MQTT 3.1.1 gives a client no way to see that a
//! session came back without one.
//!
//! # An adapter that acknowledges on receipt
//!
//! With paho what a process had and did not finish is lost with it, and what arrives while it shuts
//! down as well. So no worker ends while the verdict is found; afterwards, without any other fault,
//! it is measured what a kill and a restart cost.

mod fleet;
mod ledger;
mod line;
mod process;
mod report;
mod schedule;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use fleet::{FLEET, Listening, Role, Service};
pub use line::{Command, Event, Line};
pub use report::Report;
pub use schedule::{Fault, Schedule, Step};

use world::World;

/// What to do, and what has to come about at least.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `rumqttc` or `paho`.
    pub adapter: String,
    /// Of the schedule.
    pub seed: u64,
    /// How long. Where that was not enough for the counts below, up to twice as long.
    pub time: Duration,
    /// Deaths of the broker.
    pub broker_kills: u64,
    /// Deaths of services inside a handler; none where the adapter acknowledges on receipt.
    pub service_kills: u64,
    /// Messages accepted.
    pub messages: u64,
    /// How many kills and restarts to measure an adapter over that acknowledges on receipt; 0 for none.
    pub measured: usize,
    /// The program of the services, `chaos_service` of this package.
    pub program: PathBuf,
}

impl Plan {
    /// Ten deaths of each kind a minute at least, and 20,000 messages.
    #[must_use]
    pub fn minutes(minutes: f64, adapter: &str, seed: u64, program: PathBuf) -> Self {
        let of = |count: f64| (count * minutes) as u64;
        Self {
            adapter: adapter.to_owned(),
            seed,
            time: Duration::from_secs_f64(60.0 * minutes),
            broker_kills: of(10.0),
            service_kills: of(10.0),
            messages: of(20_000.0),
            measured: 20,
            program,
        }
    }

    /// Whether a worker that is killed inside a handler loses nothing.
    #[must_use]
    pub fn acknowledges_after_success(&self) -> bool {
        self.adapter != "paho"
    }
}

/// Plays the schedule, and looks at what came of it. `tell` is given a line now and then.
pub async fn run(plan: &Plan, mut tell: impl FnMut(String)) -> Report {
    let mut report = Report::new(plan);
    if let Err(why) = verdict(plan, &mut report, &mut tell).await {
        report.problem(why);
    }
    if report.is_good() && !plan.acknowledges_after_success() && plan.measured > 0 {
        tell(format!("what {0} kills and {0} restarts cost ...", plan.measured));
        if let Err(why) = measure(plan, &mut report).await {
            report.problem(why);
        }
    }
    report
}

async fn verdict(plan: &Plan, report: &mut Report, tell: &mut impl FnMut(String)) -> Result<(), String> {
    let mut world = World::begin(plan).await?;
    let played = play(plan, &mut world, report, tell).await;
    // Whatever would come twice has the time to, before everything ends.
    let ended = world.end().await;
    for why in [played, ended].into_iter().filter_map(Result::err) {
        report.problem(why);
    }
    world.ledger.read(|book| report.take(book));
    if !report.is_good() {
        report.logs = Some(world.keep_logs());
    }
    Ok(())
}

async fn play(
    plan: &Plan,
    world: &mut World,
    report: &mut Report,
    tell: &mut impl FnMut(String),
) -> Result<(), String> {
    let begin = Instant::now();
    let mut told = Instant::now();
    for step in Schedule::new(plan.seed, plan.acknowledges_after_success()) {
        let accepted = world.ledger.read(|book| book.accepted());
        let is_over = begin.elapsed() >= plan.time && report.has_enough(accepted);
        if is_over || begin.elapsed() >= 2 * plan.time {
            break;
        }
        report.step(step);
        world.step(step).await?;
        report.memory(&world.memory());
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            tell(report.progress(begin.elapsed(), accepted));
        }
    }
    world.quiet().await?;
    world.drain().await?;
    report.memory(&world.memory());
    Ok(())
}

/// Ends workers without any other fault; how many messages are never handled for that.
async fn measure(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let mut world = World::begin(plan).await?;
    let mut missing = 0;
    for fault in [Fault::KillWorker as fn(usize) -> Fault, Fault::RestartWorker] {
        world.tell_sources(Command::Go).await?;
        for service in fleet::mortals().cycle().take(plan.measured) {
            let step = Step {
                fault: fault(service),
                lasts: Duration::ZERO,
                then: Duration::from_millis(500),
            };
            world.step(step).await?;
        }
        world.quiet().await?;
        // It ends when nothing more comes; what is missing then is what was to be measured.
        let _ = world.drain().await;
        let before = std::mem::replace(&mut missing, world.ledger.read(|book| book.left()));
        report.cost(fault(0), plan.measured, missing - before);
    }
    world.end().await
}
