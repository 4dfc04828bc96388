//! The in-memory broker, as the behaviours need it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tars_ports::ConnectOptions;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Facilities, Link, Scene, Staged, TestBroker};
use crate::conformance::Failure;
use crate::memory::MemoryBroker;
use crate::proxy::Direction;

/// Stands for the time that a byte takes, where there are no bytes.
const PER_BYTE: Duration = Duration::from_micros(20);

/// A [`MemoryBroker`]. Every fault works in paused time.
#[derive(Debug, Clone)]
pub struct MemoryTestBroker {
    broker: MemoryBroker,
}

impl MemoryTestBroker {
    /// This broker.
    #[must_use]
    pub fn new(broker: MemoryBroker) -> Self {
        Self { broker }
    }
}

#[async_trait]
impl TestBroker for MemoryTestBroker {
    fn facilities(&self) -> Facilities {
        Facilities {
            passwords: true,
            keeps_sessions: true,
            resumes_at_once: true,
            ..Facilities::default()
        }
    }

    fn options(&self, client_id: &str) -> ConnectOptions {
        ConnectOptions::new("memory", 1883, client_id)
    }

    async fn link(&self, client_id: &str) -> Result<Box<dyn Link>, Failure> {
        Ok(Box::new(MemoryLink {
            broker: self.broker.clone(),
            options: self.options(client_id),
            cutting: Mutex::new(None),
        }))
    }

    async fn stage(&self, client_id: &str, scene: Scene) -> Result<Staged, Failure> {
        match scene {
            Scene::Refuse(refusal) => self.broker.refuse_connects(refusal),
            Scene::Silent => self.broker.freeze(),
            Scene::Absent => self.broker.stop(),
            Scene::DenyFilter(filter) => self.broker.refuse_filter(filter),
            Scene::Password { user, password } => drop(self.broker.clone().with_credentials(user, password)),
            Scene::Transport(_) => return Err(Failure::new("the broker has one transport only")),
        }
        Ok(Staged::new(self.options(client_id), ()))
    }

    async fn kill(&self) -> Result<(), Failure> {
        self.broker.stop();
        Ok(())
    }

    async fn stop(&self) -> Result<(), Failure> {
        self.broker.stop();
        Ok(())
    }

    async fn start_again(&self) -> Result<(), Failure> {
        self.broker.start();
        Ok(())
    }
}

struct MemoryLink {
    broker: MemoryBroker,
    options: ConnectOptions,
    cutting: Mutex<Option<JoinHandle<()>>>,
}

impl MemoryLink {
    fn replace(&self, task: Option<JoinHandle<()>>) {
        let mut cutting = self.cutting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = std::mem::replace(&mut *cutting, task) {
            earlier.abort();
        }
    }
}

impl Link for MemoryLink {
    fn options(&self) -> ConnectOptions {
        self.options.clone()
    }

    fn cut(&self) {
        self.replace(None);
        // Without a link there is nothing to cut.
        let _ = self.broker.cut(&self.options.client_id);
    }

    fn cut_after(&self, _direction: Direction, bytes: u64) {
        let (broker, client_id) = (self.broker.clone(), self.options.client_id.clone());
        let after = PER_BYTE * u32::try_from(bytes).unwrap_or(u32::MAX);
        self.replace(Some(tokio::spawn(async move {
            sleep(after).await;
            let _ = broker.cut(&client_id);
        })));
    }

    fn hold(&self, _direction: Direction, on: bool) {
        match on {
            true => self.broker.freeze(),
            false => self.broker.thaw(),
        }
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.replace(None);
    }
}
