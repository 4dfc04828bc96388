//! Acknowledgements: what is withheld comes again, what is given counts, whatever the
//! order. The order on the wire is the business of an adapter's own tests, which see
//! the bytes.

use std::collections::BTreeSet;

use tars_ports::{ConnectOptions, Delivery, QoS, SessionState};

use super::steps::{ALL, Client, message, number, numbered, settled, until};
use super::{Failure, OrFail, Setup, ensure};

/// A listener whose session is kept, and deliveries to it that nobody has acknowledged.
async fn unacknowledged(setup: &Setup, count: u32, qos: QoS) -> Result<(Client, Vec<Delivery>), Failure> {
    let mut listener = Client::keep(setup, &options(setup), SessionState::new()).await?;
    listener.subscribe(ALL, qos).await?;
    let sender = Client::connect(setup, "sender").await?;
    for n in 0..count {
        sender.publish_settled(numbered("held", n, qos)?).await?;
    }
    sender.disconnect().await?;
    let deliveries = listener.deliveries(count as usize).await?;
    for (n, delivery) in deliveries.iter().enumerate() {
        ensure!(!delivery.dup, "delivery {n} is a dup, and it came for the first time");
    }
    Ok((listener, deliveries))
}

fn options(setup: &Setup) -> ConnectOptions {
    setup.options("listener")
}

/// The listener's next connection, with what its session hands on.
async fn again(setup: &Setup, mut listener: Client) -> Result<Client, Failure> {
    // Cleanly, so that every acknowledgement that was given arrives.
    let connection = std::sync::Arc::clone(&listener.connection);
    let (done, ended) = tokio::join!(connection.disconnect(), listener.ended());
    done.or_fail("a clean disconnect")?;
    let next = Client::keep(setup, &options(setup), ended?.session).await?;
    ensure!(next.session_present, "the broker did not keep the session");
    Ok(next)
}

fn numbers(deliveries: &[Delivery]) -> Result<BTreeSet<u32>, Failure> {
    deliveries.iter().map(number).collect()
}

/// The levels that are acknowledged.
fn acknowledged(setup: &Setup) -> &'static [QoS] {
    &setup.levels()[1..]
}

pub(super) async fn withheld_comes_again(setup: &Setup) -> Result<(), Failure> {
    for qos in acknowledged(setup) {
        let (listener, deliveries) = unacknowledged(setup, 5, *qos).await?;
        // Dropping deliveries and tokens acknowledges nothing.
        drop(deliveries);
        let mut listener = again(setup, listener).await?;
        let rest = listener.rest(setup).await?;
        ensure!(
            numbers(&rest)? == (0..5).collect() && rest.len() == 5,
            "withheld at QoS {qos} were 0 to 4, and again came {:?}",
            numbers(&rest)?
        );
        ensure!(
            rest.iter().all(|got| got.dup),
            "what comes again at QoS {qos} has no dup flag"
        );
        let mut listener = again(setup, listener).await?;
        let rest = listener.rest(setup).await?;
        ensure!(
            rest.is_empty(),
            "acknowledged at last, at QoS {qos} came again: {:?}",
            numbers(&rest)?
        );
        listener.disconnect().await?;
        forget(setup).await?;
    }
    Ok(())
}

/// Makes the broker forget the listener's session, for the next level.
async fn forget(setup: &Setup) -> Result<(), Failure> {
    Client::connect(setup, "listener").await?.disconnect().await
}

pub(super) async fn late_is_as_good(setup: &Setup) -> Result<(), Failure> {
    for qos in acknowledged(setup) {
        let (mut listener, deliveries) = unacknowledged(setup, 3, *qos).await?;
        // Other messages come and are done meanwhile, and the line lies idle.
        listener
            .publish_settled(numbered("other", 7, QoS::AtLeastOnce)?)
            .await?;
        listener.take().await?;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        for delivery in &deliveries {
            listener.ack(delivery);
        }
        let mut listener = again(setup, listener).await?;
        let rest = listener.rest(setup).await?;
        ensure!(
            rest.is_empty(),
            "acknowledged late at QoS {qos}, and came again: {:?}",
            numbers(&rest)?
        );
        listener.disconnect().await?;
        forget(setup).await?;
    }
    Ok(())
}

pub(super) async fn out_of_order_is_complete(setup: &Setup) -> Result<(), Failure> {
    for qos in acknowledged(setup) {
        let (listener, deliveries) = unacknowledged(setup, 12, *qos).await?;
        for delivery in deliveries.iter().rev() {
            listener.ack(delivery);
        }
        let mut listener = again(setup, listener).await?;
        let rest = listener.rest(setup).await?;
        ensure!(
            rest.is_empty(),
            "acknowledged backwards at QoS {qos}, and came again: {:?}",
            numbers(&rest)?
        );
        listener.disconnect().await?;
        forget(setup).await?;
    }
    Ok(())
}

pub(super) async fn a_gap_comes_again(setup: &Setup) -> Result<(), Failure> {
    let (listener, deliveries) = unacknowledged(setup, 6, QoS::AtLeastOnce).await?;
    for delivery in &deliveries {
        if ![2, 4].contains(&number(delivery)?) {
            listener.ack(delivery);
        }
    }
    let mut listener = again(setup, listener).await?;
    let rest = numbers(&listener.rest(setup).await?)?;
    ensure!(
        rest.is_superset(&BTreeSet::from([2, 4])),
        "2 and 4 were not acknowledged, and again came only {rest:?}"
    );
    // 3 and 5 may come again: their acknowledgement waits for that of 2.
    ensure!(
        !rest.contains(&0) && !rest.contains(&1),
        "0 and 1 were acknowledged: {rest:?}"
    );
    Ok(())
}

