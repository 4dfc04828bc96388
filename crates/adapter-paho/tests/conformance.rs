//! The contract of the ports, kept by this adapter, with a Mosquitto for each behaviour.
//! What it can do is pinned in `tests/adapter/connect.rs`.

use adapter_paho::PahoConnector;
use tars_ports::Transport;
use tars_testkit::conformance::{Setup, conformance_suite};

conformance_suite!(
    #[tokio::test]
    Setup::mosquitto(PahoConnector::new())
);

/// The same with TLS and WebSocket below: they buffer, and end in ways of their own.
mod over_wss {
    use super::*;

    conformance_suite!(
        #[tokio::test]
        Setup::mosquitto_over(Transport::WebSocketTls, PahoConnector::new())
    );
}
