//! The adapter from outside: against a broker that is driven byte by byte, and
//! against a real Mosquitto. Every wait is bounded, so that a defect fails.
//!
//! Tests share paho's one lock and two threads, as connections of a service do. Those
//! that need its clock or the log for themselves run in a process of their own: [`alone`].
#![allow(clippy::unwrap_used)]

mod connect;
mod end;
mod hazards;
mod hostile;
mod inbound;
mod keepalive;
mod logs;
mod mosquitto;
mod publish;
mod subscribe;

use std::future::Future;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use adapter_paho::PahoConnector;
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

/// Runs the test of this full name in a process of its own.
fn alone<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    const MARK: &str = "ADAPTER_PAHO_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(test());
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(MARK, "")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Does nothing to one that has ended.
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{text}{}", String::from_utf8_lossy(&output.stderr));
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
    soon(PahoConnector::new().connect(options, SessionState::new())).await
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
    let broker = ScriptedBroker::start().await;
    let mut options = options(broker.port());
    tweak(&mut options);
    let connector = PahoConnector::new();
    let (connected, peer) = tokio::join!(soon(connector.connect(&options, SessionState::new())), async {
        let mut peer = broker.accept().await;
        peer.expect_connect_and_accept(false).await;
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
