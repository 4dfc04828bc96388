//! Messages out and in again: levels, payloads, topics, retained ones, and the bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tars_contracts::TopicName;
use tars_ports::{ErrorKind, Fate, Message, QoS, Transport, TryPublishError};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::steps::{ALL, Client, message, number, numbered, settled, soon, topic};
use super::{Failure, OrFail, Setup, ensure};
use crate::proxy::Direction;

pub(super) async fn every_level_makes_the_round(setup: &Setup) -> Result<(), Failure> {
    let highest = *setup.levels().last().unwrap_or(&QoS::AtLeastOnce);
    let mut listener = Client::listen(setup, "listener", highest).await?;
    let sender = Client::connect(setup, "sender").await?;
    for round in 0..20 {
        for qos in setup.levels() {
            sender.publish_settled(numbered("round", round, *qos)?).await?;
            let got = listener.take().await?;
            ensure!(
                number(&got)? == round && got.qos == *qos && got.topic == topic("round")?,
                "sent number {round} at QoS {qos}, got {got:?}"
            );
            ensure!(!got.retain && !got.dup, "a first, live message has flags: {got:?}");
        }
    }
    let rest = listener.rest(setup).await?;
    ensure!(rest.is_empty(), "more came than was sent: {rest:?}");
    listener.disconnect().await?;
    sender.disconnect().await
}

pub(super) async fn missing_qos2_is_refused(setup: &Setup) -> Result<(), Failure> {
    let client = Client::connect(setup, "client").await?;
    let refused = client.connection.try_publish(numbered("t", 1, QoS::ExactlyOnce)?);
    ensure!(
        matches!(&refused, Err(TryPublishError::Failed(error)) if error.kind() == ErrorKind::Unsupported),
        "a QoS 2 publish came to {refused:?}"
    );
    client.works("after the refusal").await
}

pub(super) async fn the_lower_level_is_delivered(setup: &Setup) -> Result<(), Failure> {
    let sender = Client::connect(setup, "sender").await?;
    for subscribed in setup.levels() {
        let mut listener = Client::listen(setup, "listener", *subscribed).await?;
        for published in setup.levels() {
            sender.publish_settled(numbered("t", 1, *published)?).await?;
            let got = listener.take().await?.qos;
            ensure!(
                got == *subscribed.min(published),
                "published at QoS {published}, subscribed at {subscribed}, delivered at {got}"
            );
        }
        listener.disconnect().await?;
    }
    Ok(())
}

pub(super) async fn empty_payload(setup: &Setup) -> Result<(), Failure> {
    let mut listener = Client::listen(setup, "listener", QoS::AtLeastOnce).await?;
    for qos in &setup.levels()[..2] {
        listener.publish_settled(message("empty", "", *qos)?).await?;
        let got = listener.take().await?;
        ensure!(got.payload.is_empty(), "{} bytes came", got.payload.len());
    }
    Ok(())
}

/// Around the steps of the length in the fixed header, and of a reader's buffers.
const SIZES: [usize; 16] = [
    0,
    1,
    2,
    100,
    112,
    113,
    127,
    128,
    4 * 1024,
    16 * 1024 - 20,
    16 * 1024 - 1,
    16 * 1024,
    16 * 1024 + 1,
    64 * 1024,
    300_000,
    2 * 1024 * 1024,
];

/// Mosquitto 2.0 writes 40 kB a second to a WebSocket, in steps of 100 ms.
pub(super) fn bearable(transport: Transport, size: usize) -> bool {
    !transport.is_websocket() || size < 100_000
}

pub(super) async fn payloads_are_exact(setup: &Setup) -> Result<(), Failure> {
    let mut listener = Client::listen(setup, "listener", QoS::AtLeastOnce).await?;
    let sender = Client::connect(setup, "sender").await?;
    let transport = setup.options("sender").transport;
    for size in SIZES.into_iter().filter(|&size| bearable(transport, size)) {
        // No period that a block size could hide in.
        let payload: Bytes = (0..size).map(|at| (at ^ (at / 251) ^ size) as u8).collect();
        for qos in setup.levels() {
            sender.publish_settled(message("bytes", payload.clone(), *qos)?).await?;
            let got = listener.take().await?;
            ensure!(
                got.payload == payload,
                "{size} bytes at QoS {qos} came as {} others",
                got.payload.len()
            );
        }
    }
    Ok(())
}

