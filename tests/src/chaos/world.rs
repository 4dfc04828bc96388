//! The broker, the links and the processes, and what can be awaited of them.

mod faults;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tars_testkit::mosquitto::Mosquitto;
use tars_testkit::proxy::Proxy;
use tempfile::TempDir;
use tokio::time::Instant;

use super::Plan;
use super::fleet::{FLEET, Role, sources, workers};
use super::ledger::{Book, Ledger};
use super::line::Command;
use super::process::Process;
use faults::Ailment;

/// Far above what anything takes that has to come about, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// When nothing more was handled for so long, nothing more comes.
const SILENCE: Duration = Duration::from_secs(15);

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

    async fn save(&self) -> Result<(), String> {
        self.broker.save().await.map_err(|error| error.to_string())
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
