//! Payloads of every size, byte for byte.

use bytes::Bytes;
use tars_mqtt::{InboundMessage, QoS};
use tokio::sync::mpsc;

use crate::support::{broker, connected, within};

/// Around the sizes at which the length of a packet takes another byte, and above a socket's buffer.
const SIZES: [usize; 10] = [0, 1, 111, 128, 16_370, 16_384, 65_536, 1_000_000, 2_097_140, 2_097_152];

#[tokio::test]
async fn they_go_round_unchanged_at_every_qos() {
    let broker = broker().await;
    let client = connected(&broker, "svc").await;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let topic = format!("large/{qos}");
        let (sender, mut arrived) = mpsc::unbounded_channel();
        let handler = move |message: InboundMessage| {
            let _ = sender.send(message);
            async {}
        };
        client.subscribe(&topic, handler).qos(qos).await.unwrap();
        for size in SIZES {
            let payload = random(size);
            let publish = client.publish(topic.as_str(), payload.clone()).qos(qos);
            within("a publish", publish.into_future()).await.unwrap();
            let message = within("its arrival", arrived.recv()).await.unwrap();
            assert_eq!(message.qos, qos);
            // Not assert_eq: nobody wants to read two megabytes.
            assert!(
                message.payload == payload,
                "{size} bytes at QoS {qos} came back changed"
            );
        }
    }
    assert_eq!(client.stats().connects, 1);
    assert!(client.shutdown().await.is_complete());
}

/// Without a period that a lost or doubled block could hide in.
fn random(size: usize) -> Bytes {
    let mut payload = vec![0; size];
    fastrand::Rng::with_seed(size as u64).fill(&mut payload);
    payload.into()
}
