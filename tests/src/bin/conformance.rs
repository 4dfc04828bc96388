//! The contract of the ports: every adapter with every broker, as one table. Each
//! adapter's package runs the same behaviours one by one against Mosquitto.
//!
//! Run it with `cargo xtask integration --adapter rumqttc|paho|all`; the first argument
//! names the adapter. It fails if a behaviour does.

use std::process::ExitCode;

use adapter_rumqttc::RumqttcConnector;
use tars_ports::Connector;
use tars_testkit::conformance::{Report, Setup, Table, run_all};

/// Behaviours at a time. Most of them wait; a broker of its own each is the cost.
const AT_ONCE: usize = 8;

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() -> ExitCode {
    let only = std::env::args().nth(1).unwrap_or_else(|| "all".to_owned());
    let wanted = |name: &str| only == "all" || only == name;
    let mut reports = Vec::new();
    if wanted("rumqttc") {
        run(&mut reports, "rumqttc", AT_ONCE, RumqttcConnector::new()).await;
    }
    // One at a time: the library has one lock for all clients of a process.
    #[cfg(feature = "paho")]
    if wanted("paho") {
        run(&mut reports, "paho", 1, adapter_paho::PahoConnector::new()).await;
    }
    if reports.is_empty() {
        eprintln!("there is no adapter `{only}` in this build");
        return ExitCode::from(2);
    }
    println!("{}", Table::of(&reports));
    let failed: usize = reports.iter().map(|report| report.failed().count()).sum();
    println!(
        "conformance: {}",
        if failed == 0 {
            "ok".to_owned()
        } else {
            format!("{failed} failed")
        }
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn run<C: Connector + Clone + 'static>(reports: &mut Vec<Report>, name: &str, at_once: usize, connector: C) {
    println!("{name}: every behaviour with Mosquitto ...");
    let mosquitto = || Setup::mosquitto(connector.clone());
    reports.push(run_all(format!("{name} × Mosquitto"), at_once, mosquitto).await);
    println!("{name}: every behaviour with the embedded broker ...");
    let embedded = || Setup::embedded(connector.clone());
    reports.push(run_all(format!("{name} × embedded"), at_once, embedded).await);
}
