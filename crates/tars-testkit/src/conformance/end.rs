//! Every way in which a connection ends, and what is left of it: nothing.

use tars_ports::{EndReason, Error, ErrorKind, Fate, QoS, Receipt, SessionState, TryPublishError};

use super::steps::{Client, filter, next, numbered, settled, soon, until};
use super::{Failure, Link, OrFail, Setup, ensure};
use crate::proxy::Direction;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Disconnect,
    Close,
    Cut,
}

const WAYS: [Way; 3] = [Way::Disconnect, Way::Close, Way::Cut];

/// A connection, ended that way, and its end not yet looked at. The link is to be kept:
/// dropped, it would cut the connection, and so perhaps end it before its own way does.
async fn end(setup: &Setup, way: Way) -> Result<(Client, Box<dyn Link>), Failure> {
    let link = setup.broker.link("client").await?;
    let client = Client::connect_with(setup, &link.options(), SessionState::new()).await?;
    client.works("before its end").await?;
    match way {
        Way::Disconnect => {
            let done = soon("disconnect", client.connection.disconnect()).await?;
            done.or_fail("a clean disconnect")?;
        }
        Way::Close => client.connection.close(),
        Way::Cut => link.cut(),
    }
    Ok((client, link))
}

pub(super) async fn once_and_last(setup: &Setup) -> Result<(), Failure> {
    for way in WAYS {
        let (mut client, _link) = end(setup, way).await?;
        let reason = client.ended().await?.reason;
        let right = match (&reason, way) {
            (EndReason::Disconnected, Way::Disconnect) | (EndReason::Closed, Way::Close) => true,
            (EndReason::Lost(error), Way::Cut) => error.kind() == ErrorKind::ConnectionLost,
            _ => false,
        };
        ensure!(right, "{way:?} ended with {reason:?}");
        for _ in 0..3 {
            let more = soon("the end of the stream", next(&mut client.inbound)).await?;
            ensure!(more.is_none(), "after {way:?} and Ended came {more:?}");
        }
    }
    Ok(())
}

pub(super) async fn not_connected_afterwards(setup: &Setup) -> Result<(), Failure> {
    for way in WAYS {
        let (mut client, _link) = end(setup, way).await?;
        client.ended().await?;
        not_connected(&client)
            .await
            .map_err(|failure| Failure::new(format!("after {way:?} {failure}")))?;
    }
    Ok(())
}

