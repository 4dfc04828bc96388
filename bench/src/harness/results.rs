//! What came out: plain data, which is all that the page and the plots are made from.

use std::time::{SystemTime, UNIX_EPOCH};

use procfs::{CpuInfo, Current as _, LoadAverage, Meminfo};
use serde::{Deserialize, Serialize};

use super::statistics::{lower_bound, median};

/// All of a run, or of several.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// Unix seconds.
    pub date: u64,
    /// In minutes.
    pub took: f64,
    /// The short form.
    pub quick: bool,
    /// Of the machine.
    pub processor: String,
    /// Of the machine.
    pub cores: usize,
    /// Of the machine, in GiB.
    pub memory: u64,
    /// Runnable processes on average, in the minute before and in the last minute.
    pub load: (f32, f32),
    /// Of what was used.
    pub versions: Vec<String>,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// One for each of B1 to B12.
    pub measures: Vec<Measure>,
}

/// One of B1 to B12.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measure {
    /// `B1` to `B12`.
    pub id: String,
    /// In words.
    pub title: String,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What was to be reached.
    pub goals: Vec<Goal>,
    /// Anything out of the ordinary.
    pub notes: Vec<String>,
}

/// Something measured once a round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What.
    pub what: String,
    /// Of whom.
    pub who: String,
    /// In which unit.
    pub unit: String,
    /// Round by round.
    pub rounds: Vec<f64>,
}

/// What a figure, or a ratio of two, is to reach.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Goal {
    /// In words.
    pub what: String,
    /// At least or at most this.
    pub bound: Bound,
    /// Round by round.
    pub rounds: Vec<f64>,
}

/// Which side of a number is good.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// The median is not below.
    AtLeast(f64),
    /// The median is not above.
    AtMost(f64),
    /// The lower confidence bound of the mean is not below.
    SurelyAtLeast(f64),
}

impl Figure {
    /// With those of its rounds that have a number.
    pub fn new(what: impl Into<String>, who: impl Into<String>, unit: &str, rounds: Vec<f64>) -> Self {
        Self {
            what: what.into(),
            who: who.into(),
            unit: unit.to_owned(),
            rounds: finite(rounds),
        }
    }

    /// How many times the one series is the other, round by round.
    pub fn ratio(what: impl Into<String>, who: impl Into<String>, over: &[f64], under: &[f64]) -> Self {
        Self::new(what, who, "×", ratios(over, under))
    }

    /// The median of its rounds.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(&self.rounds)
    }
}

impl Goal {
    /// For those of these rounds that have a number.
    pub fn new(what: impl Into<String>, bound: Bound, rounds: Vec<f64>) -> Self {
        Self {
            what: what.into(),
            bound,
            rounds: finite(rounds),
        }
    }

    /// For the ratio of two series, round by round.
    pub fn ratio(what: impl Into<String>, bound: Bound, over: &[f64], under: &[f64]) -> Self {
        Self::new(what, bound, ratios(over, under))
    }

    /// What counts.
    #[must_use]
    pub fn value(&self) -> f64 {
        match self.bound {
            Bound::AtLeast(_) | Bound::AtMost(_) => median(&self.rounds),
            Bound::SurelyAtLeast(_) => lower_bound(&self.rounds),
        }
    }

    /// Whether it is reached; not without a figure.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        !self.rounds.is_empty()
            && match self.bound {
                Bound::AtLeast(bound) | Bound::SurelyAtLeast(bound) => self.value() >= bound,
                Bound::AtMost(bound) => self.value() <= bound,
            }
    }
}

/// A round in which something was lost is not a number.
fn finite(rounds: Vec<f64>) -> Vec<f64> {
    rounds.into_iter().filter(|value| value.is_finite()).collect()
}

fn ratios(over: &[f64], under: &[f64]) -> Vec<f64> {
    over.iter().zip(under).map(|(over, under)| over / under).collect()
}

impl Measure {
    /// Nothing measured yet.
    pub fn new(id: &str, title: &str) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            figures: Vec::new(),
            goals: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl Results {
    pub(super) fn begin(quick: bool) -> Self {
        let processor = CpuInfo::current().ok();
        let name = processor
            .as_ref()
            .and_then(|cpus| cpus.model_name(0))
            .unwrap_or("unknown");
        Self {
            date: unix_now(),
            took: 0.0,
            quick,
            processor: name.to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory: Meminfo::current().map_or(0, |memory| (memory.mem_total + (1 << 29)) >> 30),
            load: (load(), 0.0),
            versions: versions(),
            notes: Vec::new(),
            measures: Vec::new(),
        }
    }

    pub(super) fn end(&mut self) {
        self.took = (unix_now() - self.date) as f64 / 60.0;
        self.load.1 = load();
    }

    /// These, and those of `before` that were not measured again.
    pub(super) fn over(mut self, before: Self) -> Self {
        let measured_again = |id: &str| self.measures.iter().any(|measure| measure.id == id);
        let kept: Vec<Measure> = before
            .measures
            .into_iter()
            .filter(|measure| !measured_again(&measure.id))
            .collect();
        if !kept.is_empty() {
            let ids: Vec<&str> = kept.iter().map(|measure| measure.id.as_str()).collect();
            self.notes.push(format!("{} are of an earlier run.", ids.join(", ")));
        }
        self.measures.extend(kept);
        let number = |measure: &Measure| measure.id[1..].parse::<u32>().unwrap_or_default();
        self.measures.sort_by_key(number);
        self
    }

    /// The figure with this name of this measure.
    #[must_use]
    pub fn figures<'a>(&'a self, measure: &str, what: &'a str) -> Vec<&'a Figure> {
        let measures = self.measures.iter().filter(|known| known.id == measure);
        measures
            .flat_map(|measure| &measure.figures)
            .filter(|figure| figure.what == what)
            .collect()
    }
}

fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn load() -> f32 {
    LoadAverage::current().map_or(0.0, |load| load.one)
}

/// The first line that each program says of itself.
fn versions() -> Vec<String> {
    let said = |program: &str, argument: &str| {
        let output = std::process::Command::new(program).arg(argument).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_owned)
    };
    let programs = [
        ("rustc", "--version"),
        ("/usr/sbin/mosquitto", "-h"),
        ("mosquitto", "-h"),
        ("valgrind", "--version"),
    ];
    let mut versions: Vec<String> = programs
        .iter()
        .filter_map(|(program, argument)| said(program, argument))
        .collect();
    versions.dedup();
    versions
}
