//! What happens in a simulation, made from a seed.

use std::time::Duration;

use tars_mqtt::QoS;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `pub` takes in so many events, one after the other, and waits for none.
    Publish {
        /// How many.
        events: u32,
        /// With this QoS.
        qos: QoS,
    },
    /// Time goes on.
    Wait(Duration),
    /// The next so many runs of the handlers fail.
    FailRuns(u32),
    /// The next so many runs of the handlers panic.
    PanicRuns(u32),
    /// The handlers take so long from now on.
    Slow(Duration),
    /// The link of `pub` is cut.
    CutPublisher,
    /// The link of `sub` is cut.
    CutSubscriber,
    /// The broker stops and starts; sessions are kept.
    Restart,
    /// The broker is away for so long; sessions are kept.
    Away(Duration),
    /// The broker hangs for so long.
    Hang(Duration),
    /// `sub` subscribes a filter that nobody needs, and unsubscribes it again.
    Churn,
    /// `sub` ends in good order and begins anew, as a process that is updated.
    RestartSubscriber,
}

impl Step {
    fn is_quiet(&self) -> bool {
        use Step::{Churn, FailRuns, PanicRuns, Publish, Slow, Wait};
        matches!(
            self,
            Publish { .. } | Wait(_) | FailRuns(_) | PanicRuns(_) | Slow(_) | Churn
        )
    }
}

/// A kind of session, a kind of broker, and what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What it was made from.
    pub seed: u64,
    /// The broker sends a copy for each overlapping filter.
    pub copies: bool,
    /// Deduplication is on.
    pub dedupe: bool,
    /// Workers of each subscription.
    pub concurrency: usize,
    /// The broker's window of unacknowledged messages.
    pub window: u16,
    /// Of each packet, in each direction.
    pub latency: Duration,
    /// In this order.
    pub steps: Vec<Step>,
}

impl Schedule {
    /// The schedule of a seed: always the same.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut below = |bound: u64| random.u64(0..bound);
        Self {
            seed,
            copies: below(2) == 0,
            dedupe: below(2) == 0,
            concurrency: [1, 1, 4][below(3) as usize],
            window: [1, 3, 20][below(3) as usize],
            latency: Duration::from_millis([0, 1, 7][below(3) as usize]),
            steps: {
                let quiet = below(4) == 0;
                let steps = (0..4 + below(24)).map(|_| step(&mut below));
                steps.filter(|step| !quiet || step.is_quiet()).collect()
            },
        }
    }

    /// No link ever ends: then everything is handled exactly once, also without
    /// deduplication.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.steps.iter().all(Step::is_quiet)
    }
}

fn step(below: &mut impl FnMut(u64) -> u64) -> Step {
    let millis = |n: u64| Duration::from_millis(n);
    match below(20) {
        0..=5 => Step::Publish {
            events: 1 + below(12) as u32,
            qos: if below(4) == 0 {
                QoS::ExactlyOnce
            } else {
                QoS::AtLeastOnce
            },
        },
        6..=8 => Step::Wait(millis(below(3000))),
        9 => Step::FailRuns(1 + below(4) as u32),
        10 => Step::PanicRuns(1 + below(3) as u32),
        11 => Step::Slow(millis(below(400))),
        12 | 13 => Step::CutPublisher,
        14 | 15 => Step::CutSubscriber,
        16 => Step::Restart,
        17 => Step::Away(millis(1 + below(8000))),
        18 => {
            if below(2) == 0 {
                Step::Hang(millis(1 + below(6000)))
            } else {
                Step::Churn
            }
        }
        _ => Step::RestartSubscriber,
    }
}