async fn not_connected(client: &Client) -> Result<(), Failure> {
    let wrong = |what: &str, error: Option<Error>| match error {
        Some(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
        Some(error) => Err(Failure::new(format!("{what} fails with {error:?}"))),
        None => Err(Failure::new(format!("{what} succeeds"))),
    };
    let connection = &client.connection;
    match connection.try_publish(numbered("t", 1, QoS::AtLeastOnce)?) {
        Err(TryPublishError::Failed(error)) => {
            let fate = error.fate();
            wrong("a publish", Some(error))?;
            ensure!(fate == Some(Fate::NotSent), "a publish has the fate {fate:?}");
        }
        other => return Err(Failure::new(format!("a publish comes to {other:?}"))),
    }
    wrong(
        "ready()",
        soon("ready()", connection.ready(QoS::AtLeastOnce)).await?.err(),
    )?;
    let filters = [(filter("suite/a")?, QoS::AtMostOnce)];
    wrong(
        "subscribe",
        soon("subscribe", connection.subscribe(&filters)).await?.err(),
    )?;
    let filters = [filter("suite/a")?];
    wrong(
        "unsubscribe",
        soon("unsubscribe", connection.unsubscribe(&filters)).await?.err(),
    )?;
    ensure!(!connection.activity().reading_paused, "reading is paused");
    // No more than a second time.
    connection.close();
    Ok(())
}

pub(super) async fn disconnect_again_is_no_error(setup: &Setup) -> Result<(), Failure> {
    for way in WAYS {
        let (mut client, _link) = end(setup, way).await?;
        client.ended().await?;
        for _ in 0..2 {
            let again = soon("disconnect", client.connection.disconnect()).await?;
            let right = match &again {
                Ok(()) => way == Way::Disconnect,
                Err(error) => way != Way::Disconnect && error.kind() == ErrorKind::NotConnected,
            };
            ensure!(right, "disconnect after {way:?} came to {again:?}");
        }
    }
    Ok(())
}

/// Publishes of which the broker has one and confirms none, up to the bound of the
/// connection: the listener has seen the first.
async fn unsettled(
    setup: &Setup,
    client: &Client,
    link: &dyn Link,
    listener: &mut Client,
) -> Result<Vec<Receipt>, Failure> {
    let one_way = setup.broker.facilities().one_way;
    link.hold(Direction::ToClient, true);
    let mut receipts = vec![client.publish(numbered("t", 0, QoS::AtLeastOnce)?).await?];
    if one_way {
        listener.take().await?;
    } else {
        // As far as it can be told from outside, it is written.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut sent = 0;
    receipts.extend(client.fill(10_000, || {
        sent += 1;
        let qos = setup.levels()[1 + sent % (setup.levels().len() - 1)];
        numbered("more", 1, qos)
    })?);
    Ok(receipts)
}

async fn settle_with_a_fate(receipts: Vec<Receipt>) -> Result<(), Failure> {
    let count = receipts.len();
    for (at, receipt) in receipts.into_iter().enumerate() {
        let outcome = soon("a receipt that settles", receipt).await;
        let outcome = outcome.map_err(|failure| Failure::new(format!("receipt {at} of {count}: {failure}")))?;
        match outcome {
            Ok(_) => return Err(Failure::new(format!("receipt {at} says confirmed, and no answer came"))),
            Err(error) if at == 0 => ensure!(
                error.fate() == Some(Fate::Unknown),
                "the broker has the first message, and its receipt says {error:?}"
            ),
            Err(error) => ensure!(
                error.fate().is_some(),
                "receipt {at} says nothing of its fate: {error:?}"
            ),
        }
    }
    Ok(())
}

async fn receipts_settle(setup: &Setup, close: bool) -> Result<(), Failure> {
    let mut listener = Client::connect(setup, "listener").await?;
    listener.subscribe("suite/t", QoS::AtLeastOnce).await?;
    let link = setup.broker.link("client").await?;
    let mut options = link.options();
    options.max_inflight = 5;
    options.max_inflight_qos2 = 2;
    let mut client = Client::connect_with(setup, &options, SessionState::new()).await?;
    let receipts = unsettled(setup, &client, &*link, &mut listener).await?;
    match close {
        true => client.connection.close(),
        false => link.cut(),
    }
    link.hold(Direction::ToClient, false);
    settle_with_a_fate(receipts).await?;
    client.ended().await?;
    Ok(())
}

pub(super) async fn receipts_settle_when_cut(setup: &Setup) -> Result<(), Failure> {
    receipts_settle(setup, false).await
}

pub(super) async fn receipts_settle_at_close(setup: &Setup) -> Result<(), Failure> {
    receipts_settle(setup, true).await
}

pub(super) async fn receipts_settle_when_the_broker_dies(setup: &Setup) -> Result<(), Failure> {
    let mut client = Client::connect(setup, "client").await?;
    client.works("before").await?;
    let mut receipts = Vec::new();
    for (_, qos) in (0..300).zip(setup.levels().iter().cycle()) {
        match client.connection.try_publish(numbered("t", 1, *qos)?) {
            Ok(receipt) => receipts.push(receipt),
            Err(TryPublishError::Full(_)) => break,
            Err(error) => return Err(Failure::new(format!("publishing failed with {error:?}"))),
        }
    }
    setup.broker.kill().await?;
    let count = receipts.len();
    for (at, receipt) in receipts.into_iter().enumerate() {
        let outcome = soon("a receipt that settles", receipt).await;
        let outcome = outcome.map_err(|failure| Failure::new(format!("receipt {at} of {count}: {failure}")))?;
        if let Err(error) = outcome {
            ensure!(
                error.fate().is_some(),
                "receipt {at} says nothing of its fate: {error:?}"
            );
        }
    }
    client.lost().await?;
    Ok(())
}

pub(super) async fn the_broker_goes_away(setup: &Setup) -> Result<(), Failure> {
    let mut client = Client::connect(setup, "client").await?;
    client.works("before").await?;
    setup.broker.stop().await?;
    // A broker may say goodbye in words that MQTT 3.1.1 does not know.
    let error = client.lost().await?;
    ensure!(
        matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::Protocol),
        "the end says {error:?}"
    );
    let options = setup.options("client");
    let attempt = setup.connector.connect(&options, SessionState::new());
    let error = soon("an attempt without a broker", attempt).await?.err();
    ensure!(
        error
            .as_ref()
            .is_some_and(|error| error.kind() == ErrorKind::Unreachable),
        "while the broker is away connecting says {error:?}"
    );
    setup.broker.start_again().await?;
    let client = Client::connect(setup, "client").await?;
    client.works("when the broker is back").await?;
    client.disconnect().await
}

pub(super) async fn the_client_id_is_taken_over(setup: &Setup) -> Result<(), Failure> {
    let mut first = Client::listen(setup, "twin", QoS::AtLeastOnce).await?;
    let second = Client::connect(setup, "twin").await?;
    let error = first.lost().await?;
    ensure!(
        matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::Protocol),
        "the first one's end says {error:?}"
    );
    not_connected(&first).await?;
    // What the first one's remains do must not harm the second.
    drop(first);
    second.works("after the takeover").await?;
    second.disconnect().await
}

pub(super) async fn dropped_handles_close(setup: &Setup) -> Result<(), Failure> {
    let client = Client::connect(setup, "client").await?;
    let Client {
        connection,
        mut inbound,
        ..
    } = client;
    let other = std::sync::Arc::clone(&connection);
    drop(connection);
    let sent = other.try_publish(numbered("t", 1, QoS::AtLeastOnce)?);
    let receipt = sent.or_fail("one handle is left, and a publish")?;
    settled(receipt).await?;
    drop(other);
    match soon("the end", next(&mut inbound)).await? {
        Some(tars_ports::Incoming::Ended(ended)) => {
            ensure!(
                matches!(ended.reason, EndReason::Closed),
                "it ended with {:?}",
                ended.reason
            );
        }
        other => return Err(Failure::new(format!("awaited Ended, got {other:?}"))),
    }
    Ok(())
}

pub(super) async fn dropped_inbound_closes(setup: &Setup) -> Result<(), Failure> {
    let client = Client::connect(setup, "client").await?;
    let Client {
        connection, inbound, ..
    } = client;
    let receipt = connection
        .try_publish(numbered("t", 1, QoS::AtLeastOnce)?)
        .or_fail("a publish")?;
    drop(inbound);
    // It may or may not have gone out, but its receipt settles.
    let _ = soon("a receipt that settles", receipt).await?;
    let message = numbered("t", 2, QoS::AtMostOnce)?;
    until("without its stream the connection ends", || {
        matches!(
            connection.try_publish(message.clone()),
            Err(TryPublishError::Failed(error)) if error.kind() == ErrorKind::NotConnected
        )
    })
    .await
}
