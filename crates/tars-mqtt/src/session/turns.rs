//! Waiting for the first of several things, each of which gets its turn.
//!
//! As `tokio::select!`, but where that throws dice so that a flood in one branch cannot
//! starve the others, this goes round: every branch is looked at first once in as many
//! waits as there are branches. So it is fair, and the same run repeats exactly.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// One of the things to wait for; it has to be cancel-safe.
pub(super) type Branch<'a, T> = Pin<&'a mut (dyn Future<Output = T> + Send + 'a)>;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns(usize);

impl Turns {
    /// The output of a branch that is ready, the one whose turn it is before the others.
    pub(super) async fn first<T, const N: usize>(&mut self, mut branches: [Branch<'_, T>; N]) -> T {
        let turn = self.0 % N;
        self.0 = turn + 1;
        poll_fn(|context| {
            let (before, from) = branches.split_at_mut(turn);
            from.iter_mut()
                .chain(before)
                .map(|branch| branch.as_mut().poll(context))
                .find(Poll::is_ready)
                .unwrap_or(Poll::Pending)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn a_branch_that_is_always_ready_starves_no_other() {
        let mut turns = Turns::default();
        let mut chosen = [0; 3];
        for _ in 0..30 {
            let first = turns.first([pin!(ready(0)), pin!(ready(1)), pin!(ready(2))]).await;
            chosen[first] += 1;
        }
        assert_eq!(chosen, [10; 3]);
    }

    #[tokio::test]
    async fn among_branches_that_wait_the_ready_one_is_found_whosever_turn_it_is() {
        let mut turns = Turns::default();
        for _ in 0..9 {
            let first = turns
                .first([pin!(pending()), pin!(ready("ready")), pin!(pending())])
                .await;
            assert_eq!(first, "ready");
        }
    }
}
