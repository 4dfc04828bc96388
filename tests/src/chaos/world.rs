//! The broker, the links and the processes, and how each fault is done to them.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tars_testkit::mosquitto::Mosquitto;
use tars_testkit::proxy::{Direction, Proxy};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until};

use super::Plan;
use super::fleet::{FLEET, Role, sources, workers};
use super::ledger::{Book, Ledger};
use super::line::{Command, Event};
use super::process::Process;
use super::schedule::{Fault, Step};

/// Far above what anything takes that has to come about, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// When nothing more was handled for so long, nothing more comes.
const SILENCE: Duration = Duration::from_secs(15);

/// What has to be ended again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ailment {
    BlackHole(usize, Direction),
    Refuse(usize),
    Broker,
    Service(usize),
}

pub(super) struct World {
    pub(super) ledger: Ledger,
    broker: Mosquitto,
    /// As [`FLEET`]: each service has a link of its own.
    links: Vec<Proxy>,
    services: Vec<Process>,
    ailments: Vec<(Instant, Ailment)>,
    adapter: String,
    program: PathBuf,
    folder: TempDir,
}

impl World {
    /// Starts everything; returns when all subscriptions are granted and saved.
    pub(super) async fn begin(plan: &Plan) -> Result<Self, String> {
        let broker = Mosquitto::builder()
            .persistence(true)
            // After so many changes, such as a message that has to wait for a client.
            .config_line("autosave_on_changes true")
            .config_line("autosave_interval 20")
            // The millions of lines of its full log would be the slowest part of all.
            .config_line("log_type none")
            .config_line("log_type error")
            .config_line("log_type warning")
            .config_line("log_type notice");
        let broker = broker.start().await.map_err(|error| error.to_string())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, broker.port()));
        let mut links = Vec::new();
        for _ in FLEET {
            let link = Proxy::start(address).await;
            links.push(link.map_err(|error| format!("no proxy: {error}"))?);
        }
        let mut world = Self {
            ledger: Ledger::new(),
            broker,
            links,
            services: Vec::new(),
            ailments: Vec::new(),
            adapter: plan.adapter.clone(),
            program: plan.program.clone(),
            folder: TempDir::with_prefix("tars-chaos-").map_err(|error| format!("no folder: {error}"))?,
        };
        // The workers first: what is published before they subscribed is not theirs.
        for service in workers() {
            let process = world.start(service)?;
            world.services.push(process);
        }
        world.subscribed().await?;
        // A broker that is killed keeps the subscriptions that it had saved.
        world.save().await?;
        for service in sources() {
            let process = world.start(service)?;
            world.services.push(process);
        }
        world.connected(sources()).await?;
        Ok(world)
    }

    fn start(&self, service: usize) -> Result<Process, String> {
        let is_worker = matches!(FLEET[service].role, Role::Worker { .. });
        let variables = [
            ("MQTT_URL", self.links[service].url()),
            ("MQTT_CLIENT_ID", FLEET[service].name.to_owned()),
            ("MQTT_ADAPTER", self.adapter.clone()),
            ("MQTT_CLEAN_SESSION", (!is_worker).to_string()),
            ("MQTT_CONNECT_RETRY", "true".to_owned()),
            ("MQTT_RECONNECT_MIN_DELAY", "0.1".to_owned()),
            ("MQTT_RECONNECT_MAX_DELAY", "0.5".to_owned()),
            ("MQTT_KEEPALIVE", "2".to_owned()),
            ("MQTT_ENABLE_HEARTBEAT", "true".to_owned()),
            ("MQTT_HEARTBEAT_INTERVAL", "1".to_owned()),
            ("MQTT_ENABLE_HEALTH", "true".to_owned()),
            ("MQTT_DEDUPE_TTL", "600".to_owned()),
            ("MQTT_DEDUPE_MAX_ENTRIES", "20000".to_owned()),
            ("MQTT_PUBLISH_TIMEOUT", "300".to_owned()),
        ];
        Process::start(&self.program, service, &variables, self.folder.path(), &self.ledger)
    }

    /// Does a step, and lets the time pass until the next.
    pub(super) async fn step(&mut self, step: Step) -> Result<(), String> {
        let done = self.fault(step).await;
        done.map_err(|why| format!("{:?} could not be done: {why}", step.fault))?;
        self.pass(step.then).await
    }

    async fn fault(&mut self, Step { fault, lasts, .. }: Step) -> Result<(), String> {
        let until = Instant::now() + lasts;
        match fault {
            Fault::StopBroker => {
                self.broker.stop().await.map_err(|error| error.to_string())?;
                self.start_broker_after(lasts).await
            }
            Fault::KillBroker => {
                self.quiet().await?;
                self.save().await?;
                self.kill_broker().await?;
                self.start_broker_after(lasts).await?;
                self.tell_sources(Command::Go).await
            }
            Fault::CrashBroker => self.crash_broker(lasts).await,
            Fault::ForgetSessions => self.forget_sessions(lasts).await,
            Fault::KillWorker(service) => {
                self.hang(service).await?;
                self.kill(service).await
            }
            Fault::KillSource(service) => {
                self.heal(|ailment| ailment == Ailment::Service(service)).await?;
                self.kill(service).await
            }
            Fault::RestartWorker(service) => {
                self.heal(|ailment| ailment == Ailment::Service(service)).await?;
                self.restart(service).await
            }
            Fault::Cut(service) => {
                self.links[service].cut();
                Ok(())
            }
            Fault::BlackHole(service, direction) => {
                self.links[service].black_hole(direction, true);
                self.ailments.push((until, Ailment::BlackHole(service, direction)));
                Ok(())
            }
            Fault::Refuse(service) => {
                self.links[service].refuse(true).await;
                self.links[service].cut();
                self.ailments.push((until, Ailment::Refuse(service)));
                Ok(())
            }
            Fault::PauseBroker => {
                self.broker.pause().map_err(|error| error.to_string())?;
                self.ailments.push((until, Ailment::Broker));
                Ok(())
            }
            Fault::PauseService(service) => {
                self.services[service].signal(Signal::STOP)?;
                self.ailments.push((until, Ailment::Service(service)));
                Ok(())
            }
            Fault::Flood(source, events) => self.services[source].tell(Command::Flood(events)).await,
        }
    }

    /// Lets time pass, and ends what is to end meanwhile.
    async fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        loop {
            let now = Instant::now();
            self.heal_due(|until, _| until <= now).await?;
            let next = self.ailments.iter().map(|(until, _)| *until).min();
            let next = next.filter(|next| *next < end);
            sleep_until(next.unwrap_or(end)).await;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    async fn heal(&mut self, which: impl Fn(Ailment) -> bool) -> Result<(), String> {
        self.heal_due(|_, ailment| which(ailment)).await
    }

    async fn heal_due(&mut self, which: impl Fn(Instant, Ailment) -> bool) -> Result<(), String> {
        let due = self.ailments.extract_if(.., |(until, ailment)| which(*until, *ailment));
        for (_, ailment) in due.collect::<Vec<_>>() {
            match ailment {
                Ailment::BlackHole(service, direction) => {
                    let link = &self.links[service];
                    // Bytes are missing on every link that it has: none of them may go on.
                    link.refuse(true).await;
                    link.cut();
                    link.wait_for_connections(0).await;
                    link.black_hole(direction, false);
                    link.refuse(false).await;
                }
                Ailment::Refuse(service) => self.links[service].refuse(false).await,
                Ailment::Broker => {
                    // Killed meanwhile, it is another one, which stands still for nobody.
                    if self.broker.is_running() {
                        self.broker.resume().map_err(|error| error.to_string())?;
                    }
                }
                Ailment::Service(service) => self.services[service].signal(Signal::CONT)?,
            }
        }
        Ok(())
    }

    async fn start_broker_after(&mut self, time: Duration) -> Result<(), String> {
        sleep(time).await;
        self.broker.start_again().await.map_err(|error| error.to_string())
    }

    async fn kill_broker(&mut self) -> Result<(), String> {
        self.broker.kill().await.map_err(|error| error.to_string())
    }

    /// Killed while it is busy: it has acknowledged what it has not saved. Once every source has
    /// told that its link is lost, and before that what was acknowledged, it is known which.
    async fn crash_broker(&mut self, away: Duration) -> Result<(), String> {
        self.heal_everyone().await?;
        self.connected(sources()).await?;
        self.kill_broker().await?;
        let all_lost = |book: &Book| sources().all(|source| !book.services[source].is_connected);
        self.until("every publisher has noticed", all_lost).await?;
        let saved = events_in(&self.broker.saved().map_err(|error| error.to_string())?);
        self.ledger.change(|book| book.broker_forgot(&saved));
        self.start_broker_after(away).await
    }

    async fn forget_sessions(&mut self, away: Duration) -> Result<(), String> {
        self.heal_everyone().await?;
        self.subscribed().await?;
        // Everything is handled, so that nothing is in the sessions that go.
        self.quiet().await?;
        self.drain().await?;
        self.kill_broker().await?;
        self.broker.forget().map_err(|error| error.to_string())?;
        self.ledger.change(|book| {
            for service in workers() {
                book.services[service].subscribed = 0;
            }
        });
        self.start_broker_after(away).await?;
        self.subscribed().await?;
        self.save().await?;
        self.tell_sources(Command::Go).await
    }

    /// SIGKILL, and a new life.
    async fn kill(&mut self, service: usize) -> Result<(), String> {
        self.services[service].kill().await?;
        self.services[service] = self.start(service)?;
        Ok(())
    }

    /// SIGTERM, and a new life.
    async fn restart(&mut self, service: usize) -> Result<(), String> {
        self.services[service].terminate().await?;
        self.services[service] = self.start(service)?;
        Ok(())
    }

    /// Returns when a handler of the worker hangs.
    async fn hang(&mut self, service: usize) -> Result<(), String> {
        self.heal_everyone().await?;
        let before = self.ledger.read(|book| book.services[service].hung);
        self.services[service].tell(Command::Hang).await?;
        let hangs = |book: &Book| book.services[service].hung > before;
        self.until("a handler hangs", hangs).await
    }

    async fn save(&self) -> Result<(), String> {
        self.broker.save().await.map_err(|error| error.to_string())
    }

    async fn heal_everyone(&mut self) -> Result<(), String> {
        self.heal(|_| true).await
    }

    /// All faults have ended, nothing is published, and nothing unsettled.
    pub(super) async fn quiet(&mut self) -> Result<(), String> {
        self.heal_everyone().await?;
        self.ledger.change(|book| {
            for source in sources() {
                book.services[source].is_quiet = false;
            }
        });
        self.tell_sources(Command::Pause).await?;
        let quiet = |book: &Book| sources().all(|source| book.services[source].is_quiet);
        self.until("every publish has settled", quiet).await
    }

    pub(super) async fn tell_sources(&mut self, command: Command) -> Result<(), String> {
        for source in sources() {
            self.services[source].tell(command).await?;
        }
        Ok(())
    }

    async fn connected(&self, services: impl Iterator<Item = usize> + Clone) -> Result<(), String> {
        let connected = |book: &Book| services.clone().all(|service| book.services[service].is_connected);
        self.until("everybody is connected", connected).await
    }

    /// Every worker has all its subscriptions.
    async fn subscribed(&self) -> Result<(), String> {
        let subscribed = |book: &Book| {
            workers().all(|service| {
                let attendance = &book.services[service];
                attendance.is_connected && attendance.subscribed >= FLEET[service].routes().len()
            })
        };
        self.until("everybody is subscribed", subscribed).await
    }

    async fn until(&self, what: &str, is_so: impl FnMut(&Book) -> bool) -> Result<(), String> {
        match self.ledger.until(PATIENCE, is_so).await {
            true => Ok(()),
            false => Err(format!("not within {PATIENCE:?}: {what}")),
        }
    }

    /// Waits until all is handled. Where nothing moves any more and something is missing, it is
    /// not: the verdict says so.
    pub(super) async fn drain(&mut self) -> Result<(), String> {
        loop {
            let before = self.ledger.read(Book::left);
            if before == 0 {
                return Ok(());
            }
            if !self.ledger.until(SILENCE, |book| book.left() < before).await {
                return Err(format!("{before} accepted events were not handled, and no more came"));
            }
        }
    }

    /// Ends every service in good order.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        for process in &mut self.services {
            process.terminate().await?;
        }
        Ok(())
    }

    /// Resident memory of each service in KiB.
    pub(super) fn memory(&self) -> Vec<Option<u64>> {
        self.services.iter().map(Process::memory).collect()
    }

    /// Keeps what the services logged; where it is.
    pub(super) fn keep_logs(self) -> PathBuf {
        self.folder.keep()
    }
}

/// The events in what Mosquitto saved: payloads stand in it as they are.
fn events_in(saved: &[u8]) -> HashSet<Event> {
    const BEGIN: &[u8] = br#""data":{"#;
    let mut events = HashSet::new();
    let mut rest = saved;
    while let Some(at) = rest.windows(BEGIN.len()).position(|window| window == BEGIN) {
        rest = &rest[at + BEGIN.len() - 1..];
        if let Some(end) = rest.iter().position(|byte| *byte == b'}')
            && let Ok(event) = serde_json::from_slice(&rest[..=end])
        {
            events.insert(event);
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_in_what_was_saved() {
        let saved = b"\0\x01{\"id\":\"x\",\"data\":{\"lane\":\"a\",\"n\":7}}\xff\"data\":{\"ok\":true}\"data\":{\"lane\":\"b\",\"n\":0}}";
        let found = events_in(saved);
        let expected = [Event { lane: 'a', n: 7 }, Event { lane: 'b', n: 0 }];
        assert_eq!(found, HashSet::from(expected));
        assert!(events_in(b"").is_empty());
    }
}
