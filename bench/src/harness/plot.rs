//! The plots: bars with their spread, and the distribution of latencies. Small enough to be written
//! by hand, so that no library for drawing is needed.

use std::fmt::Write as _;

use super::results::{Figure, Results};
use super::table::{middle, number};

const WIDTH: f64 = 760.0;
/// Left of the bars.
const NAMES: f64 = 230.0;
/// Right of the bars, for the numbers.
const NUMBERS: f64 = 110.0;
const ROW: f64 = 24.0;
const HEAD: f64 = 44.0;
/// Below the bars, for what they mean.
const FOOT: f64 = 26.0;

/// The plots of what was measured: file name and content.
pub(super) fn all(results: &Results) -> Vec<(String, String)> {
    let mut plots = Vec::new();
    let bars = [
        ("B1", "QoS 0", "throughput-qos-0", "Throughput, QoS 0 (messages/s)"),
        (
            "B2",
            "QoS 1, pipelined",
            "throughput-qos-1",
            "Throughput, QoS 1 pipelined (messages/s)",
        ),
    ];
    for (measure, what, file, title) in bars {
        let figures = results.figures(measure, what);
        if !figures.is_empty() {
            plots.push((format!("benchmarks-{file}.svg"), bars_of(title, &figures)));
        }
    }
    for (what, file, title) in [
        (
            "QoS 0",
            "cpu-qos-0",
            "CPU time per 10,000 messages, QoS 0, both sides (ms)",
        ),
        (
            "QoS 1, pipelined",
            "cpu-qos-1",
            "CPU time per 10,000 messages, QoS 1 pipelined, both sides (ms)",
        ),
    ] {
        let figures = summed(results, what);
        if !figures.is_empty() {
            let figures: Vec<&Figure> = figures.iter().collect();
            plots.push((format!("benchmarks-{file}.svg"), bars_of(title, &figures)));
        }
    }
    let latencies = results.figures("B4", "percentiles 0 to 100 of all rounds");
    if !latencies.is_empty() {
        plots.push((
            "benchmarks-latency.svg".to_owned(),
            curves("Round trip by percentile (µs)", &latencies),
        ));
    }
    plots
}

/// Publisher and subscriber together.
fn summed(results: &Results, what: &str) -> Vec<Figure> {
    let (publisher, subscriber) = (format!("{what}, publisher"), format!("{what}, subscriber"));
    let publishers = results.figures("B5", &publisher);
    let subscribers = results.figures("B5", &subscriber);
    let pairs = publishers.into_iter().zip(subscribers);
    let sum = |(one, other): (&Figure, &Figure)| Figure {
        rounds: one
            .rounds
            .iter()
            .zip(&other.rounds)
            .map(|(one, other)| one + other)
            .collect(),
        ..one.clone()
    };
    pairs.map(sum).collect()
}

/// A card of its own, so that it can be read on a dark page too.
fn begin(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"#222\">\n<rect x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"6\" \
         fill=\"#fff\" stroke=\"#d0d7de\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        WIDTH - 1.0,
        height - 1.0,
        escaped(title)
    )
}

fn colour(figure: &Figure) -> &'static str {
    if figure.who.starts_with("ours") {
        "#2a7ab9"
    } else {
        "#9aa3ad"
    }
}

fn bars_of(title: &str, figures: &[&Figure]) -> String {
    let largest = figures
        .iter()
        .map(|figure| middle(figure).2)
        .fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - NAMES - NUMBERS) / largest;
    let bottom = HEAD + ROW * figures.len() as f64;
    let mut svg = begin(title, bottom + FOOT);
    for (row, figure) in figures.iter().enumerate() {
        let (low, median, high) = middle(figure);
        let top = HEAD + ROW * row as f64;
        let (text, line) = (top + 14.0, top + 9.0);
        // Writing into a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{text:.0}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{top:.0}\" width=\"{:.1}\" height=\"18\" fill=\"{}\"/>\
             <path d=\"M{:.1} {line:.0}H{:.1}\" stroke=\"#222\"/>\
             <text x=\"{:.1}\" y=\"{text:.0}\">{}</text>",
            NAMES - 8.0,
            escaped(&figure.who),
            median * scale,
            colour(figure),
            NAMES + low * scale,
            NAMES + high * scale,
            NAMES + high * scale + 6.0,
            number(median),
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{NAMES}\" y=\"{:.0}\" font-size=\"11\" fill=\"#57606a\">bar: median of the rounds; line: from \
         the smallest to the largest</text>",
        bottom + 12.0
    );
    svg + "</svg>\n"
}

