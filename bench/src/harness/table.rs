//! The results as Markdown: a measure for the terminal, all of them for the page.

use std::fmt::Write as _;

use super::counted;
use super::results::{Bound, Figure, Goal, Measure, Results};
use super::statistics::{median, quantile};

/// What the page says besides the results.
const CHAPTERS: &str = include_str!("chapters.md");

/// A series longer than this is for the plots.
const MAX_ROUNDS: usize = 50;

/// Two tables: what was measured, what was to be reached.
pub(super) fn of_measure(measure: &Measure) -> String {
    // Writing into a String cannot fail.
    let mut out = format!("## {}: {}\n\n", measure.id, measure.title);
    if !measure.goals.is_empty() {
        out += "| to reach | bound | measured | spread | reached |\n|---|---|---:|---|---|\n";
        for goal in &measure.goals {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} |",
                goal.what,
                bound(goal.bound),
                value(goal),
                spread(&goal.rounds),
                if goal.is_reached() { "yes" } else { "**no**" },
            );
        }
        out.push('\n');
    }
    let figures: Vec<&Figure> = measure
        .figures
        .iter()
        .filter(|figure| figure.rounds.len() <= MAX_ROUNDS)
        .collect();
    if !figures.is_empty() {
        out += "| what | who | median | spread | unit |\n|---|---|---:|---|---|\n";
        for figure in figures {
            let (median, spread) = (number(figure.median()), spread(&figure.rounds));
            let _ = writeln!(
                out,
                "| {} | {} | {median} | {spread} | {} |",
                figure.what, figure.who, figure.unit
            );
        }
        out.push('\n');
    }
    for note in &measure.notes {
        let _ = writeln!(out, "- {note}");
    }
    if !measure.notes.is_empty() {
        out.push('\n');
    }
    out
}

/// The page, with the plots of these names.
pub(super) fn page<'a>(results: &Results, plots: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::from("# Benchmarks\n\n");
    out += "<!-- Made by `cargo xtask bench` from benchmarks.json and bench/src/harness/chapters.md. -->\n\n";
    let form = if results.quick {
        "the short form"
    } else {
        "the full form"
    };
    let _ = writeln!(
        out,
        "Measured on {} ({form}), on {} with {} cores and {} GiB of memory; load {:.1} at the beginning, {:.1} at \
         the end. {}.\n",
        date(results.date),
        results.processor.trim(),
        results.cores,
        results.memory,
        results.load.0,
        results.load.1,
        results.versions.join("; "),
    );
    for note in &results.notes {
        let _ = writeln!(out, "- {note}");
    }
    let goals = || results.measures.iter().flat_map(|measure| &measure.goals);
    let reached = goals().filter(|goal| goal.is_reached()).count();
    let _ = writeln!(out, "\nReached: {reached} of {} figures.\n", goals().count());
    for plot in plots {
        let _ = writeln!(
            out,
            "![{}]({plot})\n",
            plot.trim_end_matches(".svg").replace(['-', '_'], " ")
        );
    }
    out += CHAPTERS;
    out.push('\n');
    for measure in &results.measures {
        out += &of_measure(measure);
    }
    out.truncate(out.trim_end().len());
    let _ = writeln!(out, "\n\nThe last run took {}.", duration(results.took));
    out
}

/// In minutes from two on, below in seconds.
fn duration(minutes: f64) -> String {
    match (60.0 * minutes).round() as u64 {
        seconds @ ..120 => counted(seconds, "second"),
        seconds => counted((seconds + 30) / 60, "minute"),
    }
}

fn bound(bound: Bound) -> String {
    match bound {
        Bound::AtLeast(bound) | Bound::SurelyAtLeast(bound) => format!("≥ {}", number(bound)),
        Bound::AtMost(bound) => format!("≤ {}", number(bound)),
    }
}

fn value(goal: &Goal) -> String {
    if goal.rounds.is_empty() {
        return "none".to_owned();
    }
    number(goal.value())
}

/// From the smallest to the largest.
fn spread(rounds: &[f64]) -> String {
    match rounds {
        [] | [_] => String::new(),
        _ => format!("{} – {}", number(quantile(rounds, 0.0)), number(quantile(rounds, 1.0))),
    }
}

/// Three digits that matter.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 || size == 0.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), ""), |parts| parts);
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{grouped}"),
        _ => format!("{sign}{grouped}.{fraction}"),
    }
}

/// The day in UTC, of Unix seconds (Howard Hinnant's `civil_from_days`).
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{:02}", day - (153 * shifted + 2) / 5 + 1)
}

/// The median for a plot.
pub(super) fn middle(figure: &Figure) -> (f64, f64, f64) {
    let rounds = &figure.rounds;
    (quantile(rounds, 0.0), median(rounds), quantile(rounds, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        for (value, text) in [
            (123_456.7, "123,457"),
            (12.34, "12.3"),
            (1.0, "1"),
            (0.9512, "0.951"),
            (-1234.0, "-1,234"),
            (0.0, "0"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_duration_is_counted_in_what_suits_it() {
        for (seconds, text) in [
            (1.0, "1 second"),
            (45.0, "45 seconds"),
            (119.4, "119 seconds"),
            (120.0, "2 minutes"),
        ] {
            assert_eq!(duration(seconds / 60.0), text);
        }
    }

    #[test]
    fn a_day_is_written_as_usual() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(1_709_164_800), "2024-02-29");
    }

    #[test]
    fn a_goal_without_figures_is_not_reached() {
        let mut measure = Measure::new("B1", "x");
        measure.goals.push(Goal::new("a", Bound::AtLeast(1.0), vec![]));
        measure
            .goals
            .push(Goal::new("b", Bound::AtMost(1.0), vec![0.5, 0.9, 2.0]));
        let table = of_measure(&measure);
        assert!(table.contains("| a | ≥ 1 | none |  | **no** |"), "{table}");
        assert!(table.contains("| b | ≤ 1 | 0.900 | 0.500 – 2 | yes |"), "{table}");
    }
}
