//! The harness: a broker, the peers in turn, the table.

mod memory;
mod micro;
mod plot;
mod process;
mod pure;
mod reconnect;
pub mod results;
mod round_trip;
mod statistics;
mod table;
mod traffic;
mod valgrind;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tars_testkit::mosquitto::{Mosquitto, MosquittoBuilder};

use self::process::Spawner;
use self::results::{Measure, Results};
pub(crate) use self::statistics::median;

/// All measures, in the order in which they are run.
pub const MEASURES: [&str; 12] = [
    "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12",
];

/// What to run and where to write.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Fewer messages and rounds.
    pub quick: bool,
    /// These measures; all, if empty.
    pub only: Vec<String>,
    /// The folder for `benchmarks.json`, `benchmarks.md` and the plots.
    pub folder: PathBuf,
    /// The interpreter with aiomqtt, pydantic and orjson, or why there is none.
    pub python: Result<PathBuf, String>,
}

impl Plan {
    fn wants(&self, measure: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == measure)
    }

    /// `full` messages, or a fifth in the quick form.
    fn messages(&self, full: u64) -> u64 {
        if self.quick { full / 5 } else { full }
    }

    /// Of so many rounds, in which the peers take turns, a figure is the median.
    fn rounds(&self) -> usize {
        if self.quick { 5 } else { 9 }
    }
}

/// Runs the plan, prints and writes what came out, and says whether all could be measured. A measure that
/// fails costs its own figures and nobody else's.
///
/// # Errors
/// Where a file cannot be written. A goal that is not reached is no error.
pub async fn run(plan: &Plan) -> Result<bool> {
    let spawner = Spawner::new(plan)?;
    let mut results = Results::begin(plan.quick);
    results.notes.extend(spawner.missing());
    let mut is_whole = true;
    let mut add = |names: &str, outcome: Result<Vec<Measure>>| match outcome {
        Ok(measures) => {
            for measure in &measures {
                println!("\n{}", table::of_measure(measure));
            }
            results.measures.extend(measures);
        }
        Err(error) => {
            say(names, &format!("failed: {error:#}"));
            results.notes.push(format!("No figures for {names}: {error:#}."));
            is_whole = false;
        }
    };
    let one = |outcome: Result<Measure>| outcome.map(|measure| vec![measure]);
    add("B1, B2, B3 and B5", traffic::run(plan, &spawner).await);
    if plan.wants("B4") {
        add("B4", one(round_trip::run(plan, &spawner).await));
    }
    for (name, measure) in [
        ("B6", pure::envelope as fn(&Plan) -> Result<Measure>),
        ("B7", pure::dedupe),
        ("B8", pure::routing),
    ] {
        if plan.wants(name) {
            say(name, "in this process");
            add(name, one(measure(plan)));
        }
    }
    if plan.wants("B9") {
        add("B9", one(memory::run(plan, &spawner).await));
    }
    if plan.wants("B10") {
        add("B10", one(reconnect::run(plan, &spawner).await));
    }
    if plan.wants("B11") {
        add("B11", one(traffic::many_publishers(plan, &spawner).await));
    }
    if plan.wants("B12") {
        add("B12", one(valgrind::run(plan, &spawner).await));
    }
    results.end();
    write(&results, &plan.folder)?;
    Ok(is_whole)
}

/// Writes the files; where only some measures were run, those of before are kept beside them.
fn write(results: &Results, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("benchmarks.json");
    let all = match std::fs::read_to_string(&path) {
        Ok(text) => results
            .clone()
            .over(serde_json::from_str(&text).context("benchmarks.json")?),
        Err(_) => results.clone(),
    };
    std::fs::write(&path, serde_json::to_string_pretty(&all)? + "\n")?;
    render(&all, folder)
}

/// Writes the page and the plots of these results.
///
/// # Errors
/// Where a file cannot be written.
pub fn render(results: &Results, folder: &Path) -> Result<()> {
    for (name, content) in files(results) {
        let path = folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The plots and the page: name and content.
fn files(results: &Results) -> Vec<(String, String)> {
    let mut files = plot::all(results);
    let page = table::page(results, files.iter().map(|(name, _)| name.as_str()));
    files.push(("benchmarks.md".to_owned(), page));
    files
}

/// So many of it.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Progress.
fn say(measure: &str, what: &str) {
    println!("[{measure}] {what}");
}

/// A broker that drops nothing and logs next to nothing (see [`quiet`]). Nagle's algorithm is off: it
/// would show the broker's 40 ms for a client's.
fn broker() -> MosquittoBuilder {
    quiet(Mosquitto::builder())
        .config_line("max_inflight_messages 1000")
        .config_line("set_tcp_nodelay true")
}

/// With connections and troubles in its log, and no messages.
pub fn quiet(broker: MosquittoBuilder) -> MosquittoBuilder {
    ["none", "notice", "warning", "error"]
        .into_iter()
        .fold(broker, |broker, kind| broker.config_line(format!("log_type {kind}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_made_from_its_figures_and_chapters() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let read = |name: &str| std::fs::read_to_string(docs.join(name)).expect(name);
        let results = serde_json::from_str(&read("benchmarks.json")).expect("results");
        for (name, content) in files(&results) {
            let is_so = read(&name) == content;
            assert!(is_so, "{name} is not up to date: `cargo run -p tars-bench -- render`");
        }
    }
}
