//! The client against a broker that misbehaves: whatever it does, the client says why it left,
//! comes back with backoff, and works again. In a process of its own, because its memory counts.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use tars_mqtt::{Adapter, Client, Config, ErrorKind, Lifecycle, LifecycleEvent, QoS};
use tars_testkit::scripted::hostile::{Attack, CONNECT_TIMEOUT, LIMIT, Outcome, attacks};
use tars_testkit::scripted::{ScriptedBroker, ScriptedPeer, packet};
use tokio::task::JoinSet;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_millis(500);
/// How many attacks go on at one time.
const AT_ONCE: usize = 4;
/// What all attacks together may add to the memory of the process, in KiB: the buffers of a few
/// connections. The claims add up to gigabytes.
const MEMORY: u64 = 16 * 1024;

fn client(broker: &ScriptedBroker, adapter: Adapter) -> Client {
    let config = Config::builder()
        .url(broker.url())
        .client_id("svc")
        .adapter(adapter)
        .keepalive(Duration::from_secs(1))
        .connect_timeout(CONNECT_TIMEOUT)
        .connect_retry(true)
        .reconnect_min_delay(MIN_DELAY)
        .reconnect_max_delay(MAX_DELAY)
        .max_packet_size(LIMIT)
        .build()
        .unwrap();
    Client::new(config).unwrap()
}

/// Why the client left.
async fn reason(events: &mut Lifecycle) -> (ErrorKind, String) {
    loop {
        let error = match events.next().await.unwrap() {
            LifecycleEvent::ConnectFailed { error } => error,
            LifecycleEvent::ConnectionLost { reason } => reason,
            _ => continue,
        };
        return (error.kind(), error.to_string());
    }
}

/// How long it then waits.
async fn delay(events: &mut Lifecycle) -> Duration {
    loop {
        if let LifecycleEvent::ReconnectScheduled { delay, .. } = events.next().await.unwrap() {
            return delay;
        }
    }
}

/// A publish arrives and is acknowledged: the client works.
async fn works(client: &Client, peer: &mut ScriptedPeer) {
    let publish = async { client.publish("t", "x").qos(QoS::AtLeastOnce).await.unwrap() };
    let answer = async {
        loop {
            // What the attack caused may come first.
            let (first, body) = peer.read_packet().await;
            match first & 0xf0 {
                packet::PINGREQ => peer.send(&packet::pingresp()).await,
                packet::PUBLISH => {
                    let id = packet::parse_publish(first, &body).id.unwrap();
                    return peer.send(&packet::puback(id)).await;
                }
                _ => {}
            }
        }
    };
    tokio::join!(publish, answer);
}

/// The broker attacks the first connection and behaves on the next.
async fn endure(adapter: Adapter, attack: &Attack) -> String {
    let broker = ScriptedBroker::start().await;
    let client = client(&broker, adapter);
    let mut events = client.lifecycle();
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    let mut peer = broker.accept().await;
    if attack.in_place_of_connack {
        peer.expect(packet::CONNECT).await;
    } else {
        peer.expect_connect_and_accept(false).await;
    }
    let attacked = attack.perform(peer).await;
    let (mut peer, seen) = match (attack.outcome, attacked) {
        (Outcome::LivesOn, peer) => (peer.unwrap(), "nothing: it works on".to_owned()),
        (Outcome::Ends(kinds), attacked) => {
            let (kind, text) = reason(&mut events).await;
            assert!(kinds.contains(&kind), "{}: {kind:?}: {text}", attack.name);
            drop(attacked);
            let delay = delay(&mut events).await;
            assert!(delay >= MIN_DELAY / 2, "{}: again after {delay:?}", attack.name);
            let mut next = broker.accept().await;
            next.expect_connect_and_accept(false).await;
            (next, text)
        }
    };
    connecting.await.unwrap().unwrap();
    works(&client, &mut peer).await;
    let (report, ()) = tokio::join!(client.shutdown(), peer.expect_closed());
    assert!(report.disconnected, "{}: {report:?}", attack.name);
    seen
}

/// The most that the process has had, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn endure_all(adapter: Adapter) {
    let mut before = None;
    for some in attacks().chunks(AT_ONCE) {
        let mut connections = JoinSet::new();
        for attack in some.iter().cloned() {
            connections.spawn(async move {
                let seen = timeout(PATIENCE, endure(adapter, &attack)).await;
                println!(
                    "| {} | {} |",
                    attack.name,
                    seen.unwrap_or_else(|_| panic!("{}: hangs", attack.name))
                );
            });
        }
        connections.join_all().await;
        // The first ones bring what every connection brings.
        before.get_or_insert_with(peak_memory);
    }
    let grown = peak_memory() - before.unwrap_or_default();
    println!("memory: {grown} KiB more");
    assert!(grown < MEMORY, "{grown} KiB");
}

/// A broker that redelivers what is above the limit, each time at once.
async fn too_large_each_time(adapter: Adapter) {
    const TIME: Duration = Duration::from_secs(4);
    let broker = ScriptedBroker::start().await;
    let client = client(&broker, adapter);
    let mut events = client.lifecycle();
    let too_large = packet::publish("a", &vec![0; LIMIT], 1, Some(1), false, true);
    let redeliver = async {
        let mut connections = 0;
        loop {
            let mut peer = broker.accept().await;
            peer.expect_connect_and_accept(true).await;
            connections += 1;
            peer.try_send(&too_large).await;
            while peer.next_packet().await.is_some() {}
            if connections == 2 {
                return connections;
            }
        }
    };
    let (connected, _) = tokio::join!(client.connect(), redeliver);
    connected.unwrap();
    let connections = std::cell::Cell::new(2_u32);
    let more = async {
        loop {
            let mut peer = broker.accept().await;
            peer.expect_connect_and_accept(true).await;
            connections.set(connections.get() + 1);
            peer.try_send(&too_large).await;
            while peer.next_packet().await.is_some() {}
        }
    };
    let _ = timeout(TIME, more).await;
    // At the largest delay, of which jitter takes half at most, and the delays before it.
    let most = TIME.as_millis() / (MAX_DELAY.as_millis() / 2) + 4;
    let connections = connections.get();
    assert!(
        (4..=most as u32).contains(&connections),
        "{connections} connections in {TIME:?}"
    );
    for _ in 0..3 {
        let (kind, text) = reason(&mut events).await;
        assert_eq!(kind, ErrorKind::TooLarge);
        assert!(text.contains("maximum packet size"), "{text}");
    }
    client.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attack_ends_in_a_clean_reconnect() {
    endure_all(Adapter::Rumqttc).await;
    too_large_each_time(Adapter::Rumqttc).await;
}

#[cfg(feature = "paho")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attack_ends_in_a_clean_reconnect_with_paho() {
    endure_all(Adapter::Paho).await;
    too_large_each_time(Adapter::Paho).await;
}
