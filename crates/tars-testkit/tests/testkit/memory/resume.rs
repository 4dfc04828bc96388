//! QoS 2 across a reconnect: exactly once at every place where the link can be cut.

use std::time::Duration;

use tars_ports::{Fate, Incoming, SessionState};
use tars_testkit::memory::MemoryBroker;
use tokio::time::sleep;

use super::{Client, Q2, message, payload, persistent, try_connect};

/// Long enough that each packet of the handshake is on its way for a while.
const LATENCY: Duration = Duration::from_millis(10);

#[tokio::test(start_paused = true)]
async fn an_own_publish_arrives_once_wherever_the_link_is_cut() {
    // PUBLISH, PUBREC, PUBREL, PUBCOMP: one cut inside each, and one after.
    for cut_at in [5, 15, 25, 35, 45] {
        let broker = MemoryBroker::new().with_latency(LATENCY);
        let mut client = Client::with(&broker, &persistent("p")).await;
        let receipt = client.send(message("t", "x", Q2).with_key(42));
        sleep(Duration::from_millis(cut_at)).await;
        broker.cut("p");
        let ended = client.ended().await;
        let outcome = receipt.await;
        let flows = ended.session.outbound.len();
        assert_eq!(outcome.is_ok(), flows == 0, "cut at {cut_at} ms");
        if let Err(error) = outcome {
            assert_eq!(error.fate(), Some(Fate::Unknown));
        }

        let mut client = try_connect(&broker, &persistent("p"), ended.session)
            .await
            .expect("accepted");
        assert!(client.session_present);
        assert_eq!(client.resumed.len(), flows);
        for (key, receipt) in client.resumed.drain(..) {
            assert_eq!(key, 42);
            receipt.await.expect("the flow completes");
        }
        // A new one afterwards is not taken for the old one.
        client.send(message("t", "y", Q2)).await.expect("settled");
        let seen: Vec<_> = broker
            .published()
            .iter()
            .map(|message| message.payload.clone())
            .collect();
        assert_eq!(seen, ["x", "y"], "cut at {cut_at} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_received_message_is_delivered_once_wherever_the_link_is_cut() {
    for cut_at in [5, 15, 25, 35, 45] {
        let broker = MemoryBroker::new().with_latency(LATENCY);
        let mut client = Client::with(&broker, &persistent("p")).await;
        client.subscribe("t", Q2).await;
        broker.publish(message("t", "x", Q2));
        let task = {
            let broker = broker.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(cut_at)).await;
                broker.cut("p");
            })
        };
        let mut handled = 0;
        let ended = loop {
            match client.next().await {
                Some(Incoming::Delivery(delivery)) => {
                    handled += 1;
                    client.ack(&delivery);
                }
                Some(Incoming::Ended(ended)) => break ended,
                other => panic!("{other:?}"),
            }
        };
        task.await.expect("no panic");
        let mut client = try_connect(&broker, &persistent("p"), ended.session)
            .await
            .expect("accepted");
        if handled == 0 {
            let delivery = client.delivery().await;
            assert!(delivery.dup, "sent before, as far as the broker knows");
            client.ack(&delivery);
        }
        broker.publish(message("t", "y", Q2));
        let next = client.delivery().await;
        assert_eq!(payload(&next), "y", "cut at {cut_at} ms");
        client.ack(&next);
        broker.wait_until(|broker| broker.backlog("p") == (0, 0)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_session_nothing_goes_on() {
    let broker = MemoryBroker::new();
    let mut client = Client::with(&broker, &persistent("p")).await;
    broker.freeze();
    let receipt = client.send(message("t", "x", Q2).with_key(1));
    client.silent().await;
    broker.restart(false);
    receipt.await.expect_err("the broker is gone");
    let session = client.ended().await.session;
    assert_eq!(session.outbound.len(), 1);
    let client = try_connect(&broker, &persistent("p"), session).await.expect("accepted");
    assert!(!client.session_present && client.resumed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_forgets_its_packet_ids_loses_its_new_message() {
    // Why `qos2_resume` exists (MQTT 3.1.1 section 4.3.3).
    let broker = MemoryBroker::new().with_latency(LATENCY);
    let mut client = Client::with(&broker, &persistent("p")).await;
    drop(client.send(message("t", "old", Q2)));
    sleep(Duration::from_millis(15)).await;
    broker.cut("p");
    client.ended().await;
    let client = try_connect(&broker, &persistent("p"), SessionState::new())
        .await
        .expect("accepted");
    client.send(message("t", "new", Q2)).await.expect("the broker says so");
    let seen: Vec<_> = broker
        .published()
        .iter()
        .map(|message| message.payload.clone())
        .collect();
    assert_eq!(seen, ["old"], "the new one was swallowed as a duplicate");
}
