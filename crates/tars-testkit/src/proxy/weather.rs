//! Bad weather for a proxy: one disturbance after the other, from a seed.

use std::num::NonZeroU64;
use std::time::Duration;

use super::{Direction, Proxy};

/// Something that a [`Proxy`] does to its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disturbance {
    /// [`Proxy::cut`].
    Cut,
    /// [`Proxy::cut_after`] so many bytes.
    CutAfter(Direction, u64),
    /// [`Proxy::black_hole`], and at its end a cut: bytes are missing.
    BlackHole(Direction),
    /// [`Proxy::hold`].
    Hold(Direction),
    /// [`Proxy::delay`].
    Delay(Direction, Duration),
    /// [`Proxy::throttle`] to so many bytes a second.
    Throttle(Direction, NonZeroU64),
    /// A cut, and [`Proxy::refuse`].
    Refuse,
}

impl Proxy {
    /// Disturbs for so long, and takes it back. What only happens once (a cut) happens
    /// and is waited for as well, so that a schedule keeps its pace.
    ///
    /// Dropped before it resolves, the disturbance stays.
    pub async fn disturb(&self, disturbance: Disturbance, lasts: Duration) {
        self.set(disturbance, true).await;
        tokio::time::sleep(lasts).await;
        self.set(disturbance, false).await;
    }

    async fn set(&self, disturbance: Disturbance, on: bool) {
        match disturbance {
            Disturbance::Cut if on => self.cut(),
            Disturbance::Cut => {}
            Disturbance::CutAfter(direction, bytes) => {
                self.flow(direction, |flow| flow.cut_after = on.then_some(bytes))
            }
            Disturbance::BlackHole(direction) => {
                self.black_hole(direction, on);
                if !on {
                    self.cut();
                }
            }
            Disturbance::Hold(direction) => self.hold(direction, on),
            Disturbance::Delay(direction, delay) => self.delay(direction, if on { delay } else { Duration::ZERO }),
            Disturbance::Throttle(direction, rate) => self.throttle(direction, on.then_some(rate)),
            Disturbance::Refuse => {
                self.refuse(on).await;
                if on {
                    self.cut();
                }
            }
        }
    }
}

/// Disturbances of all kinds and how long each lasts, without end: the same seed makes
/// the same ones. What a client makes of them on a real socket may differ, of course.
///
/// ```no_run
/// use tars_testkit::proxy::{Proxy, Weather};
///
/// # async fn example(proxy: &Proxy) {
/// for (disturbance, lasts) in Weather::seeded(7).take(20) {
///     proxy.disturb(disturbance, lasts).await;
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Weather(fastrand::Rng);

impl Weather {
    /// The one of this seed. Each disturbance lasts up to half a second.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }
}

impl Iterator for Weather {
    type Item = (Disturbance, Duration);

    fn next(&mut self) -> Option<Self::Item> {
        let random = &mut self.0;
        let direction = [Direction::ToBroker, Direction::ToClient, Direction::Both][random.usize(..3)];
        let disturbance = match random.u8(..7) {
            0 => Disturbance::Cut,
            1 => Disturbance::CutAfter(direction, random.u64(1..2_000)),
            2 => Disturbance::BlackHole(direction),
            3 => Disturbance::Hold(direction),
            4 => Disturbance::Delay(direction, Duration::from_millis(random.u64(1..100))),
            5 => Disturbance::Throttle(direction, NonZeroU64::MIN.saturating_add(random.u64(500..50_000))),
            _ => Disturbance::Refuse,
        };
        Some((disturbance, Duration::from_millis(random.u64(10..500))))
    }
}
