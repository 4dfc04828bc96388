//! The contract of the ports, kept by the in-memory adapter, in paused time: a
//! behaviour that waits for seconds takes none.

use tars_ports::{Capabilities, Connector, ProtocolVersion};
use tars_testkit::conformance::{Setup, conformance_suite, run_all};
use tars_testkit::memory::MemoryBroker;

conformance_suite!(
    #[tokio::test(start_paused = true)]
    Setup::memory()
);

#[test]
fn the_capabilities_are_these() {
    let mut expected = Capabilities::default();
    expected.manual_ack = true;
    expected.qos2 = true;
    expected.qos2_resume = true;
    expected.abrupt_close = true;
    expected.versions = &[ProtocolVersion::V3_1_1];
    assert_eq!(MemoryBroker::new().connector().capabilities(), expected);
}

#[tokio::test(start_paused = true)]
async fn the_report_has_a_row_for_each_behaviour() {
    let report = run_all("memory", 8, Setup::memory).await;
    println!("{report}");
    assert_eq!(report.failed().count(), 0, "{report}");
    // In memory there is one way to the broker, and no TLS on it.
    let left_out = report.not_applicable().into_keys();
    let left_out: Vec<_> = left_out.filter(|name| !name.starts_with("transport::")).collect();
    assert_eq!(
        left_out,
        [
            "ack::acknowledged_on_receipt",
            "connect::host_not_found",
            "keepalive::the_broker_is_told_of_it",
            "publish::missing_qos2_is_refused",
            "qos2::nothing_is_resumed",
            "will::is_silent_after_close",
        ]
    );
}
