//! The broker is killed or stopped ten times under traffic. What may be demanded then?
//!
//! A broker may lose what it acknowledged: Mosquitto sends PUBACK first and saves later, and a kill
//! may fall in between. So "every publish that returned `Ok` is handled" is not true of any client
//! without conditions. Three settings in which it is, or nearly is:
//!
//! 1. **Killed; one client publishes and subscribes.** Mosquitto writes a message to the matching
//!    sessions before it writes PUBACK. Where both go into the same stream, whoever read PUBACK has
//!    read the message before it, provided that the session's window has room (it is opened wide
//!    here). So *everything* that returned `Ok` is handled, without any persistence.
//! 2. **Stopped with SIGTERM; the subscriber's session is kept.** Mosquitto saves before it goes. So
//!    *everything* that returned `Ok` is handled by another client as well.
//! 3. **Killed; the subscriber's session is kept.** Everything that a *completed* save has is
//!    handled. Which that is stands in the broker's log: it is written by the thread that saves, so
//!    another line of the same life after "Saving in-memory database" proves the save complete.
//!
//! In all three no publish fails, every subscription is back after every restart (what is published
//! from then on is handled while the broker is up), and nobody helps the clients. In the first,
//! nothing is handled twice but what was unsettled when the broker was killed.

use std::collections::BTreeSet;
use std::time::Duration;

use tars_mqtt::{Client, QoS};
use tars_testkit::mosquitto::Mosquitto;

use crate::support::traffic::{Ledger, Traffic};
use crate::support::{config, connected, connected_with, started, within};

const ROUNDS: u64 = 10;

/// Published between two restarts at least, by each lane.
const EVENTS: u64 = 40;

/// The first matches all, and the second as well: every event comes by three overlapping filters.
const FILTERS: [&str; 4] = ["work/#", "work/+/+", "work/a/+", "work/b/+"];
/// This one falls behind, so that events wait for it whenever the broker goes.
const SLOW: &str = "work/b/+";
const WORK: Duration = Duration::from_millis(5);

