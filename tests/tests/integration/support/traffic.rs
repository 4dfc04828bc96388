//! Numbered events without a pause, and the ledger that knows who handled which.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tars_mqtt::{Client, Envelope, QoS, TopicName};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::within;

/// Between two events of one lane: enough for thousands, few enough for a broker's log of them.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Serialize, Deserialize)]
struct Numbered {
    number: u64,
}

/// A task that publishes `{lane}/{number}` at QoS 1, one after the other: the next when the one
/// before returned `Ok`. So at any moment one publish of a lane is unsettled.
pub(crate) struct Traffic {
    accepted: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Traffic {
    /// # Panics
    /// In the task, when a publish fails: through every restart all have to be `Ok`.
    pub(crate) fn start(client: &Client, lane: &'static str) -> Self {
        let (accepted, watched) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let client = client.clone();
        let task = tokio::spawn(async move {
            let mut number = 0;
            while !*stopped.borrow() {
                let data = Numbered { number };
                let publish = client.publish_event(format!("{lane}/{number}"), "traffic.numbered", &data);
                publish.qos(QoS::AtLeastOnce).await.unwrap();
                number += 1;
                let _ = accepted.send(number);
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self {
            accepted: watched,
            stop,
            task,
        }
    }

    /// How many returned `Ok`: the numbers below this.
    pub(crate) fn accepted(&self) -> u64 {
        *self.accepted.borrow()
    }

    /// Waits until so many more returned `Ok`; the number of all that did.
    pub(crate) async fn more(&mut self, count: u64) -> u64 {
        let goal = self.accepted() + count;
        let reached = self.accepted.wait_for(|accepted| *accepted >= goal);
        *within("publishes that return Ok", reached)
            .await
            .expect("the publisher goes on")
    }

    /// Ends it; how many returned `Ok`.
    pub(crate) async fn finish(self) -> u64 {
        let _ = self.stop.send(true);
        within("the last publish", self.task).await.unwrap();
        *self.accepted.borrow()
    }
}

/// How often each subscription handled each event.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<watch::Sender<BTreeMap<(String, String), u32>>>);

impl Ledger {
    /// Subscribes at QoS 1; each event takes that long and is entered with its topic.
    pub(crate) async fn subscribe(&self, client: &Client, filter: &'static str, work: Duration) {
        let ledger = self.clone();
        let handler = move |event: Envelope<Numbered>, topic: TopicName| {
            let ledger = ledger.clone();
            async move {
                assert!(topic.as_str().ends_with(&format!("/{}", event.data.number)), "{topic}");
                if !work.is_zero() {
                    tokio::time::sleep(work).await;
                }
                let key = (filter.to_owned(), topic.as_str().to_owned());
                ledger.0.send_modify(|counts| *counts.entry(key).or_default() += 1);
            }
        };
        let subscribing = client.subscribe(filter, handler).qos(QoS::AtLeastOnce);
        within("a granted subscription", subscribing.into_future())
            .await
            .unwrap();
    }

    /// Waits until this subscription has handled this event.
    pub(crate) async fn until_handled(&self, filter: &str, topic: &str) {
        let key = (filter.to_owned(), topic.to_owned());
        let mut receiver = self.0.subscribe();
        let handled = receiver.wait_for(|counts| counts.contains_key(&key));
        within(&format!("{filter} handles {topic}"), handled)
            .await
            .expect("the ledger is alive");
    }

    /// Runs beyond the first, of this subscription on this lane.
    pub(crate) fn repeated(&self, filter: &str, lane: &str) -> u64 {
        let counts = self.0.borrow();
        let of_lane = counts
            .iter()
            .filter(|((by, topic), _)| by == filter && topic.starts_with(lane));
        of_lane.map(|(_, count)| u64::from(*count) - 1).sum()
    }
}
