//! A Python service and a Rust service in one fleet, each asking the other: requests, streams,
//! health, heartbeats, and what comes twice. The Python one is `tests/python/fleet.py`, whose strict
//! models end it at the first field they do not know.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tars_mqtt::{Adapter, Bytes, Client, Context, Envelope, Error, ErrorReply, HealthStatus, Heartbeat, QoS};
use tars_testkit::mosquitto::Mosquitto;

use crate::support::child::Child;
use crate::support::seen::Seen;
use crate::support::{ADAPTERS, PATIENCE, broker, config, connected, connected_with, python, within};

#[derive(Serialize, Deserialize, Default)]
struct Numbers {
    numbers: Vec<i64>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Sum {
    sum: i64,
}

#[derive(Serialize, Deserialize)]
struct Words {
    words: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Word {
    word: String,
}

#[derive(Serialize, Deserialize)]
struct Job {
    number: u64,
}

/// What Python says of what it was told to do.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Told {
    sums: Vec<i64>,
    words: Vec<String>,
    problem: Option<ErrorReply>,
    health: Option<HealthStatus>,
    jobs: Vec<u64>,
}

/// Both services, and a third party that tells Python what to do.
struct Fleet {
    rust: Client,
    teller: Client,
    python: Child,
    /// How often the Rust service has added numbers.
    sums: Arc<AtomicU64>,
    /// The jobs it has handled.
    jobs: Seen<u64>,
}

impl Fleet {
    async fn start(broker: &Mosquitto, adapter: Adapter) -> Self {
        let rust = config(broker, "rs").adapter(adapter).enable_health(true);
        let rust = rust.enable_heartbeat(true).heartbeat_interval(Duration::from_secs(1));
        let rust = connected_with(rust.dedupe_ttl(PATIENCE)).await;
        let (sums, jobs) = (Arc::new(AtomicU64::new(0)), Seen::default());
        let (runs, noted) = (sums.clone(), jobs.clone());
        let sum = move |asked: Envelope<Numbers>| {
            runs.fetch_add(1, Relaxed);
            let numbers = asked.data.numbers;
            async move {
                if numbers.is_empty() {
                    return Err(ErrorReply::new("empty", "there is nothing to add"));
                }
                Ok(Sum {
                    sum: numbers.iter().sum(),
                })
            }
        };
        rust.respond("rs/sum", "rs/response", "rs.response", sum).await.unwrap();
        rust.subscribe("rs/count", count).qos(QoS::AtLeastOnce).await.unwrap();
        let job = move |job: Envelope<Job>| {
            noted.push(job.data.number);
            async {}
        };
        rust.subscribe("rs/job", job).qos(QoS::AtLeastOnce).await.unwrap();
        let python = python::launch("fleet.py", broker).await;
        let teller = connected(broker, "teller").await;
        Self {
            rust,
            teller,
            python,
            sums,
            jobs,
        }
    }

    /// Tells Python to do something, and waits for what came of it.
    async fn tell(&self, topic: &str, data: &impl Serialize) -> Told {
        let request = self.teller.request::<Told>(topic, "py.command", data);
        let told = request.reply_on("py/told").timeout(PATIENCE).await;
        told.unwrap_or_else(|error| panic!("{topic}: {error}")).data
    }