pub(super) async fn topics_are_utf8(setup: &Setup) -> Result<(), Failure> {
    let mut listener = Client::listen(setup, "listener", QoS::AtLeastOnce).await?;
    let long = "x".repeat(2_000);
    for name in [
        "é",
        "日本/語",
        "🚀",
        "a b/c.d",
        "$inner",
        "ä//ö",
        "Ж/עברית/العربية",
        long.as_str(),
    ] {
        let topic = topic(name)?;
        let message = Message::new(topic.clone(), name.to_owned()).with_qos(QoS::AtLeastOnce);
        listener.publish_settled(message).await?;
        let got = listener.take().await?;
        ensure!(got.topic == topic, "{topic:?} came as {:?}", got.topic);
        ensure!(got.payload == name.as_bytes(), "{topic:?} came with another payload");
    }
    // A filter as such, and not only below a wildcard.
    let other = Client::connect(setup, "other").await?;
    other.subscribe("suite/日本/+", QoS::AtLeastOnce).await?;
    other.disconnect().await
}

pub(super) async fn retained_has_its_flag(setup: &Setup) -> Result<(), Failure> {
    let mut early = Client::listen(setup, "early", QoS::AtLeastOnce).await?;
    let kept = numbered("kept", 1, QoS::AtLeastOnce)?.with_retain(true);
    early.publish_settled(kept).await?;
    let live = early.take().await?;
    ensure!(!live.retain, "a live message has the flag");
    let mut late = Client::listen(setup, "late", QoS::AtLeastOnce).await?;
    let got = late.take().await?;
    ensure!(
        got.retain && number(&got)? == 1,
        "who comes later got {got:?} and not the retained message"
    );
    Ok(())
}

pub(super) async fn retained_is_cleared(setup: &Setup) -> Result<(), Failure> {
    let sender = Client::connect(setup, "sender").await?;
    for name in ["kept", "cleared"] {
        sender
            .publish_settled(numbered(name, 1, QoS::AtLeastOnce)?.with_retain(true))
            .await?;
    }
    let clear = message("cleared", "", QoS::AtLeastOnce)?.with_retain(true);
    sender.publish_settled(clear).await?;
    let mut late = Client::listen(setup, "late", QoS::AtLeastOnce).await?;
    let rest = late.rest(setup).await?;
    let topics: Vec<_> = rest.iter().map(|got| got.topic.as_str()).collect();
    ensure!(topics == ["suite/kept"], "retained are {topics:?}");
    Ok(())
}

pub(super) async fn too_large_harms_nothing(setup: &Setup) -> Result<(), Failure> {
    let mut options = setup.options("sender");
    options.max_packet_size = 1_000;
    let mut listener = Client::listen(setup, "listener", QoS::AtLeastOnce).await?;
    let sender = Client::connect_with(setup, &options, Default::default()).await?;
    for qos in setup.levels() {
        let frame = message("size", "", *qos)?.packet_size();
        // The length of the packet takes one byte more from 128 on.
        let fits = 1_000 - frame - 1;
        let refused = sender.connection.try_publish(message("size", vec![1; fits + 1], *qos)?);
        match refused {
            Err(TryPublishError::Failed(error)) => {
                ensure!(error.kind() == ErrorKind::TooLarge, "the error is {error:?}");
                ensure!(
                    error.fate() == Some(Fate::NotSent),
                    "its fate is {:?}, and it was certainly not sent",
                    error.fate()
                );
            }
            other => return Err(Failure::new(format!("one byte too many came to {other:?}"))),
        }
        sender.publish_settled(message("size", vec![1; fits], *qos)?).await?;
        let got = listener.take().await?;
        ensure!(got.payload.len() == fits, "another message came: {got:?}");
    }
    sender.works("after the refusals").await
}

/// More unsettled messages than any bound of an adapter.
const MANY: usize = 10_000;

