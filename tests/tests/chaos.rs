//! The short form of the chaos runs; `cargo xtask chaos --minutes N` does more.
//!
//! Not in the suite beside it: it needs the processor for itself, and so do tests that measure.

use std::path::PathBuf;
use std::time::Duration;

use tars_tests::chaos::{Plan, run};
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn short(adapter: &str) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let plan = Plan {
        adapter: adapter.to_owned(),
        seed: 0,
        time: Duration::from_secs(15),
        broker_kills: 4,
        service_kills: 4,
        messages: 2000,
        measured: 0,
        program: PathBuf::from(env!("CARGO_BIN_EXE_chaos_service")),
    };
    let report = run(&plan, |line| println!("{line}")).await;
    println!("{report}");
    assert!(report.is_good(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_handled_twice() {
    short("rumqttc").await;
}

#[cfg(feature = "paho")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_paho_nothing_is_lost_as_long_as_no_service_is_killed() {
    short("paho").await;
}
