//! Packet ids, the window, and the steps of each flow.

use std::collections::HashSet;

use proptest::prelude::*;
use tars_contracts::TopicName;
use tars_ports::{ErrorKind, Receipt};

use super::*;

fn message(key: u64) -> Message {
    Message::new(TopicName::new("a").expect("valid"), "x")
        .with_qos(QoS::ExactlyOnce)
        .with_key(key)
}

fn start(flows: &mut Flows, two: bool, end: u64) -> (u16, Receipt) {
    let (settler, receipt) = Receipt::pair();
    let id = flows.free_id().expect("an id is free");
    let flow = if two {
        Flow::Qos2 {
            settler,
            message: message(end),
            released: false,
            end: Some(end),
        }
    } else {
        Flow::Puback { settler, end }
    };
    assert!(flows.insert(id, flow));
    (id, receipt)
}

#[test]
fn ids_go_round_and_step_over_the_one_that_is_held() {
    let mut flows = Flows::new(100, 20);
    let (held, _receipt) = start(&mut flows, true, 1);
    assert_eq!(held, 1);
    for round in 0..2 {
        for expected in 2..=u16::MAX {
            let (id, _) = start(&mut flows, false, 1);
            assert_eq!(id, expected, "round {round}");
            assert!(flows.puback(id));
        }
    }
}

#[test]
fn the_table_can_be_full() {
    let mut flows = Flows::new(100, 20);
    let mut receivers = Vec::new();
    while let Some(id) = flows.free_id() {
        let (reply, receiver) = oneshot::channel();
        assert!(flows.insert(id, Flow::Unsuback { reply }));
        receivers.push(receiver);
    }
    assert_eq!(receivers.len(), 65_535);
    assert!(flows.unsuback(777).is_some());
    assert_eq!(flows.free_id(), Some(777));
}

#[tokio::test]
async fn a_qos_2_flow_takes_its_steps_in_order() {
    let mut flows = Flows::new(100, 20);
    let (id, receipt) = start(&mut flows, true, 1);
    assert!(!flows.puback(id));
    assert!(!flows.pubcomp(id), "PUBCOMP ahead of PUBREC");
    assert_eq!(flows.pubrec(id), OnPubrec::Release { known: true });
    assert_eq!(flows.pubrec(id), OnPubrec::Release { known: true });
    assert!(flows.pubcomp(id));
    receipt.await.expect("settled");
    assert!(!flows.pubcomp(id));
    assert_eq!(flows.pubrec(id), OnPubrec::Release { known: false });
}

#[tokio::test]
async fn at_the_end_the_written_are_unknown_and_the_rest_not_sent() {
    let mut flows = Flows::new(100, 20);
    let (_, one) = start(&mut flows, false, 10);
    let (released, two) = start(&mut flows, true, 20);
    let (_, three) = start(&mut flows, true, 30);
    let (_, four) = start(&mut flows, false, 40);
    flows.pubrec(released);
    let session = flows.end(&Error::new(ErrorKind::ConnectionLost, "gone"), |end| end <= 20);
    assert_eq!(session.len(), 1);
    assert_eq!((session[0].packet_id, session[0].released), (released, true));
    for (receipt, fate) in [
        (one, Fate::Unknown),
        (two, Fate::Unknown),
        (three, Fate::NotSent),
        (four, Fate::NotSent),
    ] {
        assert_eq!(receipt.await.expect_err("ended").fate(), Some(fate));
    }
}

proptest! {
    #[test]
    fn an_id_in_use_is_never_given_out_and_the_window_counts_right(
        steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<bool>()), 1..300),
    ) {
        let mut flows = Flows::new(50, 10);
        let mut live: Vec<(u16, bool)> = Vec::new();
        for (begin, which, two) in steps {
            if begin || live.is_empty() {
                let (id, _) = start(&mut flows, two, 1);
                live.push((id, two));
            } else {
                let (id, two) = live.swap_remove(which.index(live.len()));
                if two {
                    flows.pubrec(id);
                    prop_assert!(flows.pubcomp(id));
                } else {
                    prop_assert!(flows.puback(id));
                }
            }
            let ids: HashSet<_> = live.iter().map(|(id, _)| id).collect();
            prop_assert_eq!(ids.len(), live.len());
            let qos2 = live.iter().filter(|(_, two)| *two).count();
            let expected = Room { total: 50usize.saturating_sub(live.len()), qos2: 10usize.saturating_sub(qos2) };
            prop_assert_eq!(flows.room(), expected);
        }
    }
}
