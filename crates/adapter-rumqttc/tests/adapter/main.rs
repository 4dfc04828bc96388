//! The adapter from outside: against a broker that is driven byte by byte, and
//! against a real Mosquitto. Every wait is bounded, so that a defect fails.
#![allow(clippy::unwrap_used)]

mod connect;
mod end;
mod fate;
mod flood;
mod hostile;
mod inbound;
mod keepalive;
mod mosquitto;
mod publish;
mod qos2;
mod subscribe;

use std::future::Future;
use std::time::Duration;

use adapter_rumqttc::RumqttcConnector;
use futures_util::StreamExt;
use tars_contracts::{TopicFilter, TopicName};
use tars_ports::{
    ConnectOptions, Connected, Connector, Delivery, EndReason, Ended, Error, Inbound, Incoming, Message, QoS,
    SessionState,
};
use tars_testkit::scripted::{ScriptedBroker, ScriptedPeer};

const PATIENCE: Duration = Duration::from_secs(8);

/// Fails instead of hanging.
async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it should have happened by now")
}

/// Looks again until it holds. For what has no event of its own.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

fn options(port: u16) -> ConnectOptions {
    let mut options = ConnectOptions::new("127.0.0.1", port, "client");
    options.timeout = Duration::from_secs(5);
    options
}

fn message(topic: &str, payload: impl Into<bytes::Bytes>, qos: u8) -> Message {
    Message::new(TopicName::new(topic).unwrap(), payload).with_qos(QoS::from_u8(qos).unwrap())
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

async fn attempt(options: &ConnectOptions) -> Result<Connected, Error> {
    soon(RumqttcConnector::new().connect(options, SessionState::new())).await
}

/// What went wrong with an attempt that must fail.
async fn failure(options: &ConnectOptions) -> Error {
    match attempt(options).await {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    }
}

/// A connection and its other end.
async fn pair(tweak: impl FnOnce(&mut ConnectOptions)) -> (Connected, ScriptedPeer) {
    pair_with(SessionState::new(), false, tweak).await
}

async fn pair_with(
    session: SessionState,
    session_present: bool,
    tweak: impl FnOnce(&mut ConnectOptions),
) -> (Connected, ScriptedPeer) {
    let broker = ScriptedBroker::start().await;
    let mut options = options(broker.port());
    tweak(&mut options);
    let connector = RumqttcConnector::new();
    let (connected, peer) = tokio::join!(soon(connector.connect(&options, session)), async {
        let mut peer = broker.accept().await;
        peer.expect_connect_and_accept(session_present).await;
        peer
    });
    (connected.expect("accepted"), peer)
}

async fn delivery(inbound: &mut Inbound) -> Delivery {
    match soon(inbound.next()).await {
        Some(Incoming::Delivery(delivery)) => delivery,
        other => panic!("awaited a delivery, got {other:?}"),
    }
}

/// The end; deliveries before it are skipped, and nothing may follow.
async fn ended(inbound: &mut Inbound) -> Ended {
    loop {
        match soon(inbound.next()).await {
            Some(Incoming::Delivery(_)) => {}
            Some(Incoming::Ended(ended)) => {
                assert!(soon(inbound.next()).await.is_none(), "something followed the end");
                return ended;
            }
            other => panic!("awaited the end, got {other:?}"),
        }
    }
}

fn lost(ended: Ended) -> Error {
    match ended.reason {
        EndReason::Lost(error) => error,
        other => panic!("awaited a lost connection, got {other:?}"),
    }
}

/// Tasks of this test's runtime, apart from the test itself.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
