//! The contract of a publisher, for each layer and for random stacks of them, on a publisher
//! that fails at random.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use proptest::prelude::*;
use serde_json::Value;
use tars_layers::{Batching, Events, LayerExt, Observe, Retry};
use tars_ports::{ErrorKind, Fate, Message, Publisher, PublisherExt, QoS, TryPublishError};
use tokio::time::timeout;

use crate::flaky::Flaky;
use crate::{message, secs};

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Batching,
    Retry,
    Observe,
    Events,
}

type Shutdown = Box<dyn FnOnce() -> BoxFuture<'static, ()>>;

struct Stack {
    outermost: Arc<dyn Publisher>,
    /// From the inside out.
    shutdowns: Vec<Shutdown>,
}

impl Stack {
    fn new(inner: Flaky, kinds: &[Kind]) -> Self {
        let mut stack = Self {
            outermost: Arc::new(inner),
            shutdowns: Vec::new(),
        };
        for kind in kinds {
            let inner = stack.outermost.clone();
            macro_rules! around {
                ($layer:expr) => {{
                    let layered = inner.layer($layer);
                    stack.outermost = Arc::new(layered.clone());
                    stack.shutdowns.push(Box::new(move || {
                        Box::pin(async move { layered.shutdown().await })
                    }));
                }};
            }
            match kind {
                Kind::Batching => around!(
                    Batching::new("s")
                        .items(3)
                        .pending(7, 1 << 20)
                        .shutdown_timeout(secs(60))
                ),
                Kind::Retry => around!(Retry::new().attempts(4).seed(1).pending(5).shutdown_timeout(secs(60))),
                Kind::Observe => around!(Observe::new(|published| assert!(published.bytes > 0))),
                Kind::Events => stack.outermost = Arc::new(inner.layer(Events::new("s"))),
            }
        }
        stack
    }

    async fn shutdown(self) {
        for shutdown in self.shutdowns.into_iter().rev() {
            shutdown().await;
        }
    }
}

/// The numbers of the messages in a payload, through any depth of batches.
fn numbers(value: &Value) -> Vec<u64> {
    let data = value.get("data").unwrap_or(value);
    match (&data["n"], &data["items"]) {
        (Value::Number(number), _) => vec![number.as_u64().unwrap()],
        (_, Value::Array(items)) => items.iter().flat_map(numbers).collect(),
        _ => panic!("no message of this test: {value}"),
    }
}

fn arrived(flaky: &Flaky) -> Vec<u64> {
    let value = |message: Message| serde_json::from_slice::<Value>(&message.payload).unwrap();
    flaky
        .arrived()
        .into_iter()
        .flat_map(|message| numbers(&value(message)))
        .collect()
}

/// Publishes `count` messages without waiting for receipts, and looks at all that is promised.
async fn keeps_the_contract(kinds: &[Kind], seed: u64, percent: u8, count: u64) {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let flaky = Flaky::random(seed, percent);
    let stack = Stack::new(flaky.clone(), kinds);
    let mut receipts = HashMap::new();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lanes = HashMap::new();
    for number in 0..count {
        let lane = (random.usize(0..2), QOS[random.usize(0..3)]);
        let mut message = message(["a", "b/c"][lane.0], number as usize, lane.1);
        let receipt = loop {
            let given = message.clone();
            match stack.outermost.try_publish(message) {
                Ok(receipt) => break Ok(receipt),
                Err(TryPublishError::Full(back)) => {
                    assert_eq!(back, given, "the message comes back as it was");
                    message = back;
                    let ready = timeout(secs(600), stack.outermost.ready(lane.1)).await;
                    ready.expect("room comes").expect("nothing is shut down");
                }
                Err(TryPublishError::Failed(error)) => break Err(error),
                Err(other) => panic!("{other:?}"),
            }
        };
        lanes.insert(number, lane);
        receipts.insert(number, receipt);
    }
    let last = stack.outermost.clone();
    stack.shutdown().await;
    if kinds.iter().any(|kind| *kind != Kind::Events) {
        let late = last.publish(message("a", 0, QoS::AtMostOnce)).await;
        let closed = late.is_err_and(|error| error.kind() == ErrorKind::Closed);
        assert!(
            closed || kinds.last() == Some(&Kind::Events) || kinds.is_empty(),
            "it is shut down"
        );
    }

    let mut results = HashMap::new();
    for (number, receipt) in receipts {
        let result = match receipt {
            Ok(receipt) => timeout(secs(600), receipt)
                .await
                .expect("every receipt settles")
                .map(|_| ()),
            Err(error) => Err(error.with_fate(Fate::NotSent)),
        };
        results.insert(number, result);
    }
    let arrived = arrived(&flaky);
    for (number, result) in &results {
        let copies = arrived.iter().filter(|seen| *seen == number).count();
        match result {
            Ok(()) => assert!(copies >= 1, "{number} was confirmed and did not arrive"),
            Err(error) if error.fate() == Some(Fate::NotSent) => assert_eq!(copies, 0, "{number}: {error}"),
            Err(_) => {}
        }
        assert!(
            copies <= 1 || lanes[number].1 == QoS::AtLeastOnce,
            "{number} arrived {copies} times"
        );
    }
    if percent == 0 {
        assert!(results.values().all(Result::is_ok));
        let mut per_lane: HashMap<_, Vec<u64>> = HashMap::new();
        arrived
            .iter()
            .for_each(|number| per_lane.entry(lanes[number]).or_default().push(*number));
        assert!(
            per_lane.values().all(|numbers| numbers.is_sorted()),
            "out of order: {per_lane:?}"
        );
    }
    assert!(
        flaky.most_unsettled() <= 8,
        "more is under way than the wrapped publisher allows"
    );
    drop(last);
    // Those of the wrapped publisher end with what it still settles.
    timeout(secs(600), async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("no task is left");
}

fn run(kinds: &[Kind], seed: u64, percent: u8, count: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(keeps_the_contract(kinds, seed, percent, count));
}

#[test]
fn each_layer_by_itself() {
    for kind in [Kind::Batching, Kind::Retry, Kind::Observe, Kind::Events] {
        for (seed, percent) in [(1, 0), (2, 20), (3, 60)] {
            run(&[kind], seed, percent, 60);
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Batching, Kind::Retry, Kind::Observe, Kind::Events])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_stack_of_them(
        kinds in prop::collection::vec(kind(), 0..5), seed: u64,
        percent in prop::sample::select(vec![0u8, 10, 40, 80]), count in 1u64..50,
    ) {
        run(&kinds, seed, percent, count);
    }
}
