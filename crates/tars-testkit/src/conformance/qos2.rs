//! QoS 2 across connections that break in the middle of a flow.

use std::collections::BTreeMap;

use tars_ports::{ErrorKind, Fate, QoS, Receipt, SessionState};

use super::steps::{ALL, Client, message, number, numbered, settled, soon, topic};
use super::{Failure, Setup, ensure};
use crate::proxy::Direction;

const TOTAL: u32 = 60;

/// Where the sender's will speaks.
const BURIED: &str = "buried";

/// Breaks of the link. Together they meet each packet of the flow.
const CUTS: u64 = 10;

pub(super) async fn outbound_resumes_exactly_once(setup: &Setup) -> Result<(), Failure> {
    let mut listener = Client::listen(setup, "listener", QoS::ExactlyOnce).await?;
    let link = setup.broker.link("sender").await?;
    let mut options = link.options();
    let resumes_at_once = setup.broker.facilities().resumes_at_once;
    if !resumes_at_once {
        // It tells when the broker has buried a connection.
        options.last_will = Some(message(BURIED, "", QoS::AtLeastOnce)?);
    }
    let mut times: BTreeMap<u32, u32> = BTreeMap::new();
    let mut session = SessionState::new();
    let mut open: Vec<u32> = (0..TOTAL).collect();
    for round in 0.. {
        let carried: Vec<u64> = session.outbound.iter().map(|flow| flow.message.key).collect();
        let mut sender = Client::keep(setup, &options, session).await?;
        ensure!(
            sender.session_present == (round > 0),
            "the session is not as it was left"
        );
        let mut waiting: Vec<(u64, Receipt)> = std::mem::take(&mut sender.resumed);
        let mut resumed: Vec<u64> = waiting.iter().map(|(key, _)| *key).collect();
        let mut expected = carried;
        resumed.sort_unstable();
        expected.sort_unstable();
        ensure!(
            resumed == expected,
            "flows {expected:?} were handed on, and {resumed:?} went on"
        );
        if round < CUTS {
            // 19 bytes are a PUBLISH of this behaviour, 4 an answer: each time elsewhere.
            let (direction, bytes) = match round % 2 {
                0 => (Direction::ToBroker, 13 + 29 * round),
                _ => (Direction::ToClient, 1 + 7 * round),
            };
            link.cut_after(direction, bytes);
        }
        for key in open
            .iter()
            .copied()
            .filter(|key| !resumed.contains(&u64::from(*key)))
            .take(8)
        {
            let publish = numbered("once", key, QoS::ExactlyOnce)?.with_key(key.into());
            // After the cut nothing is taken over any more.
            let Ok(receipt) = sender.connection.try_publish(publish) else {
                break;
            };
            waiting.push((key.into(), receipt));
        }
        let mut unknown = Vec::new();
        for (key, receipt) in waiting {
            match soon("a QoS 2 receipt", receipt).await? {
                Ok(_) => open.retain(|other| u64::from(*other) != key),
                Err(error) if error.fate() == Some(Fate::NotSent) => {}
                Err(_) => unknown.push(key),
            }
        }
        if open.is_empty() {
            sender.disconnect().await?;
            break;
        }
        ensure!(
            round < CUTS || unknown.is_empty(),
            "on a link that is whole the outcome of {unknown:?} is unknown"
        );
        link.cut();
        session = sender.ended().await?.session;
        let kept: Vec<u64> = session.outbound.iter().map(|flow| flow.message.key).collect();
        for key in unknown {
            ensure!(
                kept.contains(&key),
                "the outcome of {key} is unknown, and its flow is not handed on"
            );
        }
        if !resumes_at_once {
            buried(&mut listener, &mut times).await?;
        }
    }
    for delivery in listener.rest(setup).await? {
        *times.entry(number(&delivery)?).or_default() += 1;
    }
    let wrong: Vec<_> = (0..TOTAL)
        .filter_map(|key| match times.get(&key).copied().unwrap_or_default() {
            1 => None,
            other => Some((key, other)),
        })
        .collect();
    ensure!(wrong.is_empty(), "exactly once; these came (message, times): {wrong:?}");
    Ok(())
}

