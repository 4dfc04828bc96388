//! The contract of the ports, kept by this adapter, with a Mosquitto for each behaviour.
//! What it can do is pinned in `tests/adapter/connect.rs`.

use adapter_paho::PahoConnector;
use tars_testkit::conformance::{Setup, conformance_suite};

conformance_suite!(
    #[tokio::test]
    Setup::mosquitto(PahoConnector::new())
);
