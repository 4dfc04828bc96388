//! PINGREQ is the connection's own work, whatever its user does. These behaviours take
//! seconds on a real socket: a keepalive has no smaller unit.

use std::time::Duration;

use tars_ports::{QoS, SessionState};
use tokio::time::sleep;

use super::steps::{Client, number, numbered, settled, soon, topic};
use super::{Failure, Setup, ensure};
use crate::proxy::Direction;

/// Two seconds leave a client on a busy machine one to be late with its PINGREQ.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Well beyond the one and a half keepalives after which a broker gives a client up.
const QUIET: Duration = Duration::from_millis(4_200);

pub(super) async fn idle_link_stays_up(setup: &Setup) -> Result<(), Failure> {
    let mut options = setup.options("client");
    options.keep_alive = KEEP_ALIVE;
    let mut client = Client::connect_with(setup, &options, SessionState::new()).await?;
    tokio::select! {
        item = super::steps::next(&mut client.inbound) => {
            return Err(Failure::new(format!("on an idle link came {item:?}")));
        }
        () = sleep(QUIET) => {}
    }
    client.works("after two idle keepalives").await?;
    client.disconnect().await
}

pub(super) async fn the_consumer_may_sleep(setup: &Setup) -> Result<(), Failure> {
    let mut options = setup.options("listener");
    options.keep_alive = KEEP_ALIVE;
    let mut listener = Client::connect_with(setup, &options, SessionState::new()).await?;
    listener.subscribe("suite/#", QoS::AtLeastOnce).await?;
    // With the same keepalive: paho looks as often, for all its connections, as the last
    // one asked for (its documentation says so), and a coarse one would be the sender's doing.
    options.client_id = setup.options("sender").client_id;
    let sender = Client::connect_with(setup, &options, SessionState::new()).await?;
    for n in 0..10 {
        sender.publish_settled(numbered("t", n, QoS::AtLeastOnce)?).await?;
    }
    sleep(QUIET).await;
    for due in 0..10 {
        let n = number(&listener.take().await?)?;
        ensure!(n == due, "after the sleep {n} came where {due} was due");
    }
    listener.works("after the consumer slept").await?;
    listener.disconnect().await
}

pub(super) async fn the_broker_is_told_of_it(setup: &Setup) -> Result<(), Failure> {
    let mut listener = Client::listen(setup, "listener", QoS::AtLeastOnce).await?;
    let link = setup.broker.link("client").await?;
    let mut options = link.options();
    options.keep_alive = KEEP_ALIVE;
    options.last_will = Some(numbered("will", 1, QoS::AtLeastOnce)?);
    let _client = Client::connect_with(setup, &options, SessionState::new()).await?;
    // Neither its PINGREQ nor the end of its socket comes through. Below a WebSocket, Mosquitto
    // waits some seconds for the end of that before it publishes the will.
    link.hold(Direction::ToBroker, true);
    let got = listener.take().await?;
    ensure!(got.topic == topic("will")?, "in place of the will came {got:?}");
    Ok(())
}

pub(super) async fn a_silent_broker_is_given_up(setup: &Setup) -> Result<(), Failure> {
    let link = setup.broker.link("client").await?;
    let mut options = link.options();
    options.keep_alive = KEEP_ALIVE;
    let mut client = Client::connect_with(setup, &options, SessionState::new()).await?;
    settled(client.publish(numbered("t", 1, QoS::AtLeastOnce)?).await?).await?;
    link.hold(Direction::Both, true);
    let receipt = client.publish(numbered("t", 2, QoS::AtLeastOnce)?).await?;
    client.lost().await?;
    let outcome = soon("a receipt that settles", receipt).await?;
    ensure!(
        outcome.as_ref().is_err_and(|error| error.fate().is_some()),
        "a publish to a silent broker came to {outcome:?}"
    );
    Ok(())
}
