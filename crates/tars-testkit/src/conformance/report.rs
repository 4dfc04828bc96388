//! All behaviours of one adapter with one broker, and several of those as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Behaviour, Failure, Setup, behaviours};

/// What became of a behaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The promise was kept.
    Passed,
    /// It was not.
    Failed(Failure),
    /// It does not apply, because of a capability of the adapter or a facility of the broker.
    NotApplicable(&'static str),
}

/// One behaviour with one adapter and broker.
#[derive(Debug)]
#[non_exhaustive]
pub struct Row {
    /// Which.
    pub behaviour: &'static Behaviour,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took in real time, broker included.
    pub took: Duration,
}

/// All behaviours with one adapter and broker. `Display` lists them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// Which adapter and broker.
    pub title: String,
    /// One for each of [`behaviours`], in their order.
    pub rows: Vec<Row>,
}

impl Report {
    /// Those that failed.
    pub fn failed(&self) -> impl Iterator<Item = (&Row, &Failure)> {
        self.rows.iter().filter_map(|row| match &row.outcome {
            Outcome::Failed(failure) => Some((row, failure)),
            _ => None,
        })
    }

    /// Those that do not apply, as `subject::name`, with the reason.
    #[must_use]
    pub fn not_applicable(&self) -> BTreeMap<String, &'static str> {
        let rows = self.rows.iter().filter_map(|row| match row.outcome {
            Outcome::NotApplicable(why) => Some((row.behaviour.to_string(), why)),
            _ => None,
        });
        rows.collect()
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.subject, self.name)
    }
}

/// Plays every behaviour, `at_once` at a time, each with a setup of its own. A panic of
/// the adapter in the behaviour's own task is a failure.
pub async fn run_all<F, S>(title: impl Into<String>, at_once: usize, setup: F) -> Report
where
    F: Fn() -> S,
    S: Future<Output = Result<Setup, Failure>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(at_once.max(1)));
    let mut playing = JoinSet::new();
    let mut index_of = BTreeMap::new();
    for (index, behaviour) in behaviours().iter().enumerate() {
        let (setup, places) = (setup(), Arc::clone(&places));
        let task = playing.spawn(async move {
            // Nobody closes it; without a place it would be played all the same.
            let _place = places.acquire_owned().await;
            let began = Instant::now();
            (play(behaviour, setup).await, began.elapsed())
        });
        index_of.insert(task.id(), index);
    }
    let mut rows: Vec<Option<Row>> = behaviours().iter().map(|_| None).collect();
    while let Some(joined) = playing.join_next_with_id().await {
        let (id, outcome, took) = match joined {
            Ok((id, (outcome, took))) => (id, outcome, took),
            Err(panic) => {
                let failure = Failure::new(format!("it panicked: {panic}"));
                (panic.id(), Outcome::Failed(failure), Duration::ZERO)
            }
        };
        let index = index_of[&id];
        let behaviour = &behaviours()[index];
        rows[index] = Some(Row {
            behaviour,
            outcome,
            took,
        });
    }
    Report {
        title: title.into(),
        rows: rows.into_iter().flatten().collect(),
    }
}

async fn play(behaviour: &Behaviour, setup: impl Future<Output = Result<Setup, Failure>>) -> Outcome {
    let setup = match setup.await {
        Ok(setup) => setup,
        Err(failure) => return Outcome::Failed(failure),
    };
    if let Some(why) = behaviour.not_applicable(&setup) {
        return Outcome::NotApplicable(why);
    }
    match behaviour.run(&setup).await {
        Ok(()) => Outcome::Passed,
        Err(failure) => Outcome::Failed(failure),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Table::of(std::slice::from_ref(self)))
    }
}

/// Reports side by side: behaviour × adapter × broker, in Markdown, with the failures
/// and the reasons below.
#[derive(Debug)]
pub struct Table<'a>(&'a [Report]);

impl<'a> Table<'a> {
    /// One column for each.
    #[must_use]
    pub fn of(reports: &'a [Report]) -> Self {
        Self(reports)
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let behaviour = |b: &Behaviour| b.to_string().len();
        let first = behaviours().iter().map(behaviour).max().unwrap_or_default();
        write!(f, "| {:first$} |", "behaviour")?;
        for report in self.0 {
            write!(f, " {} |", report.title)?;
        }
        write!(f, "\n|{:-<1$}|", "", first + 2)?;
        for report in self.0 {
            write!(f, "{:-<1$}|", "", report.title.chars().count() + 2)?;
        }
        writeln!(f)?;
        for (index, behaviour) in behaviours().iter().enumerate() {
            write!(f, "| {:first$} |", behaviour.to_string())?;
            for report in self.0 {
                let cell = match report.rows.get(index).map(|row| &row.outcome) {
                    Some(Outcome::Passed) => "ok",
                    Some(Outcome::Failed(_)) => "FAILED",
                    Some(Outcome::NotApplicable(_)) => "n/a",
                    None => "",
                };
                write!(f, " {cell:0$} |", report.title.chars().count())?;
            }
            writeln!(f)?;
        }
        for report in self.0 {
            write!(f, "\n{}: ", report.title)?;
            let (failed, left_out) = (report.failed().count(), report.not_applicable());
            let passed = report.rows.len() - failed - left_out.len();
            writeln!(f, "{passed} passed, {failed} failed, {} do not apply", left_out.len())?;
            for (row, failure) in report.failed() {
                writeln!(f, "- {} FAILED ({}): {failure}", row.behaviour, row.behaviour.says)?;
            }
            for (behaviour, why) in left_out {
                writeln!(f, "- {behaviour} does not apply: {why}")?;
            }
        }
        Ok(())
    }
}