/// Each lane, and who takes its events.
const LANES: [(&str, [&str; 3]); 2] = [
    ("work/a", ["work/#", "work/+/+", "work/a/+"]),
    ("work/b", ["work/#", "work/+/+", "work/b/+"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_ten_times_a_client_handles_all_that_it_published() {
    // Without persistence: every restart forgets every session.
    let builder = Mosquitto::builder().config_line("max_inflight_messages 65535");
    let mut broker = started(builder).await;
    let client = connected(&broker, "svc").await;
    let mut run = Run::start(&client, &client).await;
    for _ in 0..ROUNDS {
        run.traffic().await;
        broker.kill().await.unwrap();
        broker.start_again().await.unwrap();
        run.everything_is_back().await;
    }
    let ledger = run.all_is_handled_that_returned_ok().await;
    for (lane, filters) in LANES {
        for filter in filters {
            // One publish of a lane is unsettled at any moment.
            assert!(ledger.repeated(filter, lane) <= ROUNDS);
        }
    }
    assert_eq!(client.stats().connects, ROUNDS + 1);
    assert!(client.shutdown().await.is_complete());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_ten_times_nothing_that_returned_ok_is_lost_on_a_kept_session() {
    let mut broker = started(Mosquitto::builder().persistence(true)).await;
    let publisher = connected(&broker, "publisher").await;
    let subscriber = connected_with(config(&broker, "subscriber").clean_session(false)).await;
    let mut run = Run::start(&publisher, &subscriber).await;
    for _ in 0..ROUNDS {
        run.traffic().await;
        broker.restart().await.unwrap();
        run.everything_is_back().await;
    }
    run.all_is_handled_that_returned_ok().await;
    for client in [publisher, subscriber] {
        assert_eq!(client.stats().connects, ROUNDS + 1);
        assert!(client.shutdown().await.is_complete());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_ten_times_all_that_the_broker_had_saved_is_handled_on_a_kept_session() {
    let builder = Mosquitto::builder().persistence(true);
    let builder = builder
        .config_line("autosave_on_changes true")
        .config_line("autosave_interval 1");
    let mut broker = started(builder).await;
    let publisher = connected(&broker, "publisher").await;
    let subscriber = connected_with(config(&broker, "subscriber").clean_session(false)).await;
    let mut run = Run::start(&publisher, &subscriber).await;
    let mut all_saved = BTreeSet::new();
    let mut life = 0;
    for _ in 0..ROUNDS {
        run.traffic().await;
        make_it_save(&publisher).await;
        // These may be lost, as far as no save follows.
        run.traffic().await;
        broker.kill().await.unwrap();
        // Between two lives, so that no line of the next one is taken for this one's.
        let log = broker.log();
        all_saved.append(&mut saved(&log[life..]));
        life = log.len();
        broker.start_again().await.unwrap();
        run.everything_is_back().await;
    }
    let ledger = run.finish().await.0;
    for (lane, filters) in LANES {
        let of_lane: Vec<_> = all_saved.iter().filter(|topic| topic.starts_with(lane)).collect();
        assert!(of_lane.len() as u64 >= ROUNDS * EVENTS, "only {of_lane:?} was saved");
        for topic in of_lane {
            for filter in filters {
                ledger.until_handled(filter, topic).await;
            }
        }
    }
    for client in [publisher, subscriber] {
        assert_eq!(client.stats().connects, ROUNDS + 1);
        assert!(client.shutdown().await.is_complete());
    }
}

/// Traffic on all lanes, and the ledger of who handled it.
struct Run {
    ledger: Ledger,
    lanes: Vec<Traffic>,
}

impl Run {
    async fn start(publisher: &Client, subscriber: &Client) -> Self {
        let ledger = Ledger::default();
        for filter in FILTERS {
            let work = if filter == SLOW { WORK } else { Duration::ZERO };
            ledger.subscribe(subscriber, filter, work).await;
        }
        let lanes = LANES.iter().map(|(lane, _)| Traffic::start(publisher, lane)).collect();
        Self { ledger, lanes }
    }

    /// Some more was published, `Ok`.
    async fn traffic(&mut self) {
        for traffic in &mut self.lanes {
            traffic.more(EVENTS).await;
        }
    }

    /// What is published now is handled by every subscription.
    async fn everything_is_back(&mut self) {
        for (traffic, (lane, filters)) in self.lanes.iter_mut().zip(LANES) {
            let last = traffic.more(EVENTS).await - 1;
            for filter in filters {
                self.ledger.until_handled(filter, &format!("{lane}/{last}")).await;
            }
        }
    }

    /// Ends the traffic; the ledger, and how many events of each lane returned `Ok`.
    async fn finish(self) -> (Ledger, Vec<u64>) {
        let mut accepted = Vec::new();
        for traffic in self.lanes {
            accepted.push(traffic.finish().await);
        }
        (self.ledger, accepted)
    }

    async fn all_is_handled_that_returned_ok(self) -> Ledger {
        let (ledger, accepted) = self.finish().await;
        for ((lane, filters), accepted) in LANES.into_iter().zip(accepted) {
            assert!(accepted >= 2 * ROUNDS * EVENTS);
            for filter in filters {
                for number in 0..accepted {
                    ledger.until_handled(filter, &format!("{lane}/{number}")).await;
                }
            }
        }
        ledger
    }
}

/// Returns once a save is complete that has all that returned `Ok` so far.
async fn make_it_save(publisher: &Client) {
    // A changed retained message is saved at the end of the turn of the broker's loop that took it.
    // Another turn has ended it when the second is acknowledged.
    for _ in 0..2 {
        let publish = publisher.publish("save", "now").qos(QoS::AtLeastOnce).retain(true);
        within("a retained message", publish.into_future()).await.unwrap();
    }
}

/// The topics of all events that a completed save has, from the log of one life of the broker.
/// Where it ends with a save, the kill may have interrupted that.
fn saved(life: &str) -> BTreeSet<String> {
    let mut saved = BTreeSet::new();
    let mut taken = Vec::new();
    let mut is_saving = false;
    for line in life.lines() {
        if std::mem::take(&mut is_saving) {
            saved.extend(taken.drain(..));
        }
        if line.contains("Saving in-memory database") {
            is_saving = true;
        } else if line.contains("Received PUBLISH from publisher ") {
            // `… (d0, q1, r0, m2, 'topic', … (99 bytes))`
            taken.extend(line.split('\'').nth(1).map(str::to_owned));
        }
    }
    saved
}

#[test]
fn only_a_completed_save_counts() {
    let received = |topic| format!("1: Received PUBLISH from publisher (d0, q1, r0, m1, '{topic}', ... (9 bytes))\n");
    let save = "1: Saving in-memory database to /x/mosquitto.db.\n";
    let log = [&received("a/1"), save, &received("a/2"), save].concat();
    assert_eq!(saved(&log).into_iter().collect::<Vec<_>>(), ["a/1"]);
}
