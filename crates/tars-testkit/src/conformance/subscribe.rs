//! SUBSCRIBE, UNSUBSCRIBE and their answers.

use std::time::Duration;

use tars_contracts::TopicFilter;
use tars_ports::{ErrorKind, QoS, Refused, SessionState, Subscriber};

use super::steps::{Client, filter, numbered, soon};
use super::{Failure, OrFail, Scene, Setup, ensure};
use crate::proxy::Direction;

/// With distinct levels, so that answers that were mixed up show.
fn filters(setup: &Setup, count: usize) -> Result<Vec<(TopicFilter, QoS)>, Failure> {
    let levels = setup.levels();
    (0..count)
        .map(|n| Ok((filter(&format!("suite/{n}/+"))?, levels[(n * n) % levels.len()])))
        .collect()
}

pub(super) async fn answers_are_in_order(setup: &Setup) -> Result<(), Failure> {
    let mut options = setup.options("client");
    // So that they do not fit into one packet.
    options.max_packet_size = 500;
    let mut client = Client::connect_with(setup, &options, SessionState::new()).await?;
    let filters = filters(setup, 150)?;
    let answers = soon("SUBACK", client.connection.subscribe(&filters)).await?;
    let answers = answers.or_fail("subscribing to 150 filters")?;
    ensure!(answers.len() == 150, "150 filters have {} answers", answers.len());
    for ((filter, asked), answer) in filters.iter().zip(answers) {
        ensure!(
            answer == Ok(*asked),
            "{} at QoS {asked} was answered with {answer:?}",
            filter.as_str()
        );
    }
    for n in [0, 77, 149] {
        client
            .publish_settled(numbered(&format!("{n}/x"), n, QoS::AtMostOnce)?)
            .await?;
        client.take().await?;
    }
    let filters: Vec<_> = filters.into_iter().map(|(filter, _)| filter).collect();
    soon("UNSUBACK", client.connection.unsubscribe(&filters))
        .await?
        .or_fail("unsubscribing from 150 filters")
}

pub(super) async fn refused_filter(setup: &Setup) -> Result<(), Failure> {
    let scene = Scene::DenyFilter("suite/denied".into());
    let stage = setup.broker.stage("client", scene).await?;
    let client = Client::connect_with(setup, &stage.options, SessionState::new()).await?;
    let denied = (filter("suite/denied")?, QoS::AtLeastOnce);
    // Alone, and among others: libraries answer the two in different ways.
    let answer = soon("SUBACK", client.connection.subscribe(std::slice::from_ref(&denied))).await?;
    let answer = answer.or_fail("a refusal is an answer")?;
    ensure!(
        answer == [Err(Refused::default())],
        "a refused filter was answered with {answer:?}"
    );
    let (a, b) = (filter("suite/a")?, filter("suite/b")?);
    let filters = [(a, QoS::AtLeastOnce), denied.clone(), (b, QoS::AtMostOnce), denied];
    let answers = soon("SUBACK", client.connection.subscribe(&filters)).await?;
    let answers = answers.or_fail("refusals are answers")?;
    let expected = [
        Ok(QoS::AtLeastOnce),
        Err(Refused::default()),
        Ok(QoS::AtMostOnce),
        Err(Refused::default()),
    ];
    ensure!(
        answers == expected,
        "granted, refused, granted, refused came as {answers:?}"
    );
    client.works("after a refusal").await
}

pub(super) async fn no_filters_is_no_error(setup: &Setup) -> Result<(), Failure> {
    let client = Client::connect(setup, "client").await?;
    let answer = soon("no answer", client.connection.subscribe(&[])).await?;
    ensure!(
        answer.or_fail("subscribing to nothing")?.is_empty(),
        "nothing has an answer"
    );
    let done = soon("no answer", client.connection.unsubscribe(&[])).await?;
    done.or_fail("unsubscribing from nothing")?;
    client.works("afterwards").await
}

pub(super) async fn unsubscribed_is_silent(setup: &Setup) -> Result<(), Failure> {
    let mut client = Client::connect(setup, "client").await?;
    for text in ["suite/gone/#", "suite/marker"] {
        client.subscribe(text, QoS::AtLeastOnce).await?;
    }
    let sender = Client::connect(setup, "sender").await?;
    sender.publish_settled(numbered("gone/x", 1, QoS::AtLeastOnce)?).await?;
    client.take().await?;
    // One that is not held is no error (MQTT 3.1.1 section 3.10.4).
    let filters = [filter("suite/gone/#")?, filter("suite/never")?];
    let done = soon("UNSUBACK", client.connection.unsubscribe(&filters)).await?;
    done.or_fail("unsubscribing")?;
    sender.publish_settled(numbered("gone/x", 2, QoS::AtLeastOnce)?).await?;
    let rest = client.rest(setup).await?;
    ensure!(rest.is_empty(), "after unsubscribe came {rest:?}");
    Ok(())
}

pub(super) async fn no_answer_is_a_timeout(setup: &Setup) -> Result<(), Failure> {
    let link = setup.broker.link("client").await?;
    let mut options = link.options();
    options.timeout = Duration::from_secs(1);
    let mut client = Client::connect_with(setup, &options, SessionState::new()).await?;
    let filters = [(filter("suite/#")?, QoS::AtLeastOnce)];
    link.hold(Direction::Both, true);
    let answer = soon("a timeout", client.connection.subscribe(&filters)).await?;
    ensure!(
        matches!(&answer, Err(error) if error.kind() == ErrorKind::Timeout),
        "without SUBACK subscribe came to {answer:?}"
    );
    let answer = soon("a timeout", client.connection.unsubscribe(&[filter("suite/other")?])).await?;
    ensure!(
        matches!(&answer, Err(error) if error.kind() == ErrorKind::Timeout),
        "without UNSUBACK unsubscribe came to {answer:?}"
    );
    // The late answers must be taken for nobody else's.
    link.hold(Direction::Both, false);
    client.subscribe("suite/later/#", QoS::AtMostOnce).await?;
    client.publish_settled(numbered("late", 1, QoS::AtLeastOnce)?).await?;
    client.take().await?;
    client.works("after the timeouts").await
}

pub(super) async fn waiters_learn_of_the_end(setup: &Setup) -> Result<(), Failure> {
    let link = setup.broker.link("client").await?;
    let mut client = Client::connect_with(setup, &link.options(), SessionState::new()).await?;
    link.hold(Direction::Both, true);
    let (one, two) = ([(filter("suite/a")?, QoS::AtLeastOnce)], [filter("suite/b")?]);
    let (subscribed, unsubscribed, ()) = soon("the waiters' answers", async {
        tokio::join!(
            client.connection.subscribe(&one),
            client.connection.unsubscribe(&two),
            async {
                // Both are under way when the link breaks.
                tokio::time::sleep(Duration::from_millis(50)).await;
                link.cut();
            }
        )
    })
    .await?;
    for error in [subscribed.map(drop), unsubscribed] {
        ensure!(
            matches!(&error, Err(error) if matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::NotConnected)),
            "who waited for an answer got {error:?}"
        );
    }
    link.hold(Direction::Both, false);
    client.lost().await?;
    Ok(())
}