/// Percentiles from left to right, up to the 99th: one outlier would press the rest to the floor.
fn curves(title: &str, figures: &[&Figure]) -> String {
    const HEIGHT: f64 = 330.0;
    const LEFT: f64 = 64.0;
    const NAME: f64 = 130.0;
    let (right, floor) = (WIDTH - 36.0, HEIGHT - 52.0);
    let shown = |figure: &Figure| figure.rounds.iter().copied().take(100).collect::<Vec<f64>>();
    let largest = figures
        .iter()
        .filter_map(|figure| shown(figure).last().copied())
        .fold(f64::MIN_POSITIVE, f64::max);
    let step = round_step(largest);
    let steps = (largest / step).ceil();
    let x = |percent: usize| LEFT + (right - LEFT) * percent as f64 / 99.0;
    let y = |value: f64| floor - (floor - HEAD) * value / (step * steps);
    let mut svg = begin(title, HEIGHT);
    for line in 0..=steps as u32 {
        let value = step * f64::from(line);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {0:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{1}\" y=\"{2:.1}\" \
             text-anchor=\"end\">{3}</text>",
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
            number(value),
        );
    }
    for percent in [0, 25, 50, 75, 90, 99] {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{percent} %</text>",
            x(percent),
            floor + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.0}\" font-size=\"11\" fill=\"#57606a\">so many of the requests, of all rounds, \
         were answered within this time</text>",
        floor + 38.0
    );
    for (row, figure) in figures.iter().enumerate() {
        let points: Vec<String> = shown(figure)
            .iter()
            .enumerate()
            .map(|(percent, value)| format!("{:.1},{:.1}", x(percent), y(*value)))
            .collect();
        // The names stand at the top right: at the ends of the curves they would lie on each other.
        let name = right - NAME * (figures.len() - row) as f64;
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{2}\" stroke-width=\"2\"/>\
             <path d=\"M{name:.0} 20h18\" stroke=\"{2}\" stroke-width=\"4\"/>\
             <text x=\"{3:.0}\" y=\"24\">{1}</text>",
            points.join(" "),
            escaped(&figure.who),
            colour(figure),
            name + 24.0,
        );
    }
    svg + "</svg>\n"
}

/// Between two lines of a grid with four or so of them: 1, 2 or 5, times a power of ten.
fn round_step(largest: f64) -> f64 {
    let least = largest / 5.0;
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= least);
    step.unwrap_or(10.0) * power
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_has_round_numbers() {
        for (largest, step) in [
            (762.0, 200.0),
            (1_000.0, 200.0),
            (4_900.0, 1_000.0),
            (12.0, 5.0),
            (0.9, 0.2),
        ] {
            assert!(
                (round_step(largest) - step).abs() < 1e-9,
                "{largest}: {}",
                round_step(largest)
            );
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_median() {
        let figure = |who: &str, rounds: &[f64]| Figure::new("x", who, "messages/s", rounds.to_vec());
        let svg = bars_of(
            "a < b",
            &[&figure("limit", &[100.0]), &figure("ours", &[40.0, 50.0, 60.0])],
        );
        assert!(svg.contains("a &lt; b"));
        assert!(
            svg.contains("width=\"420.0\"") && svg.contains("width=\"210.0\""),
            "{svg}"
        );
    }
}
