//! The last will, and what a clean end writes out first.

use tars_ports::{ConnectOptions, EndReason, QoS, SessionState};

use super::steps::{ALL, Client, message, number, numbered, soon};
use super::{Failure, OrFail, Setup, ensure};

fn mortal(mut options: ConnectOptions) -> Result<ConnectOptions, Failure> {
    options.last_will = Some(message("will", "gone", QoS::AtLeastOnce)?);
    Ok(options)
}

async fn speaks(listener: &mut Client) -> Result<(), Failure> {
    let got = listener.take().await?;
    ensure!(
        got.topic.as_str() == "suite/will" && &got.payload[..] == b"gone",
        "in place of the will came {got:?}"
    );
    Ok(())
}

/// The broker has buried the last connection of this client id when the next one is
/// accepted: a will that has not spoken by then never will.
async fn is_silent(setup: &Setup, client_id: &str, listener: &mut Client) -> Result<(), Failure> {
    Client::connect(setup, client_id).await?.disconnect().await?;
    let rest = listener.rest(setup).await?;
    let will = rest.iter().find(|got| got.topic.as_str() == "suite/will");
    ensure!(will.is_none(), "the will spoke");
    Ok(())
}

pub(super) async fn speaks_after_a_cut(setup: &Setup) -> Result<(), Failure> {
    let mut listener = Client::listen(setup, "listener", QoS::AtLeastOnce).await?;
    let link = setup.broker.link("mortal").await?;
    let mut client = Client::connect_with(setup, &mortal(link.options())?, SessionState::new()).await?;
    link.cut();
    client.lost().await?;
    speaks(&mut listener).await
}

pub(super) async fn speaks_after_close(setup: &Setup) -> Result<(), Failure> {
    let mut listener = Client::listen(setup, "listener", QoS::AtLeastOnce).await?;
    let options = mortal(setup.options("mortal"))?;
    for dropped in [false, true] {
        let mut client = Client::connect_with(setup, &options, SessionState::new()).await?;
        if dropped {
            drop(client);
        } else {
            client.connection.close();
            client.ended().await?;
        }
        speaks(&mut listener).await?;
    }
    Ok(())
}

pub(super) async fn is_silent_after_close(setup: &Setup) -> Result<(), Failure> {
    let mut listener = Client::listen(setup, "listener", QoS::AtLeastOnce).await?;
    let options = mortal(setup.options("mortal"))?;
    let mut client = Client::connect_with(setup, &options, SessionState::new()).await?;
    client.connection.close();
    let reason = client.ended().await?.reason;
    ensure!(matches!(reason, EndReason::Closed), "it ended with {reason:?}");
    is_silent(setup, "mortal", &mut listener).await
}

const WRITTEN: u32 = 60;

pub(super) async fn is_silent_after_disconnect(setup: &Setup) -> Result<(), Failure> {
    let levels = setup.levels();
    let highest = *levels.last().unwrap_or(&QoS::AtLeastOnce);
    let mut listener = Client::listen(setup, "listener", highest).await?;
    let options = mortal(setup.options("mortal"))?;
    let mut client = Client::connect_with(setup, &options, SessionState::new()).await?;
    client.subscribe("suite/own", QoS::AtLeastOnce).await?;
    for n in 0..WRITTEN {
        // Nobody waits for the receipts: taken over is enough.
        let qos = levels[n as usize % 2];
        drop(client.publish(numbered("written", n, qos)?).await?);
    }
    let done = soon("disconnect", client.connection.disconnect()).await?;
    done.or_fail("a clean disconnect")?;
    let ended = client.ended().await?;
    ensure!(
        matches!(ended.reason, EndReason::Disconnected) && ended.unsent == 0,
        "it ended with {:?}, {} unsent",
        ended.reason,
        ended.unsent
    );
    let mut seen = vec![false; WRITTEN as usize];
    while seen.contains(&false) {
        let got = listener.take().await.map_err(|failure| {
            let missing: Vec<_> = (0..WRITTEN).filter(|n| !seen[*n as usize]).collect();
            Failure::new(format!("disconnect did not write {missing:?} out: {failure}"))
        })?;
        ensure!(got.topic.as_str() != "suite/will", "the will spoke below {ALL}");
        if let Some(seen) = seen.get_mut(number(&got)? as usize) {
            *seen = true;
        }
    }
    is_silent(setup, "mortal", &mut listener).await
}
