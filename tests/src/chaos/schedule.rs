//! What happens, in an order that a seed decides.

use std::time::Duration;

use tars_testkit::proxy::Direction;

use super::fleet::{FLEET, mortals, sources, workers};

/// What is done to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGTERM for the broker, in full flight: it saves.
    StopBroker,
    /// SIGKILL for the broker, after all that it acknowledged was saved.
    KillBroker,
    /// SIGKILL for the broker, in full flight.
    CrashBroker,
    /// SIGKILL for the broker, and what it had saved is removed: no session comes back.
    ForgetSessions,
    /// SIGKILL for a worker, inside a handler.
    KillWorker(usize),
    /// SIGKILL for a source, in full flight.
    KillSource(usize),
    /// SIGTERM for a worker, as for an update.
    RestartWorker(usize),
    /// The link of a service is reset.
    Cut(usize),
    /// The link of a service takes bytes and forgets them.
    BlackHole(usize, Direction),
    /// Nobody listens where a service connects to, and its link is reset.
    Refuse(usize),
    /// SIGSTOP for the broker.
    PauseBroker,
    /// SIGSTOP for a service.
    PauseService(usize),
    /// A source publishes so many events at once, more than the slow handlers can take.
    Flood(usize, u64),
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub fault: Fault,
    /// How long it lasts: the broker is away, the link is black, the process stands still.
    pub lasts: Duration,
    /// Until the next.
    pub then: Duration,
}

/// An endless sequence of steps: decks of cards, each shuffled, so that everything has its turn.
#[derive(Debug)]
pub struct Schedule {
    random: fastrand::Rng,
    deck: Vec<Fault>,
    ends_workers: bool,
}

impl Schedule {
    /// Of a seed: always the same. Where `ends_workers` is false, none is killed or restarted.
    #[must_use]
    pub fn new(seed: u64, ends_workers: bool) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            deck: Vec::new(),
            ends_workers,
        }
    }

    fn shuffled(&mut self) -> Vec<Fault> {
        let random = &mut self.random;
        let floods = [random.u64(300..1000), random.u64(300..1000)];
        let mut one_of = |places: Vec<usize>| places[random.usize(0..places.len())];
        let mut deck = vec![Fault::ForgetSessions];
        for (fault, times) in [
            (Fault::StopBroker, 4),
            (Fault::KillBroker, 3),
            (Fault::CrashBroker, 3),
            (Fault::PauseBroker, 1),
        ] {
            deck.extend([fault].repeat(times));
        }
        if self.ends_workers {
            for fault in [Fault::KillWorker as fn(usize) -> Fault; 10]
                .into_iter()
                .chain([Fault::RestartWorker as _; 2])
            {
                deck.push(fault(one_of(mortals().collect())));
            }
        }
        for _ in 0..2 {
            deck.push(Fault::KillSource(one_of(sources().collect())));
            deck.push(Fault::PauseService(one_of(workers().collect())));
        }
        deck.push(Fault::PauseService(one_of(sources().collect())));
        for direction in [Direction::ToBroker, Direction::ToClient, Direction::Both] {
            deck.push(Fault::BlackHole(one_of((0..FLEET.len()).collect()), direction));
            deck.push(Fault::Cut(one_of((0..FLEET.len()).collect())));
        }
        deck.push(Fault::Refuse(one_of((0..FLEET.len()).collect())));
        deck.extend(floods.map(|events| Fault::Flood(FLEET.len() - 1, events)));
        random.shuffle(&mut deck);
        deck
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.deck.is_empty() {
            self.deck = self.shuffled();
        }
        let fault = self.deck.pop()?;
        let longest = match fault {
            Fault::BlackHole(..) | Fault::PauseService(_) => 5000,
            Fault::PauseBroker | Fault::Refuse(_) => 2000,
            _ => 600,
        };
        let mut millis = |range: std::ops::Range<u64>| Duration::from_millis(self.random.u64(range));
        Some(Step {
            fault,
            lasts: millis(0..longest),
            then: millis(50..600),
        })
    }
}

impl Fault {
    /// Its row in the table.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::StopBroker => "broker stopped in full flight (SIGTERM)",
            Self::KillBroker => "broker killed after a save (SIGKILL)",
            Self::CrashBroker => "broker killed in full flight (SIGKILL)",
            Self::ForgetSessions => "broker killed, its sessions removed",
            Self::KillWorker(_) => "service killed inside a handler (SIGKILL)",
            Self::KillSource(_) => "publisher killed in full flight (SIGKILL)",
            Self::RestartWorker(_) => "service restarted (SIGTERM)",
            Self::Cut(_) => "link cut",
            Self::BlackHole(..) => "link black-holed",
            Self::Refuse(_) => "connections refused",
            Self::PauseBroker => "broker paused (SIGSTOP)",
            Self::PauseService(_) => "service paused (SIGSTOP)",
            Self::Flood(..) => "slow handlers flooded",
        }
    }

    /// Whether the broker dies.
    #[must_use]
    pub fn ends_broker(&self) -> bool {
        use Fault::{CrashBroker, ForgetSessions, KillBroker, StopBroker};
        matches!(self, StopBroker | KillBroker | CrashBroker | ForgetSessions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_schedule() {
        let steps = |seed| Schedule::new(seed, true).take(200).collect::<Vec<_>>();
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn workers_end_only_where_they_may() {
        let is_end = |step: &Step| matches!(step.fault, Fault::KillWorker(_) | Fault::RestartWorker(_));
        assert!(Schedule::new(1, true).take(100).any(|step| is_end(&step)));
        assert!(!Schedule::new(1, false).take(100).any(|step| is_end(&step)));
    }
}
