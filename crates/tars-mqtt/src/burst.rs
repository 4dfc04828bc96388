//! A trouble that comes with many messages is said once per burst, not once per message.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A burst is over when nothing came for so long.
const QUIET: Duration = Duration::from_secs(10);
/// One that does not end is said again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// One kind of trouble.
#[derive(Debug, Default)]
pub(crate) struct Burst(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    last: Option<Instant>,
    unsaid: u64,
}

impl Burst {
    /// It happened. Whether to say so: then with how many went unsaid since the last time.
    pub(crate) fn say(&self) -> Option<u64> {
        let now = Instant::now();
        // Nothing here panics while it holds the lock.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |then: Option<Instant>, limit| then.is_none_or(|then| now.saturating_duration_since(then) >= limit);
        let say = over(state.last, QUIET) || over(state.said, AGAIN);
        state.last = Some(now);
        if !say {
            state.unsaid += 1;
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn once_per_burst_and_once_a_minute() {
        let burst = Burst::default();
        let mut said = Vec::new();
        for second in 0..150 {
            if let Some(unsaid) = burst.say() {
                said.push((second, unsaid));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(said, [(0, 0), (60, 59), (120, 59)]);
        tokio::time::advance(QUIET).await;
        assert_eq!(burst.say(), Some(29));
        assert_eq!(burst.say(), None);
    }
}
