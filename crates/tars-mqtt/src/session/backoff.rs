//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Exponential backoff with jitter: nominally `min`, doubled with each attempt,
/// never above `max`; the delay is drawn evenly from the upper half of the nominal
/// one, the first included, so that a fleet does not return all at once.
///
/// It starts over only when told that a connection proved stable, not at every
/// success: a broker that accepts and drops must not become a hot loop.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
    random: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration, seed: Option<u64>) -> Self {
        Self {
            min,
            max,
            attempt: 0,
            random: seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
        }
    }

    /// Attempts since the last [`reset`](Self::reset).
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The delay before the next attempt.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let doublings = self.attempt.min(20);
        let nominal = self.min.saturating_mul(1 << doublings).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        self.jittered(nominal)
    }

    /// The longest delay, for what does not heal by waiting a little.
    pub(crate) fn longest_delay(&mut self) -> Duration {
        self.attempt = self.attempt.saturating_add(1);
        self.jittered(self.max)
    }

    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    fn jittered(&mut self, nominal: Duration) -> Duration {
        nominal.mul_f64(0.5 + self.random.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubles_up_to_the_maximum_and_starts_over_after_a_reset() {
        let (min, max) = (Duration::from_millis(500), Duration::from_secs(5));
        let mut backoff = Backoff::new(min, max, Some(1));
        for nominal in [0.5, 1.0, 2.0, 4.0, 5.0, 5.0] {
            let delay = backoff.next_delay().as_secs_f64();
            assert!((nominal / 2.0..=nominal).contains(&delay), "{delay} for {nominal}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= min);
    }

    #[test]
    fn two_clients_do_not_return_at_the_same_instant() {
        let first = |seed| Backoff::new(Duration::from_secs(1), Duration::from_secs(5), Some(seed)).next_delay();
        assert_ne!(first(1), first(2));
    }

    proptest! {
        #[test]
        fn always_within_half_and_whole_of_the_nominal_delay(
            min_ms in 100u64..10_000, factor in 1u64..100, attempts in 1usize..80, seed: u64,
        ) {
            let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(min_ms * factor));
            let mut backoff = Backoff::new(min, max, Some(seed));
            for _ in 0..attempts {
                let delay = backoff.next_delay();
                prop_assert!(delay >= min / 2 && delay <= max);
            }
        }
    }
}
