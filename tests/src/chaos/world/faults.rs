//! How each fault is done, and ended again.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::Signal;
use tars_testkit::proxy::Direction;
use tokio::time::{Instant, sleep, sleep_until};

use super::World;
use crate::chaos::fleet::{sources, workers};
use crate::chaos::ledger::Book;
use crate::chaos::line::{Command, Event};
use crate::chaos::schedule::{Fault, Step};

/// What has to be ended again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ailment {
    BlackHole(usize, Direction),
    Refuse(usize),
    Broker,
    Service(usize),
}

impl World {
    /// Does a step, and lets the time pass until the next.
    pub(in crate::chaos) async fn step(&mut self, step: Step) -> Result<(), String> {
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

    /// Every fault that lasts ends now.
    pub(super) async fn heal_everyone(&mut self) -> Result<(), String> {
        self.heal(|_| true).await
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