/// Waits for the sender's will, and counts what comes before it.
async fn buried(listener: &mut Client, times: &mut BTreeMap<u32, u32>) -> Result<(), Failure> {
    let will = topic(BURIED)?;
    loop {
        let delivery = listener.take().await?;
        if delivery.topic == will {
            return Ok(());
        }
        *times.entry(number(&delivery)?).or_default() += 1;
    }
}

pub(super) async fn inbound_resumes_exactly_once(setup: &Setup) -> Result<(), Failure> {
    let link = setup.broker.link("listener").await?;
    let mut listener = Client::keep(setup, &link.options(), SessionState::new()).await?;
    listener.subscribe(ALL, QoS::ExactlyOnce).await?;
    let sender = Client::connect(setup, "sender").await?;
    for n in 0..TOTAL {
        sender.publish_settled(numbered("once", n, QoS::ExactlyOnce)?).await?;
    }
    let mut times: BTreeMap<u32, u32> = BTreeMap::new();
    for round in 0..CUTS {
        for _ in 0..=round % 5 {
            *times.entry(number(&listener.take().await?)?).or_default() += 1;
        }
        // At different points of the handshakes.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        link.cut();
        let session = listener.ended().await?.session;
        listener = Client::keep(setup, &link.options(), session).await?;
        ensure!(listener.session_present, "the broker did not keep the session");
    }
    for delivery in listener.rest(setup).await? {
        *times.entry(number(&delivery)?).or_default() += 1;
    }
    let wrong: Vec<_> = (0..TOTAL)
        .filter_map(|n| match times.get(&n).copied().unwrap_or_default() {
            1 => None,
            other => Some((n, other)),
        })
        .collect();
    ensure!(wrong.is_empty(), "exactly once; these came (message, times): {wrong:?}");
    Ok(())
}

pub(super) async fn nothing_is_resumed(setup: &Setup) -> Result<(), Failure> {
    let link = setup.broker.link("sender").await?;
    let mut sender = Client::keep(setup, &link.options(), SessionState::new()).await?;
    link.hold(Direction::ToClient, true);
    let receipt = sender.publish(numbered("once", 1, QoS::ExactlyOnce)?).await?;
    link.cut();
    link.hold(Direction::ToClient, false);
    let ended = sender.ended().await?;
    ensure!(
        ended.session.outbound.is_empty() && ended.session.inbound.is_empty(),
        "without qos2_resume it hands on {:?}",
        ended.session
    );
    let error = soon("the receipt", receipt).await?;
    ensure!(error.is_err(), "a publish without an answer is confirmed");
    let sender = Client::keep(setup, &link.options(), ended.session).await?;
    ensure!(
        sender.resumed.is_empty(),
        "without qos2_resume {:?} went on",
        sender.resumed
    );
    sender.works("after a flow was cut").await
}

pub(super) async fn session_lost_is_forgotten(setup: &Setup) -> Result<(), Failure> {
    let link = setup.broker.link("sender").await?;
    let mut sender = Client::keep(setup, &link.options(), SessionState::new()).await?;
    link.hold(Direction::Both, true);
    let receipt = sender
        .publish(numbered("once", 1, QoS::ExactlyOnce)?.with_key(9))
        .await?;
    // Written, so that the flow has begun.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    link.cut();
    link.hold(Direction::Both, false);
    let session = sender.ended().await?.session;
    let error = soon("the receipt", receipt).await?;
    ensure!(
        matches!(&error, Err(error) if error.kind() == ErrorKind::ConnectionLost && error.fate() == Some(Fate::Unknown)),
        "a QoS 2 publish that was cut came to {error:?}"
    );
    ensure!(session.outbound.len() == 1, "the flow that was cut is not handed on");
    // Another life of the client id makes the broker forget.
    Client::connect(setup, "sender").await?.disconnect().await?;
    let mut sender = Client::keep(setup, &link.options(), session).await?;
    ensure!(!sender.session_present, "the session should be gone");
    ensure!(sender.resumed.is_empty(), "without the broker's session a flow went on");
    settled(sender.publish(numbered("once", 2, QoS::ExactlyOnce)?).await?).await?;
    sender.connection.close();
    let session = sender.ended().await?.session;
    ensure!(
        session.outbound.is_empty(),
        "a flow came back from a session that was lost"
    );
    Ok(())
}
