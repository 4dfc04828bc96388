//! The contract of the ports: every adapter with every broker, as one table. Each
//! adapter's package runs the same behaviours one by one against Mosquitto.
//!
//! `CONFORMANCE_ADAPTER` names one adapter, to run that alone. `--nocapture` shows the
//! table where nothing failed.

use adapter_rumqttc::RumqttcConnector;
use tars_ports::Connector;
use tars_testkit::conformance::{Report, Setup, Table, run_all};

/// Behaviours at a time. Most of them wait; a broker of its own each is the cost.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_adapter_keeps_the_contract_with_every_broker() {
    let mut reports = Vec::new();
    adapter(&mut reports, "rumqttc", AT_ONCE, RumqttcConnector::new()).await;
    // One at a time: the library has one lock for all clients of a process.
    #[cfg(feature = "paho")]
    adapter(&mut reports, "paho", 1, adapter_paho::PahoConnector::new()).await;

    let table = Table::of(&reports);
    println!("{table}");
    assert!(!reports.is_empty(), "no adapter has the name in CONFORMANCE_ADAPTER");
    let failed: usize = reports.iter().map(|report| report.failed().count()).sum();
    assert_eq!(failed, 0, "\n{table}");
}

async fn adapter<C: Connector + Clone + 'static>(reports: &mut Vec<Report>, name: &str, at_once: usize, connector: C) {
    if std::env::var("CONFORMANCE_ADAPTER").is_ok_and(|only| only != name && only != "all") {
        return;
    }
    let mosquitto = || Setup::mosquitto(connector.clone());
    reports.push(run_all(format!("{name} × Mosquitto"), at_once, mosquitto).await);
    let embedded = || Setup::embedded(connector.clone());
    reports.push(run_all(format!("{name} × embedded"), at_once, embedded).await);
}
