//! An outage as an operator sees it: the log at INFO tells what happened, the metrics that messages
//! were late and not lost.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use metrics::set_default_local_recorder;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tars_mqtt::{Adapter, State};
use tars_testkit::mosquitto::Mosquitto;
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

use crate::support::traffic::{Ledger, Traffic};
use crate::support::{config, connected_with, started, within};

const OUTAGE: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The events of the client, without times and without what differs from run to run.
const STORY: [&str; 8] = [
    "INFO connecting client_id=svc",
    "INFO connected client_id=svc",
    "WARN the connection was lost client_id=svc",
    "INFO the next attempt to connect is set client_id=svc attempt=1",
    "WARN could not connect client_id=svc",
    "INFO the next attempt to connect is set client_id=svc attempt=2",
    "INFO reconnected client_id=svc",
    "INFO what waited for the connection is settled client_id=svc",
];

/// Whether an event is of interest is remembered for all threads. As long as there is one
/// subscriber alone, tracing asks that of the thread that comes by first, which may be that of
/// a test without any; of two, it asks both.
static SECOND: OnceLock<Dispatch> = OnceLock::new();

/// On one thread, which is that of the log and of the recorder.
async fn a_restart_under_traffic(adapter: Adapter) {
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
    let log = Log::default();
    let lines = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("info")
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer(move || lines.clone())
        .finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _metrics = set_default_local_recorder(&recorder);

    let mut broker = started(Mosquitto::builder().persistence(true)).await;
    let client = connected_with(config(&broker, "svc").adapter(adapter).clean_session(false)).await;
    let ledger = Ledger::default();
    ledger.subscribe(&client, "work/#", Duration::ZERO).await;
    let mut traffic = Traffic::start(&client, "work");
    traffic.more(40).await;
    broker.stop().await.unwrap();
    let began = Instant::now();
    within("the loss", client.state().until(State::Reconnecting)).await;
    tokio::time::sleep(OUTAGE).await;
    broker.start_again().await.unwrap();
    traffic.more(40).await;
    let outage = began.elapsed();
    let published = traffic.finish().await;
    for number in 0..published {
        ledger.until_handled("work/#", &format!("work/{number}")).await;
    }
    within("a settled outbox", async {
        while client.stats().unsettled + client.stats().unfinished > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    let (mut sums, mut longest) = (std::collections::BTreeMap::<String, f64>::new(), 0.0_f64);
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let number = match value {
            DebugValue::Counter(number) => number as f64,
            DebugValue::Gauge(number) => number.0,
            DebugValue::Histogram(times) => {
                if key.key().name() == "tars_mqtt_publish_settle_seconds" {
                    longest = times.iter().map(|time| time.0).fold(longest, f64::max);
                }
                times.len() as f64
            }
        };
        *sums.entry(key.key().name().to_owned()).or_default() += number;
    }
    for (name, expected) in [
        ("reconnects_total", 1.0),
        ("published_total", published as f64),
        ("publish_settle_seconds", published as f64),
        ("publish_failed_total", 0.0),
        ("lost_unsent_total", 0.0),
        ("failed_total", 0.0),
        ("dropped_total", 0.0),
        ("unsettled", 0.0),
        ("unfinished", 0.0),
    ] {
        assert_eq!(sums[&format!("tars_mqtt_{name}")], expected, "{name}: {sums:?}");
    }
    assert!(sums["tars_mqtt_handled_total"] >= published as f64);
    // What was under way when the broker went settled when it was back.
    assert!(
        (OUTAGE.as_secs_f64()..=outage.as_secs_f64() + 0.1).contains(&longest),
        "{longest} s, and the outage was {outage:?}"
    );

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    println!("{text}");
    // Paho has one more to say, when it connects.
    let said = text
        .lines()
        .filter(|line| !line.contains("this adapter acknowledges messages on receipt"));
    let mut lines = said.map(without_spans).peekable();
    for expected in STORY {
        assert!(
            lines.next().is_some_and(|line| line.starts_with(expected)),
            "{expected}\nis missing in\n{text}"
        );
        // Attempts while the broker is away, after the first: each sets the next, failures are said once.
        while expected.ends_with("attempt=2") && lines.next_if(|line| line.contains("attempt")).is_some() {}
    }
    assert_eq!(lines.next(), None, "{text}");
    let caught_up = text.lines().find(|line| line.contains("what waited")).unwrap();
    assert!(caught_up.contains("publishes=1 failed=0"), "{caught_up}");
    assert!(client.shutdown().await.is_complete());
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let last = text.lines().last().unwrap();
    assert!(
        last.contains("disconnected client_id=svc ending=Shutdown") && last.ends_with("goodbye=true"),
        "{last}"
    );
    assert_eq!(
        text.lines().filter(|line| line.contains("work/")).count(),
        0,
        "nothing per message"
    );
}

/// `INFO connect{…}: text` as `INFO text`.
fn without_spans(line: &str) -> String {
    let (level, rest) = line.trim().split_once(' ').unwrap();
    let text = rest.trim().rsplit_once("}: ").map_or(rest.trim(), |(_, text)| text);
    format!("{level} {text}")
}

#[tokio::test]
async fn a_restart_of_the_broker_is_a_story_of_few_lines_and_a_delay() {
    a_restart_under_traffic(Adapter::Rumqttc).await;
}

#[cfg(feature = "paho")]
#[tokio::test]
async fn a_restart_of_the_broker_is_the_same_story_with_paho() {
    a_restart_under_traffic(Adapter::Paho).await;
}
