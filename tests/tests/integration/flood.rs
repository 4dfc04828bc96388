//! A flood of QoS 1 messages against a handler that is slower, with a keepalive of two seconds, in
//! a process of its own: the connection stays up, memory stays bounded, all are handled in order.
//!
//! The broker's window is opened wide, so that nothing but the client's own budget holds the
//! flood back; and because Mosquitto 2.0.11 with a full window sends new messages before those that
//! waited. No limit drops what waits at the broker (the testkit's default).
//!
//! The form that runs with the suites takes some ten seconds; `cargo xtask flood` runs the full one.

use std::time::{Duration, Instant};

use tars_mqtt::{Adapter, QoS};
use tars_testkit::mosquitto::Mosquitto;

use crate::support::child::{Child, fixture};
use crate::support::{connected, started, within};

const KEEPALIVE: Duration = Duration::from_secs(2);
const PAYLOAD: usize = 4 * 1024;

/// How much comes how fast.
struct Flood {
    messages: u64,
    /// A run of the handler, in milliseconds.
    work: u64,
    /// Published and not handled, at most. The budget of the client is a fraction of it.
    ahead: u64,
}

impl Flood {
    fn of_this_run() -> Self {
        match std::env::var("TARS_FLOOD").as_deref() {
            Ok("full") => Self {
                messages: 100_000,
                work: 5,
                ahead: 10_000,
            },
            _ => Self {
                messages: 3_000,
                work: 3,
                ahead: 3_000,
            },
        }
    }
}

/// Messages the client takes in before it stops reading, and KiB by which its memory may grow.
fn bounds(adapter: Adapter) -> (u64, u64) {
    match adapter {
        // Paho cannot stop reading: eight times the budget, and no more than 64 MiB, is what it
        // holds before it gives the connection up. So there the budget has to fit the flood.
        Adapter::Paho => (2_048, 2 * 64 * 1024),
        // A tenth of what comes in the short form.
        _ => (256, 8 * 1024),
    }
}

async fn is_handled_in_order_on_one_connection(adapter: Adapter) {
    let flood = Flood::of_this_run();
    let (budget, growth) = bounds(adapter);
    let broker = started(Mosquitto::builder().config_line("max_inflight_messages 65535")).await;
    let mut command = fixture("slow");
    command
        .args([flood.work, budget].map(|number| number.to_string()))
        .env("MQTT_URL", broker.url())
        .env("MQTT_CLIENT_ID", "slow")
        .env("MQTT_KEEPALIVE", KEEPALIVE.as_secs().to_string())
        .env("MQTT_ADAPTER", adapter.name());
    let mut slow = Child::start(command);
    slow.until_line("ready").await;
    let before = slow.peak_memory();
    let begin = Instant::now();

    let publisher = connected(&broker, "publisher").await;
    let mut receipts = Vec::new();
    let mut handled = 0;
    for number in 0..flood.messages {
        while number - handled >= flood.ahead {
            handled = next_handled(&mut slow).await;
        }
        let publish = publisher.publish("flood", format!("{number:PAYLOAD$}"));
        let accepted = publish.qos(QoS::AtLeastOnce).accepted();
        receipts.push(within("room for a publish", accepted).await.unwrap());
    }
    for receipt in receipts {
        within("PUBACK", receipt).await.unwrap();
    }
    let published = begin.elapsed();
    while handled < flood.messages {
        handled = next_handled(&mut slow).await;
    }

    let took = begin.elapsed();
    assert!(took > 3 * KEEPALIVE, "{took:?} is no test of the keepalive");
    let grown = slow.peak_memory() - before;
    println!(
        "{}: {handled} handled in order in {took:.1?} (published in {published:.1?}); memory grew by {grown} KiB",
        adapter.name()
    );
    assert!(grown < growth, "memory grew by {grown} KiB from {before} KiB");
    let end = slow.terminate().await;
    assert!(end.status.success(), "{}", end.errors);
    assert_eq!(end.output, "", "each was handled once");
    let log = broker.log();
    let connects = log
        .lines()
        .filter(|line| line.contains("New client connected") && line.contains(" as slow "));
    assert_eq!(connects.count(), 1, "it was connected all the time");
}

/// How many the service has handled, by its next line.
async fn next_handled(slow: &mut Child) -> u64 {
    let line = slow.line().await;
    let number = line.strip_prefix("handled ").unwrap_or_else(|| panic!("{line}"));
    number.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_handled_in_order_on_one_connection_with_rumqttc() {
    is_handled_in_order_on_one_connection(Adapter::Rumqttc).await;
}

#[cfg(feature = "paho")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_handled_in_order_on_one_connection_with_paho() {
    is_handled_in_order_on_one_connection(Adapter::Paho).await;
}
