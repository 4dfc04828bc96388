//! Who is measured: one side of a traffic, in a process of its own.
//!
//! The harness and a peer talk in lines. The peer is given its [`Job`] as JSON on its command line.
//! It says `ready` when it is connected (and subscribed), begins at `go`, says `done` when all has
//! been published or has arrived, and at `end` reports in one line of JSON ([`Report`]) and ends.

mod limit;
mod ours;
mod raw_paho;
mod raw_rumqttc;
mod talk;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tars_mqtt::QoS;

pub use self::talk::Talk;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// Pre-encoded frames on plain sockets: what the broker can carry.
    Limit,
    /// The loop one writes by hand on rumqttc.
    RawRumqttc,
    /// The same on paho-mqtt.
    RawPaho,
    /// aiomqtt, pydantic, orjson.
    Python,
    /// The facade with its defaults.
    Ours,
    /// The facade on Eclipse Paho.
    OursPaho,
    /// The facade with deduplication on.
    OursDedupe,
}

impl Peer {
    /// As the tables name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::RawRumqttc => "raw rumqttc",
            Self::RawPaho => "raw paho",
            Self::Python => "python",
            Self::Ours => "ours (rumqttc)",
            Self::OursPaho => "ours (paho)",
            Self::OursDedupe => "ours, dedupe on",
        }
    }
}

/// What a peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Publishes `messages` events.
    Publish,
    /// Takes them.
    Subscribe,
    /// Asks `messages` times, `rate` times a second, and measures each round trip.
    Request,
    /// Answers.
    Respond,
    /// Is connected, and subscribed to `messages` filters; nothing else. Or, as the limit, a bare
    /// tokio program without a client.
    Idle,
    /// Publishes `messages` with `fail_fast` while the broker is away.
    Offline,
    /// Is subscribed to `messages` filters, and says when the last of them has been handled after
    /// a reconnect.
    Reconnect,
}

/// How a publisher goes on to the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// When the one before has settled.
    Awaited,
    /// As soon as it is taken in.
    Pipelined,
}

/// What a peer is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Who.
    pub peer: Peer,
    /// What.
    pub side: Side,
    /// The broker's port on 127.0.0.1.
    pub port: u16,
    /// Of this run alone.
    pub topic: String,
    /// 0 or 1.
    pub qos: u8,
    /// How many.
    pub messages: u64,
    /// Of `data`, in bytes.
    pub size: usize,
    /// How a publisher goes on.
    pub pace: Pace,
    /// Publishing tasks on the one client.
    pub tasks: u64,
    /// Publishes in flight: that of our defaults, for everybody.
    pub window: u16,
    /// Requests a second.
    pub rate: u64,
}

impl Job {
    fn qos(&self) -> QoS {
        if self.qos == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        }
    }

    /// Unique to the run.
    fn client_id(&self) -> String {
        format!("{}-{:?}", self.topic.replace('/', "-"), self.side)
    }

    /// Where replies go.
    fn reply_topic(&self) -> String {
        format!("{}/reply", self.topic)
    }
}

/// What a peer has seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Messages that were confirmed, or arrived.
    pub count: u64,
    /// The sum of their numbers, where it is known.
    pub sum: Option<u64>,
    /// When the first publish began, on the machine's monotonic clock, in nanoseconds.
    pub first: u64,
    /// When the last one was confirmed or handled.
    pub last: u64,
    /// CPU time from `go` to `end`, in nanoseconds.
    pub cpu: u64,
    /// Resident memory at the end, in bytes.
    pub resident: u64,
    /// Resident memory on the way, in bytes.
    #[serde(default)]
    pub resident_on_the_way: Vec<u64>,
    /// Round trips, in nanoseconds.
    #[serde(default)]
    pub latencies: Vec<u64>,
}

/// What has arrived so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

impl Tally {
    /// One more; `true` with the last.
    pub(crate) fn add(&mut self, n: u64, of: u64) -> bool {
        self.count += 1;
        self.sum += n;
        self.count == of
    }
}

/// Does what a peer is told, in this process.
///
/// # Errors
/// When the connection ends, or a peer cannot do this.
pub fn run(job: &Job) -> Result<()> {
    if job.peer == Peer::Limit && job.side != Side::Idle {
        return limit::run(job);
    }
    // As `#[tokio::main]` makes it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match job.peer {
            Peer::RawRumqttc => raw_rumqttc::run(job).await,
            Peer::RawPaho => raw_paho::run(job).await,
            Peer::Ours | Peer::OursPaho | Peer::OursDedupe => ours::run(job).await,
            Peer::Limit => Talk::default().idle().await,
            Peer::Python => anyhow::bail!("the Python peer is a program of its own"),
        }
    })
}
