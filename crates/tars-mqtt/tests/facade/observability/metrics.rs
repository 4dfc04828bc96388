//! The client's numbers: each that the document names, and what they say of an outage.

use std::collections::BTreeSet;

use metrics::{Unit, set_default_local_recorder};
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde_json::Value;
use tars_mqtt::metrics::{ALL, Kind};
use tars_mqtt::{InboundMessage, Message, QoS};
use tars_testkit::memory::MemoryBroker;

use super::{SECRET, a_full_life};
use crate::{config, connected, connected_with, secs, settle};

/// A recorder of this thread, and with it of this test. A snapshot takes
/// what it shows, so sums are over all of them.
struct Numbers<'a>(
    Snapshotter,
    #[allow(dead_code, reason = "held")] metrics::LocalRecorderGuard<'a>,
);

/// Name, labels, value.
type Series = (String, Vec<(String, String)>, DebugValue);

impl Numbers<'_> {
    fn series(&self) -> Vec<Series> {
        let all = self.0.snapshot().into_vec();
        all.into_iter()
            .map(|(key, _, _, value)| {
                let key = key.key();
                let labels = key
                    .labels()
                    .map(|label| (label.key().to_owned(), label.value().to_owned()));
                (key.name().to_owned(), labels.collect(), value)
            })
            .collect()
    }
}

macro_rules! numbers {
    ($numbers:ident) => {
        let recorder = DebuggingRecorder::new();
        let $numbers = Numbers(recorder.snapshotter(), set_default_local_recorder(&recorder));
    };
}

fn sum(series: &[Series], name: &str, label: &str) -> f64 {
    let of = |(series, labels, _): &&Series| {
        series == name && (label.is_empty() || labels.iter().any(|(key, value)| format!("{key}={value}") == label))
    };
    let value = |(_, _, value): &Series| match value {
        DebugValue::Counter(number) => *number as f64,
        DebugValue::Gauge(number) => number.0,
        DebugValue::Histogram(values) => values.len() as f64,
    };
    series.iter().filter(of).map(value).sum()
}

/// The longest time of a histogram.
fn longest(series: &[Series], name: &str) -> f64 {
    let times = series
        .iter()
        .filter(|(series, ..)| series == name)
        .flat_map(|(_, _, value)| match value {
            DebugValue::Histogram(values) => values.iter().map(|value| value.0).collect(),
            _ => Vec::new(),
        });
    times.fold(0.0, f64::max)
}

