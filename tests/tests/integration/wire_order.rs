//! Acknowledgements on the wire, with handlers that take their time, panic and work side by side:
//! in the order in which the messages arrived (MQTT 3.1.1 section 4.6), and, where the adapter
//! can, each after its handler's success. Looked at packet by packet on the way to Mosquitto.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tars_mqtt::{Adapter, InboundMessage, OnFailure, QoS};
use tars_testkit::mosquitto::Mosquitto;

use crate::support::seen::Seen;
use crate::support::tap::{Packet, Tap};
use crate::support::{config, connected, connected_with, started, within};

const MESSAGES: u16 = 300;

/// What happened, in one order: on the wire, and in the handler.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Wire(Packet),
    /// The handler succeeded with the message of this number.
    Done(u16),
}

async fn acknowledgements_are_in_order(adapter: Adapter) {
    for workers in [1, 4, 64] {
        // Wide enough for every worker; with a full window Mosquitto 2.0.11 sends out of order.
        let broker = started(Mosquitto::builder().config_line("max_inflight_messages 65535")).await;
        let events = Seen::default();
        let wire = events.clone();
        let tap = Tap::start(&broker, move |packet| wire.push(Event::Wire(packet))).await;
        let client = connected_with(config(&broker, "svc").url(tap.url()).adapter(adapter)).await;
        let (done, panicked) = (events.clone(), Arc::new(Mutex::new(HashSet::new())));
        let handler = move |message: InboundMessage| {
            let (done, panicked) = (done.clone(), panicked.clone());
            async move {
                let number: u16 = String::from_utf8_lossy(&message.payload).parse().unwrap();
                let work = fastrand::Rng::with_seed(number.into()).u64(0..8);
                tokio::time::sleep(Duration::from_millis(work)).await;
                let first = panicked.lock().unwrap().insert(number);
                assert!(!number.is_multiple_of(3) || !first, "as the test wants");
                done.push(Event::Done(number));
            }
        };
        let policy = OnFailure::retry(1, Duration::from_millis(5));
        let subscribing = client.subscribe("t", handler).qos(QoS::ExactlyOnce).on_failure(policy);
        within("subscribing", subscribing.concurrency(workers).into_future())
            .await
            .unwrap();

        let publisher = connected(&broker, "publisher").await;
        for number in 0..MESSAGES {
            let qos = if is_exactly_once(number) {
                QoS::ExactlyOnce
            } else {
                QoS::AtLeastOnce
            };
            let publish = publisher.publish("t", number.to_string()).qos(qos);
            within("a publish", publish.into_future()).await.unwrap();
        }
        let all = events.until(is_complete).await;
        check_order(&all, workers);
        if client.capabilities().manual_ack {
            check_after_success(&all);
        }
        assert!(client.shutdown().await.is_complete());
        assert_eq!(client.stats().failed, u64::from(MESSAGES / 3));
    }
}

/// Whether each message is handled, and acknowledged to the last packet.
fn is_complete(events: &[Event]) -> bool {
    let is_last = |event: &&Event| matches!(event, Event::Wire(Packet::Puback(_) | Packet::Pubcomp(_)));
    let is_done = |event: &&Event| matches!(event, Event::Done(_));
    let count = usize::from(MESSAGES);
    events.iter().filter(is_last).count() == count && events.iter().filter(is_done).count() == count
}

/// The ids, or the numbers, that this picks, in their order.
fn picked(events: &[Event], pick: impl Fn(&Event) -> Option<u16>) -> Vec<u16> {
    events.iter().filter_map(pick).collect()
}

fn number(payload: &[u8]) -> u16 {
    String::from_utf8_lossy(payload).parse().unwrap()
}

fn check_order(events: &[Event], workers: usize) {
    let published = |qos| {
        picked(events, |event| match event {
            Event::Wire(Packet::Publish(publish)) if publish.qos == qos => publish.id,
            _ => None,
        })
    };
    let wire = |which: fn(&Packet) -> Option<u16>| {
        picked(events, |event| match event {
            Event::Wire(packet) => which(packet),
            Event::Done(_) => None,
        })
    };
    let puback = wire(|packet| {
        if let Packet::Puback(id) = packet {
            Some(*id)
        } else {
            None
        }
    });
    let pubrec = wire(|packet| {
        if let Packet::Pubrec(id) = packet {
            Some(*id)
        } else {
            None
        }
    });
    let pubrel = wire(|packet| {
        if let Packet::Pubrel(id) = packet {
            Some(*id)
        } else {
            None
        }
    });
    let pubcomp = wire(|packet| {
        if let Packet::Pubcomp(id) = packet {
            Some(*id)
        } else {
            None
        }
    });
    assert_eq!(puback, published(1), "PUBACK with {workers} workers");
    assert_eq!(pubrec, published(2), "PUBREC with {workers} workers");
    assert_eq!(pubcomp, pubrel, "PUBCOMP with {workers} workers");

    // Each QoS by itself: a QoS 2 message may be handed over with its PUBREL only (paho).
    for exactly_once in [false, true] {
        let done = picked(events, |event| match event {
            Event::Done(number) => Some(*number).filter(|number| is_exactly_once(*number) == exactly_once),
            Event::Wire(_) => None,
        });
        assert_eq!(done.is_sorted(), workers == 1, "{workers} workers: {done:?}");
    }
}

fn is_exactly_once(number: u16) -> bool {
    number % 4 == 3
}

/// No message is acknowledged whose handler had not succeeded yet.
fn check_after_success(events: &[Event]) {
    let mut waiting = Vec::new();
    let mut done = HashSet::new();
    for event in events {
        match event {
            Event::Done(number) => drop(done.insert(*number)),
            Event::Wire(Packet::Publish(publish)) => waiting.push((publish.id.unwrap(), number(&publish.payload))),
            Event::Wire(Packet::Puback(id) | Packet::Pubrec(id)) => {
                let at = waiting.iter().position(|(of, _)| of == id).unwrap();
                let (_, number) = waiting.remove(at);
                assert!(done.contains(&number), "{number} was acknowledged before it was done");
            }
            Event::Wire(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_are_in_order_and_after_success_with_rumqttc() {
    acknowledgements_are_in_order(Adapter::Rumqttc).await;
}

#[cfg(feature = "paho")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_are_in_order_with_paho() {
    acknowledgements_are_in_order(Adapter::Paho).await;
}
