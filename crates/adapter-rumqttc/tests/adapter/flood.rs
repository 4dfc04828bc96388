//! Many small packets, a few at once: where the socket rests between two reads.

use std::time::{Duration, Instant};

use tars_ports::{AckOutcome, EndReason, PublisherExt};
use tars_testkit::scripted::packet::{self, leading_id, parse_publish};

use crate::{delivery, ended, message, pair, soon};

const MESSAGES: u32 = 60_000;
/// From one write, of two messages, to the next.
const PACE: Duration = Duration::from_micros(25);
/// One of so many is at QoS 1.
const ACKNOWLEDGED: u32 = 50;
/// After so many an answer is published.
const ANSWERED: u32 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_arrives_in_order_while_answers_leave_and_then_the_end() {
    let (mut connected, mut peer) = pair(|_| {}).await;
    let broker = tokio::spawn(async move {
        let packet = |n: u32| {
            let id = n.is_multiple_of(ACKNOWLEDGED).then(|| (n / ACKNOWLEDGED) as u16 + 1);
            packet::publish("a", &n.to_be_bytes(), u8::from(id.is_some()), id, false, false)
        };
        for n in (0..MESSAGES).step_by(2) {
            let next = Instant::now() + PACE;
            peer.send(&[packet(n), packet(n + 1)].concat()).await;
            // No timer is that fine.
            while Instant::now() < next {
                std::hint::spin_loop();
            }
        }
        let (mut acknowledged, mut answered) = (Vec::new(), Vec::new());
        loop {
            let (first, body) = soon(peer.read_packet()).await;
            match first & 0xf0 {
                packet::PUBACK => acknowledged.push(leading_id(&body)),
                packet::PUBLISH => answered.push(parse_publish(first, &body).payload),
                _ => break (acknowledged, answered, first),
            }
        }
    });
    for n in 0..MESSAGES {
        let delivery = delivery(&mut connected.inbound).await;
        assert_eq!(delivery.payload, n.to_be_bytes()[..]);
        if let Some(token) = delivery.token {
            connected.connection.ack(token, AckOutcome::Done);
        }
        if n.is_multiple_of(ANSWERED) {
            let answer = message("b", n.to_be_bytes().to_vec(), 0);
            soon(connected.connection.publish(answer)).await.unwrap().await.unwrap();
        }
    }
    soon(connected.connection.disconnect()).await.unwrap();
    let (acknowledged, answered, last) = soon(broker).await.unwrap();
    let ids = MESSAGES / ACKNOWLEDGED;
    assert_eq!(acknowledged, (1..=ids as u16).collect::<Vec<_>>());
    let answers = (0..MESSAGES).step_by(ANSWERED as usize);
    assert_eq!(answered, answers.map(|n| n.to_be_bytes().to_vec()).collect::<Vec<_>>());
    assert_eq!(last, packet::DISCONNECT);
    let end = ended(&mut connected.inbound).await;
    assert!(matches!(end.reason, EndReason::Disconnected));
}