pub(super) async fn stale_token_does_nothing(setup: &Setup) -> Result<(), Failure> {
    let (listener, old) = unacknowledged(setup, 2, QoS::AtLeastOnce).await?;
    let mut listener = again(setup, listener).await?;
    let new = listener.deliveries(2).await?;
    for delivery in &old {
        listener.ack(delivery);
    }
    listener.works("after a stale token").await?;
    let mut listener = again(setup, listener).await?;
    let rest = listener.rest(setup).await?;
    let held: BTreeSet<_> = numbers(&rest)?.intersection(&numbers(&new)?).copied().collect();
    ensure!(
        held.len() == 2,
        "a token of the old connection acknowledged on the new one; of 0 and 1 again came {held:?}"
    );
    Ok(())
}

pub(super) async fn second_use_does_nothing(setup: &Setup) -> Result<(), Failure> {
    let (listener, deliveries) = unacknowledged(setup, 3, QoS::AtLeastOnce).await?;
    for _ in 0..4 {
        listener.ack(&deliveries[0]);
    }
    listener.works("after a second use").await?;
    let mut listener = again(setup, listener).await?;
    let rest = numbers(&listener.rest(setup).await?)?;
    ensure!(
        rest.is_superset(&BTreeSet::from([1, 2])),
        "the token of 0 was used four times; of 1 and 2 again came {rest:?}"
    );
    Ok(())
}

pub(super) async fn tokens_are_for_acknowledged_levels(setup: &Setup) -> Result<(), Failure> {
    let levels = setup.levels();
    let highest = *levels.last().unwrap_or(&QoS::AtLeastOnce);
    let mut listener = Client::listen(setup, "listener", highest).await?;
    for qos in levels {
        listener.publish_settled(numbered("t", 1, *qos)?).await?;
        let token = listener.take().await?.token;
        let expected = setup.capabilities().manual_ack && *qos != QoS::AtMostOnce;
        ensure!(
            token.is_some() == expected,
            "a delivery at QoS {qos} has the token {token:?}"
        );
    }
    Ok(())
}

pub(super) async fn acknowledged_on_receipt(setup: &Setup) -> Result<(), Failure> {
    let (listener, deliveries) = unacknowledged(setup, 5, QoS::AtLeastOnce).await?;
    ensure!(
        deliveries.iter().all(|got| got.token.is_none()),
        "there is a token, and nothing to acknowledge"
    );
    let mut listener = again(setup, listener).await?;
    let rest = listener.rest(setup).await?;
    ensure!(rest.is_empty(), "delivered once, and came again: {:?}", numbers(&rest)?);
    Ok(())
}

const BUDGET: u32 = 4;

pub(super) async fn reading_pauses_at_the_budget(setup: &Setup) -> Result<(), Failure> {
    let mut options = setup.options("slow");
    options.inbound_messages = BUDGET as usize;
    let mut slow = Client::connect_with(setup, &options, SessionState::new()).await?;
    slow.subscribe("suite/slow/#", QoS::AtLeastOnce).await?;
    slow.subscribe("suite/marker", QoS::AtLeastOnce).await?;
    let mut other = Client::connect(setup, "other").await?;
    other.subscribe("suite/from-slow", QoS::AtLeastOnce).await?;
    // Below every broker's window, so that it is the reader who stops.
    for n in 0..4 * BUDGET {
        other.publish_settled(numbered("slow/x", n, QoS::AtLeastOnce)?).await?;
    }
    until("reading pauses at the budget", || {
        slow.connection.activity().reading_paused
    })
    .await?;
    let mut held = slow.deliveries(BUDGET as usize).await?;
    // An adapter may read on, up to twice the budget, while it waits for an answer.
    let own = slow.publish(numbered("from-slow", 1, QoS::AtLeastOnce)?).await?;
    let got = other.take().await?;
    ensure!(
        number(&got)? == 1,
        "while reading pauses another message went out: {got:?}"
    );
    while held.len() <= 2 * BUDGET as usize {
        let more = tokio::time::timeout(std::time::Duration::from_millis(200), slow.delivery()).await;
        match more {
            Ok(delivery) => held.push(delivery?),
            Err(_) => break,
        }
    }
    ensure!(
        held.len() <= 2 * BUDGET as usize,
        "{} deliveries wait for their acknowledgement, at a budget of {BUDGET}",
        held.len()
    );
    // Acknowledgements go out, and reading goes on.
    for delivery in &held {
        slow.ack(delivery);
    }
    for due in held.len() as u32..4 * BUDGET {
        let n = number(&slow.take().await?)?;
        ensure!(n == due, "after the pause {n} came where {due} was due");
    }
    settled(own).await?;
    let rest = slow.rest(setup).await?;
    ensure!(rest.is_empty(), "more came than was sent: {rest:?}");
    until("reading goes on", || !slow.connection.activity().reading_paused).await
}

pub(super) async fn one_message_always_fits(setup: &Setup) -> Result<(), Failure> {
    let mut options = setup.options("slow");
    options.inbound_bytes = 1_000;
    let mut slow = Client::connect_with(setup, &options, SessionState::new()).await?;
    slow.subscribe(ALL, QoS::AtLeastOnce).await?;
    let other = Client::connect(setup, "other").await?;
    for n in 0..5 {
        other
            .publish_settled(message("large", vec![n; 5_000], QoS::AtLeastOnce)?)
            .await?;
    }
    for n in 0..5 {
        let got = slow.take().await?;
        ensure!(
            got.payload.len() == 5_000 && got.payload[0] == n,
            "delivery {n} is another"
        );
    }
    Ok(())
}