pub(super) async fn full_gives_the_message_back(setup: &Setup) -> Result<(), Failure> {
    let link = setup.broker.link("sender").await?;
    let mut options = link.options();
    options.max_inflight = 4;
    let sender = Client::connect_with(setup, &options, Default::default()).await?;
    sender.works("before").await?;
    link.hold(Direction::Both, true);
    let mut receipts = Vec::new();
    // Again and again, so that what goes into the socket makes no room for ever.
    loop {
        receipts.extend(sender.fill(MANY, || numbered("full", 0, QoS::AtLeastOnce))?);
        ensure!(receipts.len() < MANY, "{MANY} messages are unsettled");
        // Real room shows at once; its absence is the point.
        match timeout(Duration::from_millis(200), sender.connection.ready(QoS::AtLeastOnce)).await {
            Ok(ready) => ready.or_fail("waiting for room")?,
            Err(_) => break,
        }
    }
    ensure!(!receipts.is_empty(), "nothing at all was taken over");
    let given = numbered("full", 99, QoS::AtLeastOnce)?.with_key(5);
    match sender.connection.try_publish(given.clone()) {
        Err(TryPublishError::Full(back)) => ensure!(back == given, "another message came back: {back:?}"),
        other => return Err(Failure::new(format!("at the bound a publish came to {other:?}"))),
    }
    link.hold(Direction::Both, false);
    let ready = soon(
        "ready() once the broker answers again",
        sender.connection.ready(QoS::AtLeastOnce),
    )
    .await?;
    ready.or_fail("ready()")?;
    receipts.push(sender.publish(given).await?);
    for receipt in receipts {
        settled(receipt).await?;
    }
    Ok(())
}

pub(super) async fn unacknowledged_is_bounded_too(setup: &Setup) -> Result<(), Failure> {
    let link = setup.broker.link("sender").await?;
    let sender = Client::connect_with(setup, &link.options(), Default::default()).await?;
    link.hold(Direction::Both, true);
    let payload = Bytes::from(vec![7; 16 * 1024]);
    let mut taken = 0;
    loop {
        let full = sender.fill(2 * MANY, || message("full", payload.clone(), QoS::AtMostOnce))?;
        taken += full.len();
        ensure!(
            taken < 2 * MANY,
            "{taken} messages were taken over for a peer that does not read"
        );
        if timeout(Duration::from_millis(300), sender.connection.ready(QoS::AtMostOnce))
            .await
            .is_err()
        {
            break;
        }
    }
    link.hold(Direction::Both, false);
    soon(
        "ready() once the peer reads again",
        sender.connection.ready(QoS::AtMostOnce),
    )
    .await?
    .or_fail("ready()")?;
    sender.works("afterwards").await
}

pub(super) async fn order_is_kept(setup: &Setup) -> Result<(), Failure> {
    for qos in setup.levels() {
        let mut listener = Client::listen(setup, "listener", *qos).await?;
        let sender = Client::connect(setup, "sender").await?;
        let send = async {
            let mut receipts = Vec::new();
            for n in 0..200 {
                receipts.push(sender.publish(numbered("order", n, *qos)?).await?);
            }
            for receipt in receipts {
                settled(receipt).await?;
            }
            Ok::<_, Failure>(())
        };
        let receive = async {
            for expected in 0..200 {
                let got = number(&listener.take().await?)?;
                ensure!(
                    got == expected,
                    "at QoS {qos} number {got} came where {expected} was due"
                );
            }
            Ok(())
        };
        tokio::try_join!(send, receive)?;
        listener.disconnect().await?;
        sender.disconnect().await?;
    }
    Ok(())
}

const PUBLISHERS: u32 = 16;
const EACH: u32 = 40;

pub(super) async fn many_publishers(setup: &Setup) -> Result<(), Failure> {
    let mut listener = Client::listen(setup, "listener", QoS::AtLeastOnce).await?;
    let sender = Client::connect(setup, "sender").await?;
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let connection = std::sync::Arc::clone(&sender.connection);
        publishers.spawn(async move {
            for n in 0..EACH {
                let message = numbered(&format!("by/{publisher}"), n, QoS::AtLeastOnce)?;
                let taken = soon("room", tars_ports::PublisherExt::publish(&connection, message)).await?;
                // Half of them wait for each receipt, half for none.
                let receipt = taken.or_fail("one of many publishers")?;
                if publisher % 2 == 0 {
                    settled(receipt).await?;
                }
            }
            Ok::<_, Failure>(())
        });
    }
    let mut next: BTreeMap<TopicName, u32> = BTreeMap::new();
    for _ in 0..PUBLISHERS * EACH {
        let got = listener.take().await?;
        let due = next.entry(got.topic.clone()).or_default();
        let n = number(&got)?;
        ensure!(n == *due, "{:?}: number {n} came where {due} was due", got.topic);
        *due += 1;
    }
    while let Some(done) = publishers.join_next().await {
        done.or_fail("a publisher")??;
    }
    ensure!(
        next.len() == PUBLISHERS as usize,
        "{} topics of {PUBLISHERS} came below {ALL}",
        next.len()
    );
    Ok(())
}