    async fn end(self, name: &str) {
        assert_eq!(self.rust.stats().invalid, 0, "{name}");
        assert_eq!(self.rust.stats().requests, 0, "{name}");
        self.rust.shutdown().await;
        self.teller.shutdown().await;
        self.python.kill().await;
    }
}

/// The words one by one; at an empty one it fails.
async fn count(asked: Envelope<Words>, context: Context) -> Result<(), Error> {
    let mut words = context.stream_reply("rs/stream", "rs.stream")?.qos(QoS::AtLeastOnce);
    for word in asked.data.words {
        if word.is_empty() {
            return words.fail(ErrorReply::new("silent", "there is no word")).await;
        }
        words.send(&Word { word }).await?;
    }
    words.finish().await
}

#[tokio::test]
async fn each_asks_and_answers_the_other() {
    for (name, adapter) in ADAPTERS {
        let broker = broker().await;
        let fleet = Fleet::start(&broker, *adapter).await;
        let ask_python = |numbers: Vec<i64>| {
            let data = Numbers { numbers };
            let request = fleet.rust.request::<Sum>("py/sum", "py.sum", &data);
            request.reply_on("py/response").timeout(PATIENCE).into_future()
        };
        let answers = join_all((0..100).map(|n| ask_python(vec![n, n, 1]))).await;
        for (n, answer) in (0..).zip(answers) {
            let answer = answer.unwrap();
            let expected = ("py.response", "py", Sum { sum: 2 * n + 1 });
            assert_eq!(
                (answer.event_type.as_str(), answer.source.as_str(), answer.data),
                expected
            );
        }
        // The third party asks Python, Python asks Rust.
        let numbers = (0..100).map(|n| Numbers { numbers: vec![n, -1] });
        let numbers: Vec<_> = numbers.collect();
        let told = join_all(numbers.iter().map(|numbers| fleet.tell("py/ask", numbers))).await;
        for (n, told) in (0..).zip(told) {
            assert_eq!(told.sums, [n - 1], "{name}");
        }
        // Errors, both ways.
        let problem = fleet.tell("py/ask", &Numbers::default()).await.problem.unwrap();
        assert_eq!(
            (problem.kind.as_str(), problem.error.as_str()),
            ("empty", "there is nothing to add")
        );
        let data = json!({"numbers": ["one"]});
        let request = fleet
            .rust
            .request::<Sum>("py/sum", "py.sum", &data)
            .reply_on("py/response");
        let error = request.await.unwrap_err();
        assert_eq!(ErrorReply::of(&error).unwrap().kind, "invalid", "{name}");
        fleet.end(name).await;
    }
}

#[tokio::test]
async fn each_streams_to_the_other() {
    for (name, adapter) in ADAPTERS {
        let broker = broker().await;
        let fleet = Fleet::start(&broker, *adapter).await;
        let words: Vec<_> = (0..200).map(|n| format!("Wort-{n} ✓")).collect();
        let told = fleet.tell("py/listen", &Words { words: words.clone() }).await;
        assert_eq!(told.words, words, "{name}");
        let words_and_none = ["one", "two", ""].map(str::to_owned).to_vec();
        let told = fleet.tell("py/listen", &Words { words: words_and_none }).await;
        assert_eq!(told.words, ["one", "two"]);
        assert_eq!(told.problem.unwrap().kind, "silent", "{name}");

        let stream = fleet
            .rust
            .request_stream::<Word>("py/count", "py.count", &Words { words: words.clone() });
        let mut stream = within("the stream", stream.reply_on("py/stream").into_future())
            .await
            .unwrap();
        for word in &words {
            let item = within("an item", stream.next()).await.unwrap().unwrap();
            assert_eq!(
                (item.data.word.as_str(), item.event_type.as_str()),
                (word.as_str(), "py.stream.delta")
            );
        }
        assert!(within("the end", stream.next()).await.is_none(), "{name}");
        drop(stream);
        fleet.end(name).await;
    }
}

#[tokio::test]
async fn each_knows_how_the_other_is() {
    for (name, adapter) in ADAPTERS {
        let broker = broker().await;
        let fleet = Fleet::start(&broker, *adapter).await;
        let (rust, beats) = (&fleet.rust, Seen::default());
        let known = async |event: &str| {
            let health = fleet
                .tell("py/health", &json!({"id": "rs", "event": event}))
                .await
                .health
                .unwrap();
            (health.ok, health.error)
        };
        assert_eq!(known("connected").await, (true, None), "{name}");
        rust.publish_health(false)
            .event("blind")
            .error("die Kamera fehlt")
            .await
            .unwrap();
        assert_eq!(
            known("blind").await,
            (false, Some("die Kamera fehlt".to_owned())),
            "{name}"
        );
        fleet.tell("py/beats", &json!({"id": "rs"})).await;

        let ready = within("Python is well", rust.wait_for_peer("py").into_future())
            .await
            .unwrap();
        assert_eq!(ready.event.as_deref(), Some("ready"), "{name}");
        let noted = beats.clone();
        let on_beat = move |payload: Bytes| {
            noted.push(Heartbeat::from_bytes(&payload).is_ok_and(|beat| beat.ok));
            async {}
        };
        rust.subscribe("system/keepalive/py", on_beat).await.unwrap();
        assert!(beats.reach(3).await.iter().all(|ok| *ok), "{name}");

        let statuses = Seen::default();
        let noted = statuses.clone();
        let on_health = move |health: Envelope<HealthStatus>| {
            noted.push(health.data);
            async {}
        };
        fleet.teller.subscribe("system/health/py", on_health).await.unwrap();

        // Their ends: in good order, and by the last will.
        assert_eq!(rust.stats().invalid, 0);
        rust.shutdown().await;
        assert_eq!(known("shutdown").await, (false, None), "{name}");
        fleet.python.kill().await;
        let last = |all: &[HealthStatus]| {
            all.last()
                .is_some_and(|health| health.event.as_deref() == Some("offline"))
        };
        let health = statuses.until(last).await.pop().unwrap();
        assert_eq!(
            (health.ok, health.error.as_deref()),
            (false, Some("connection lost")),
            "{name}"
        );
    }
}

#[tokio::test]
async fn each_handles_once_what_the_other_sends_twice() {
    for (name, adapter) in ADAPTERS {
        let broker = broker().await;
        let fleet = Fleet::start(&broker, *adapter).await;
        // Events from Python, and the last one says that there will be no more.
        fleet.tell("py/twice", &Job { number: 7 }).await;
        assert_eq!(fleet.jobs.until(|jobs| jobs.contains(&0)).await, [7, 0], "{name}");
        assert_eq!(fleet.rust.stats().duplicates, 1, "{name}");
        // A request from Python: run once, answered twice.
        let told = fleet.tell("py/ask_twice", &Numbers { numbers: vec![20, 22] }).await;
        assert_eq!(told.sums, [42, 42], "{name}");
        assert_eq!(
            (fleet.sums.load(Relaxed), fleet.rust.stats().answered_again),
            (1, 1),
            "{name}"
        );
        // Events to Python.
        for (id, number) in [("one", 1), ("one", 1), ("two", 2), ("one", 1)] {
            let publish = fleet.rust.publish_event("py/job", "py.job", &Job { number });
            publish.correlation_id(id).qos(QoS::AtLeastOnce).await.unwrap();
        }
        let told = fleet.tell("py/jobs", &json!({})).await;
        assert_eq!(told.jobs, [1, 2], "{name}");
        fleet.end(name).await;
    }
}
