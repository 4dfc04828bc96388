//! A broker that misbehaves in every way that the testkit knows.

use std::sync::Arc;

use adapter_rumqttc::RumqttcConnector;
use tars_ports::{ErrorKind, QoS, Subscriber};
use tars_testkit::scripted::{hostile, packet};

use crate::{ended, filter, lost, pair, soon, tasks, until};

#[tokio::test]
async fn every_attack_ends_with_a_reason_or_harms_nothing() {
    hostile::check_all(Arc::new(RumqttcConnector::new())).await;
    until("all tasks end", || tasks() == 0).await;
}

/// What nobody asked for harms nobody; an answer to a question has to fit it. Paho would read
/// beyond the end of a shorter one.
#[tokio::test]
async fn a_suback_with_fewer_or_more_answers_than_filters_ends_the_connection() {
    for answers in [&[0][..], &[0, 0, 0], &[0, 3]] {
        let (mut connected, mut peer) = pair(|_| {}).await;
        let filters = [(filter("a"), QoS::AtMostOnce), (filter("b"), QoS::AtLeastOnce)];
        let (refused, ()) = tokio::join!(soon(connected.connection.subscribe(&filters)), async {
            let (_, body) = peer.expect(packet::SUBSCRIBE).await;
            peer.send(&packet::suback(packet::leading_id(&body), answers)).await;
        });
        refused.unwrap_err();
        let error = lost(ended(&mut connected.inbound).await);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{answers:?}: {error}");
    }
}