#[tokio::test(start_paused = true)]
async fn each_metric_is_there_with_its_kind_unit_description_and_labels() {
    numbers!(numbers);
    let broker = MemoryBroker::new();
    a_full_life(&broker).await;
    let beating = connected_with(&broker, config("beating").enable_heartbeat(true)).await;
    settle().await;
    beating.shutdown().await;

    let mut expected: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    for (key, unit, description, _) in numbers.0.snapshot().into_vec() {
        let (kind, key) = key.into_parts();
        let metric = ALL.iter().find(|metric| metric.name == key.name());
        let metric = metric.unwrap_or_else(|| panic!("{key:?} is not in the list"));
        expected.remove(metric.name);
        let expected = match metric.kind {
            Kind::Counter => MetricKind::Counter,
            Kind::Gauge => MetricKind::Gauge,
            _ => MetricKind::Histogram,
        };
        assert_eq!(kind, expected, "{metric:?}");
        let is_time = metric.name.ends_with("_seconds");
        assert_eq!(unit, Some(if is_time { Unit::Seconds } else { Unit::Count }));
        assert_eq!(description.as_deref(), Some(metric.description));
        let labels: Vec<&str> = key.labels().map(|label| label.key()).collect();
        let named = [&["client_id"], metric.labels].concat();
        let without_filter = labels == ["client_id"] && metric.labels == ["filter"];
        assert!(labels == named || without_filter, "{labels:?} of {metric:?}");
        assert!(key.labels().all(|label| !label.value().contains(SECRET)));
    }
    assert!(expected.is_empty(), "never there: {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn they_say_what_the_statistics_say() {
    numbers!(numbers);
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").enable_heartbeat(true).dedupe_ttl(secs(60))).await;
    client
        .subscribe("good/#", async |_: InboundMessage| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    client
        .subscribe("bad", async |_: InboundMessage| Err::<(), _>("no"))
        .await
        .unwrap();
    client
        .subscribe("stuck", async |_: InboundMessage| std::future::pending::<()>().await)
        .queue(2)
        .await
        .unwrap();
    let event = serde_json::json!({});
    for number in 0..100 {
        client
            .publish(format!("good/{number}"), "x")
            .qos(QoS::AtLeastOnce)
            .await
            .unwrap();
        let twice = client.publish_event("good", "t", &event).correlation_id("same");
        twice.qos(QoS::AtLeastOnce).await.unwrap();
        client.publish("bad", "x").await.unwrap();
        client.publish("stuck", "x").await.unwrap();
    }
    tokio::time::sleep(secs(95)).await;
    let stats = client.stats();
    let series = numbers.series();
    let filters = |name: &str| -> BTreeSet<String> {
        let named = series.iter().filter(|(series, ..)| series == name);
        named
            .flat_map(|(_, labels, _)| {
                labels
                    .iter()
                    .filter(|(key, _)| key == "filter")
                    .map(|(_, value)| value.clone())
            })
            .collect()
    };
    assert_eq!(
        filters("tars_mqtt_handled_total").len(),
        3,
        "by subscription, not by topic"
    );
    for (name, label, expected) in [
        ("published_total", "", stats.published),
        ("received_total", "", stats.received),
        ("handled_total", "filter=good/#", stats.handled),
        ("failed_total", "filter=bad", stats.failed),
        ("duplicates_total", "filter=good/#", stats.duplicates),
        ("dropped_total", "filter=stuck", stats.dropped),
        ("connects_total", "", stats.connects),
        ("beats_total", "", stats.beats),
        ("handler_seconds", "outcome=succeeded", stats.handled),
        ("handler_seconds", "outcome=failed", stats.failed),
        ("publish_settle_seconds", "outcome=settled", 200),
        ("publish_settle_seconds", "outcome=failed", 0),
        ("heartbeat_seconds", "", stats.beats),
        ("queue_depth", "filter=stuck", 2),
        ("queue_depth", "", 2),
        ("unfinished", "", stats.unfinished),
        ("unsettled", "", 0),
        ("state", "state=connected", 1),
        ("state", "", 1),
    ] {
        assert_eq!(
            sum(&series, &format!("tars_mqtt_{name}"), label),
            expected as f64,
            "{name} {label}: {stats:?}"
        );
    }
    assert!(
        stats.duplicates == 99 && stats.dropped > 90 && stats.beats > 2,
        "{stats:?}"
    );
    client.shutdown().await;
    let series: Vec<Series> = series.into_iter().chain(numbers.series()).collect();
    for gauge in ["queue_depth", "unfinished", "unsettled"] {
        assert_eq!(
            sum(&series, &format!("tars_mqtt_{gauge}"), ""),
            0.0,
            "{gauge} after the end"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_seen_as_delay_and_not_as_loss() {
    numbers!(numbers);
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client
        .subscribe("a", async |_: InboundMessage| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    for _ in 0..10 {
        client.publish("a", "x").qos(QoS::AtLeastOnce).await.unwrap();
    }
    let quiet = numbers.series();
    assert!(longest(&quiet, "tars_mqtt_publish_settle_seconds") < 0.1);
    broker.stop();
    settle().await;
    let mut late = Vec::new();
    for _ in 0..10 {
        late.push(client.publish("a", "x").qos(QoS::AtLeastOnce).accepted().await.unwrap());
    }
    tokio::time::sleep(secs(5)).await;
    let outage = numbers.series();
    assert_eq!(sum(&outage, "tars_mqtt_unsettled", ""), 10.0);
    assert_eq!(sum(&outage, "tars_mqtt_state", "state=reconnecting"), 1.0);
    broker.start();
    for receipt in late {
        receipt.await.unwrap();
    }
    settle().await;
    let series: Vec<Series> = quiet.into_iter().chain(outage).chain(numbers.series()).collect();
    assert!(longest(&series, "tars_mqtt_publish_settle_seconds") >= 5.0);
    for (name, expected) in [
        ("reconnects_total", 1.0),
        ("published_total", 20.0),
        ("handled_total", 20.0),
        ("publish_failed_total", 0.0),
        ("unsettled", 0.0),
    ] {
        assert_eq!(sum(&series, &format!("tars_mqtt_{name}"), ""), expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_fits_no_subscription_counts_without_a_filter() {
    numbers!(numbers);
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.publish(Message::new("a".parse().unwrap(), "x"));
    settle().await;
    client
        .subscribe("a", async |_: tars_mqtt::Envelope<tars_mqtt::Data>| ())
        .await
        .unwrap();
    broker.publish(Message::new("a".parse().unwrap(), "x"));
    settle().await;
    let series = numbers.series();
    assert_eq!(sum(&series, "tars_mqtt_invalid_total", "filter=a"), 1.0);
    assert_eq!(sum(&series, "tars_mqtt_invalid_total", ""), 1.0);
}

fn document(name: &str) -> String {
    let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_document_lists_each_metric() {
    let text = document("observability.md");
    let row = |line: &str| -> Option<Vec<String>> {
        let cells = line
            .strip_prefix("| `tars_mqtt_")?
            .split('|')
            .map(|cell| cell.trim().to_owned());
        Some(cells.take(4).collect())
    };
    let rows: Vec<Vec<String>> = text.lines().filter_map(row).collect();
    let listed: Vec<Vec<String>> = ALL
        .iter()
        .map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let name = metric.name.strip_prefix("tars_mqtt_").unwrap();
            vec![
                format!("{name}`"),
                format!("{:?}", metric.kind).to_lowercase(),
                labels.join(", "),
                metric.description.to_owned(),
            ]
        })
        .collect();
    assert_eq!(rows, listed);
}

/// Every string of a JSON value that stands under this key.
fn under<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    value => under(value, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| under(item, key, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_metrics_and_labels_that_exist() {
    let dashboard: Value = serde_json::from_str(&document("deploy/grafana-dashboard.json")).unwrap();
    let mut queries = Vec::new();
    under(&dashboard, "expr", &mut queries);
    under(&dashboard, "query", &mut queries);
    let mut asked = BTreeSet::new();
    for query in &queries {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("tars_mqtt_")) {
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| word.strip_suffix(end));
            let name = of_histogram.unwrap_or(word);
            let metric = ALL.iter().find(|metric| metric.name == name);
            let metric = metric.unwrap_or_else(|| panic!("{word} of {query} does not exist"));
            assert_eq!(
                of_histogram.is_some(),
                metric.kind == Kind::Histogram,
                "{word} in {query}"
            );
            for label in ["filter", "outcome", "qos", "state"] {
                let asks = query.contains(&format!("{label}=")) || query.contains(&format!("by ({label}"));
                assert!(!asks || metric.labels.contains(&label), "{label} in {query}");
            }
            asked.insert(name);
        }
    }
    assert!(asked.len() > 15, "{asked:?}");
}
