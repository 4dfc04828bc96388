//! Every async method, polled a few times and dropped: at its first await, its second,
//! and so on until it gets through. What is left is a connection that works or one that
//! has ended; nothing hangs.

use std::sync::Arc;
use std::time::Duration;

use tars_ports::{EndReason, PublisherExt, QoS, SessionState, Subscriber};
use tokio::time::timeout;

use super::steps::{Client, filter, number, numbered, polled, settled, soon};
use super::{Failure, OrFail, Setup, ensure};
use crate::proxy::Direction;

/// More awaits than any method has.
const AWAITS: usize = 40;

pub(super) async fn connect_at_every_await(setup: &Setup) -> Result<(), Failure> {
    for polls in 0..AWAITS {
        let options = setup.options(&format!("attempt-{polls}"));
        let attempt = setup.connector.connect(&options, SessionState::new());
        if let Some(connected) = polled(polls, attempt).await {
            let client = Client::from(connected.or_fail("an attempt after dropped ones")?);
            client.works("after dropped attempts").await?;
            return client.disconnect().await;
        }
        // What is left of the dropped attempts must not keep the next from being made. It
        // has an id of its own: a broker may read a CONNECT of a dropped attempt later than
        // a newer one, and would then end that for it.
        if polls % 3 == 2 {
            let mut client = Client::connect(setup, &format!("client-{polls}")).await?;
            client.works("after a dropped attempt").await?;
            tokio::select! {
                biased;
                item = super::steps::next(&mut client.inbound) => {
                    return Err(Failure::new(format!("a dropped attempt ended the next connection: {item:?}")));
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            client.disconnect().await?;
        }
    }
    Err(Failure::new(format!(
        "connecting did not resolve within {AWAITS} polls"
    )))
}

pub(super) async fn subscribe_at_every_await(setup: &Setup) -> Result<(), Failure> {
    let mut client = Client::connect(setup, "client").await?;
    let filters = [
        (filter("suite/a/#")?, QoS::AtLeastOnce),
        (filter("suite/b")?, QoS::AtMostOnce),
    ];
    for polls in 0..AWAITS {
        let answer = polled(polls, client.connection.subscribe(&filters)).await;
        client.works("after a dropped subscribe").await?;
        if let Some(answer) = answer {
            let answer = answer.or_fail("subscribing after dropped attempts")?;
            ensure!(
                answer == [Ok(QoS::AtLeastOnce), Ok(QoS::AtMostOnce)],
                "after dropped subscribes the answer is {answer:?}"
            );
            client.publish_settled(numbered("a/x", 5, QoS::AtLeastOnce)?).await?;
            let got = client.take().await?;
            ensure!(number(&got)? == 5, "another message came: {got:?}");
            return client.disconnect().await;
        }
    }
    Err(Failure::new(format!("subscribe did not resolve within {AWAITS} polls")))
}

pub(super) async fn unsubscribe_at_every_await(setup: &Setup) -> Result<(), Failure> {
    let client = Client::connect(setup, "client").await?;
    for polls in 0..AWAITS {
        client.subscribe("suite/a/#", QoS::AtLeastOnce).await?;
        let filters = [filter("suite/a/#")?];
        let answer = polled(polls, client.connection.unsubscribe(&filters)).await;
        client.works("after a dropped unsubscribe").await?;
        if let Some(answer) = answer {
            answer.or_fail("unsubscribing after dropped attempts")?;
            return client.disconnect().await;
        }
    }
    Err(Failure::new(format!(
        "unsubscribe did not resolve within {AWAITS} polls"
    )))
}

/// A connection that takes nothing over until the link is let go.
async fn full(setup: &Setup) -> Result<(Client, Box<dyn super::Link>, Vec<tars_ports::Receipt>), Failure> {
    let link = setup.broker.link("client").await?;
    let mut options = link.options();
    options.max_inflight = 2;
    let client = Client::connect_with(setup, &options, SessionState::new()).await?;
    client.works("before").await?;
    link.hold(Direction::Both, true);
    let mut receipts = Vec::new();
    loop {
        receipts.extend(client.fill(10_000, || numbered("full", 0, QoS::AtLeastOnce))?);
        ensure!(receipts.len() < 10_000, "the connection is never Full");
        if timeout(Duration::from_millis(200), client.connection.ready(QoS::AtLeastOnce))
            .await
            .is_err()
        {
            return Ok((client, link, receipts));
        }
    }
}

pub(super) async fn ready_at_every_await(setup: &Setup) -> Result<(), Failure> {
    let (client, link, receipts) = full(setup).await?;
    // Several wait, and some of them go away: the others must not lose their turn.
    let mut waiting = tokio::task::JoinSet::new();
    let mut leaving = Vec::new();
    for _ in 0..6 {
        let connection = Arc::clone(&client.connection);
        waiting.spawn(async move { connection.ready(QoS::AtLeastOnce).await });
        let mut ready = Box::pin(client.connection.ready(QoS::AtLeastOnce));
        ensure!(
            polled(1, ready.as_mut()).await.is_none(),
            "ready() resolves where there is no room"
        );
        leaving.push(ready);
    }
    tokio::task::yield_now().await;
    leaving.truncate(3);
    link.hold(Direction::Both, false);
    drop(leaving);
    while let Some(ready) = soon("those who still wait for room", waiting.join_next()).await? {
        ready.or_fail("a waiter")?.or_fail("ready()")?;
    }
    for receipt in receipts {
        settled(receipt).await?;
    }
    client.works("after dropped waits").await
}

pub(super) async fn publish_at_every_await(setup: &Setup) -> Result<(), Failure> {
    // Before the link is held: a broker that stands still lets nobody in.
    let mut listener = Client::listen(setup, "listener", QoS::AtLeastOnce).await?;
    let (client, link, receipts) = full(setup).await?;
    for polls in 1..4 {
        let publish = client.connection.publish(numbered("dropped", 1, QoS::AtLeastOnce)?);
        ensure!(
            polled(polls, publish).await.is_none(),
            "a publish resolves where there is no room"
        );
    }
    link.hold(Direction::Both, false);
    let count = receipts.len();
    for receipt in receipts {
        settled(receipt).await?;
    }
    client.works("after dropped publishes").await?;
    let rest = listener.rest(setup).await?;
    let dropped = rest.iter().filter(|got| got.topic.as_str() == "suite/dropped").count();
    ensure!(
        dropped == 0,
        "{dropped} dropped publishes were sent all the same, of {count} others"
    );
    Ok(())
}

pub(super) async fn disconnect_at_every_await(setup: &Setup) -> Result<(), Failure> {
    for polls in 0..AWAITS {
        let mut client = Client::connect(setup, "client").await?;
        let receipt = client.publish(numbered("t", 1, QoS::AtLeastOnce)?).await?;
        let done = polled(polls, client.connection.disconnect()).await;
        if polls == 0 {
            // Never polled, it never began.
            client.works("after a disconnect that was not begun").await?;
            client.disconnect().await?;
            continue;
        }
        let reason = client.ended().await?.reason;
        ensure!(
            matches!(reason, EndReason::Disconnected),
            "dropped after {polls} polls, disconnect ended with {reason:?}"
        );
        let _ = soon("a receipt that settles", receipt).await?;
        if let Some(done) = done {
            return done.or_fail("a clean disconnect");
        }
    }
    Err(Failure::new(format!(
        "disconnect did not resolve within {AWAITS} polls"
    )))
}
