//! What was handled, and when: kept outside the clients under test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What the next runs of the handlers do.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub(super) fail: u32,
    pub(super) panic: u32,
    pub(super) slow: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    /// Runs that succeeded, in order.
    handled: Vec<Handled>,
    /// Runs at present, and the most there ever were, of each subscription.
    running: BTreeMap<&'static str, (usize, usize)>,
    /// When the first of several tries at a message began, as long as they fail.
    tried: BTreeMap<(&'static str, u64), Instant>,
    pub(super) trouble: Trouble,
    /// Every run as it ended.
    pub(super) trace: Vec<(Instant, String)>,
}

#[derive(Debug)]
struct Handled {
    subscription: &'static str,
    number: u64,
    /// With its first try.
    began: Instant,
}

/// Shared by the handlers and the checks.
#[derive(Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Book>>);

/// A run; it has ended when this goes, cut off or not.
struct Running<'a>(&'a Ledger, &'static str);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.book().running.entry(self.1).or_default().0 -= 1;
    }
}

impl Ledger {
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        // A handler that panics on purpose does so without the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, subscription: &'static str) -> Running<'_> {
        let mut book = self.book();
        let (now, most) = book.running.entry(subscription).or_default();
        *now += 1;
        *most = (*most).max(*now);
        Running(self, subscription)
    }

    /// A run of a handler: as long as it takes, then its outcome.
    pub(super) async fn run(&self, subscription: &'static str, number: u64) -> Result<(), &'static str> {
        let _running = self.begin(subscription);
        let (began, slow) = {
            let mut book = self.book();
            let tried = book.tried.remove(&(subscription, number));
            (tried.unwrap_or_else(Instant::now), book.trouble.slow)
        };
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        let (fail, panic) = {
            let mut book = self.book();
            let trouble = &mut book.trouble;
            let panic = trouble.panic > 0;
            trouble.panic = trouble.panic.saturating_sub(1);
            let fail = !panic && trouble.fail > 0;
            trouble.fail -= u32::from(fail);
            let text = format!("{subscription} {number}: fail {fail}, panic {panic}");
            book.trace.push((Instant::now(), text));
            if fail || panic {
                book.tried.insert((subscription, number), began);
            }
            (fail, panic)
        };
        if panic {
            std::panic::resume_unwind(Box::new("as the schedule wants"));
        }
        if fail {
            return Err("as the schedule wants");
        }
        self.book().handled.push(Handled {
            subscription,
            number,
            began,
        });
        Ok(())
    }

    /// The most runs of a subscription at one time.
    pub(super) fn most_at_once(&self, subscription: &str) -> usize {
        self.book().running.get(subscription).map_or(0, |(_, most)| *most)
    }

    /// When each number's runs began, in order, of a subscription.
    pub(super) fn runs(&self, subscription: &str) -> BTreeMap<u64, Vec<Instant>> {
        let mut runs: BTreeMap<u64, Vec<Instant>> = BTreeMap::new();
        for run in self
            .book()
            .handled
            .iter()
            .filter(|run| run.subscription == subscription)
        {
            runs.entry(run.number).or_default().push(run.began);
        }
        // They are written down as they end.
        runs.values_mut().for_each(|began| began.sort());
        runs
    }

    /// How often each number was handled in a subscription.
    pub(super) fn counts(&self, subscription: &str) -> BTreeMap<u64, usize> {
        let runs = self.runs(subscription).into_iter();
        runs.map(|(number, began)| (number, began.len())).collect()
    }

    /// The numbers of a subscription in the order of their first success.
    pub(super) fn order(&self, subscription: &str) -> Vec<u64> {
        let mut order = Vec::new();
        for run in self
            .book()
            .handled
            .iter()
            .filter(|run| run.subscription == subscription)
        {
            if !order.contains(&run.number) {
                order.push(run.number);
            }
        }
        order
    }
}
