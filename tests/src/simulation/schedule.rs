//! What happens in a simulation, made from a seed.

use std::time::Duration;

use tars_mqtt::QoS;
use tars_testkit::memory::{Fault, Faults, PacketKind};

/// One thing that happens. Where it takes something from the promises, it says what;
/// `promises` is where that is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `pub` takes in so many events, one after the other, and waits for none. QoS 0 is
    /// promised to nobody.
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
    /// The link of `pub` is cut. From here on, and with every further step that ends a
    /// link, "once" takes deduplication.
    CutPublisher,
    /// The link of `sub` is cut. On a clean session what had not come by then is lost.
    CutSubscriber,
    /// Something goes wrong at a packet to come. As a cut.
    Fault(Fault),
    /// The broker stops and starts; sessions are kept. As a cut of both.
    Restart,
    /// The broker is away for so long; sessions are kept. As a cut of both.
    Away(Duration),
    /// The broker starts anew and knows nothing: what it had, and what it takes in before
    /// `sub` has subscribed again, is lost unless it came to `sub`.
    Forget,
    /// The broker hangs for so long. As a cut of both.
    Hang(Duration),
    /// `sub` subscribes a filter that nobody needs, and unsubscribes it again.
    Churn {
        /// The broker does not grant it.
        refused: bool,
    },
    /// `sub` disconnects in good order and connects again. On a clean session what had
    /// not been handled by then may be lost.
    PauseSubscriber,
    /// `sub` ends in good order and begins anew, as a process that is updated. As a pause,
    /// and "once" holds no more: a new process has a new memory.
    RestartSubscriber,
    /// `sub` is killed, and begins anew. As its restart.
    KillSubscriber,
    /// `pub` ends in good order and begins anew. A publish that had not settled by then
    /// fails, and says whether it may have arrived.
    RestartPublisher,
    /// `pub` is killed, and begins anew. As its restart.
    KillPublisher,
}

impl Step {
    fn is_quiet(&self) -> bool {
        use Step::{Churn, FailRuns, PanicRuns, Publish, Slow, Wait};
        matches!(
            self,
            Publish { .. } | Wait(_) | FailRuns(_) | PanicRuns(_) | Slow(_) | Churn { .. }
        )
    }

    fn renews_subscriber(&self) -> bool {
        matches!(self, Self::RestartSubscriber | Self::KillSubscriber)
    }

    fn renews_publisher(&self) -> bool {
        matches!(self, Self::RestartPublisher | Self::KillPublisher)
    }

    fn forgets(&self) -> bool {
        matches!(self, Self::Forget)
    }

    /// A refused SUBSCRIBE that may be one for the subscriptions under test.
    fn refuses(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.refuses() == Some(PacketKind::Subscribe))
    }
}

/// A kind of session, a kind of broker, and what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What it was made from.
    pub seed: u64,
    /// The clients' sessions end with their connections: what is published while `sub`
    /// is away is lost.
    pub clean: bool,
    /// The broker sends a copy for each overlapping filter.
    pub copies: bool,
    /// Deduplication is on.
    pub dedupe: bool,
    /// Workers of each subscription. Order takes one.
    pub concurrency: usize,
    /// The broker's window of unacknowledged messages.
    pub window: u16,
    /// Unsettled publishes that `pub` may have.
    pub outbox: usize,
    /// An orderly end waits for so long; what a handler has by then is cut off.
    pub patience: Duration,
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
        let faults = Faults::seeded(random.u64(..));
        Self::drawn(seed, faults, |bound| random.u64(0..bound))
    }

    /// The schedule that these bytes choose, two for each choice; where they end, the first
    /// choice is taken. Any bytes make one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut pairs = bytes.chunks(2);
        let mut below = move |bound: u64| {
            let pair = pairs.next().unwrap_or_default();
            pair.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)) % bound
        };
        let faults = Faults::seeded(below(1 << 16));
        Self::drawn(0, faults, below)
    }

    fn drawn(seed: u64, mut faults: Faults, mut below: impl FnMut(u64) -> u64) -> Self {
        let mut schedule = Self {
            seed,
            clean: below(4) == 0,
            copies: below(2) == 0,
            dedupe: below(2) == 0,
            concurrency: [1, 1, 4][below(3) as usize],
            window: [1, 3, 20][below(3) as usize],
            outbox: [4, 10_000, 10_000][below(3) as usize],
            patience: Duration::from_millis([50, 20_000][below(2) as usize]),
            latency: Duration::from_millis([0, 1, 7][below(3) as usize]),
            steps: {
                let quiet = below(4) == 0;
                let steps = (0..4 + below(24)).map(|_| step(&mut below, &mut faults));
                steps.filter(|step| !quiet || step.is_quiet()).collect()
            },
        };
        // Refused is refused for that connection: where filters have to be subscribed
        // again, nothing could be promised.
        if schedule.clean || schedule.steps.iter().any(Step::forgets) {
            schedule.steps.retain(|step| !step.refuses());
        }
        schedule
    }

    /// No link ever ends: then everything is handled, exactly once, on a clean session
    /// and without deduplication too.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.steps.iter().all(Step::is_quiet)
    }

    /// A message comes to `sub` once in each connection.
    pub(super) fn sends_once(&self) -> bool {
        let duplicates = |step: &Step| matches!(step, Step::Fault(fault) if fault.duplicates());
        !self.copies && !self.steps.iter().any(duplicates)
    }

    pub(super) fn renews_subscriber(&self) -> bool {
        self.steps.iter().any(Step::renews_subscriber)
    }

    pub(super) fn renews_publisher(&self) -> bool {
        self.steps.iter().any(Step::renews_publisher)
    }
}

fn step(below: &mut impl FnMut(u64) -> u64, faults: &mut Faults) -> Step {
    let millis = |n: u64| Duration::from_millis(n);
    match below(32) {
        0..=8 => Step::Publish {
            events: 1 + below(12) as u32,
            qos: [
                QoS::AtMostOnce,
                QoS::AtLeastOnce,
                QoS::AtLeastOnce,
                QoS::AtLeastOnce,
                QoS::ExactlyOnce,
            ][below(5) as usize],
        },
        9..=12 => Step::Wait(millis(below(3000))),
        13 => Step::FailRuns(1 + below(4) as u32),
        14 => Step::PanicRuns(1 + below(3) as u32),
        15 => Step::Slow(millis(below(400))),
        16 => Step::CutPublisher,
        17 | 18 => Step::CutSubscriber,
        19..=22 => faults.next().map_or(Step::CutSubscriber, Step::Fault),
        23 => Step::Restart,
        24 => Step::Away(millis(1 + below(8000))),
        25 => Step::Hang(millis(1 + below(6000))),
        26 => Step::Forget,
        27 => Step::Churn { refused: below(3) == 0 },
        28 => Step::PauseSubscriber,
        29 => Step::RestartSubscriber,
        30 => Step::KillSubscriber,
        _ if below(2) == 0 => Step::RestartPublisher,
        _ => Step::KillPublisher,
    }
}
