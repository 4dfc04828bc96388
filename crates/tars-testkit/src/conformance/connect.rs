//! One attempt: what it says of the session, and every way in which it fails.

use std::time::Duration;

use tars_ports::{ConnectOptions, Credentials, Error, ErrorKind, QoS, Refusal, SessionState, Transport};
use tokio::time::Instant;

use super::steps::{Client, number, numbered, soon};
use super::{Failure, OrFail, Scene, Setup, ensure};

pub(super) async fn accepted(setup: &Setup) -> Result<(), Failure> {
    let mut client = Client::listen(setup, "client", QoS::AtLeastOnce).await?;
    ensure!(!client.session_present, "a session is reported that nobody made");
    ensure!(client.resumed.is_empty(), "something was resumed that was never begun");
    client.publish_settled(numbered("own", 7, QoS::AtLeastOnce)?).await?;
    let delivery = client.take().await?;
    ensure!(number(&delivery)? == 7, "another message came back");
    client.disconnect().await
}

/// Why an attempt failed that must fail.
pub(super) async fn failure(setup: &Setup, options: &ConnectOptions) -> Result<Error, Failure> {
    let attempt = setup.connector.connect(options, SessionState::new());
    match soon("the attempt's end", attempt).await? {
        Ok(_) => Err(Failure::new("it connected")),
        Err(error) => Ok(error),
    }
}

pub(super) async fn refused_by_code(setup: &Setup) -> Result<(), Failure> {
    for refusal in [
        Refusal::ProtocolVersion,
        Refusal::ClientId,
        Refusal::Unavailable,
        Refusal::BadCredentials,
        Refusal::NotAuthorized,
    ] {
        let stage = setup.broker.stage("client", Scene::Refuse(refusal)).await?;
        let error = failure(setup, &stage.options).await?;
        ensure!(
            error.kind() == ErrorKind::Refused(refusal),
            "refused with {refusal:?}, the error is {error:?}"
        );
    }
    Ok(())
}

pub(super) async fn bad_credentials(setup: &Setup) -> Result<(), Failure> {
    let scene = Scene::Password {
        user: "user".into(),
        password: "right".into(),
    };
    let stage = setup.broker.stage("client", scene).await?;
    let mut options = stage.options.clone();
    for credentials in [None, Some(Credentials::new("user", Some("g3heim".into())))] {
        options.credentials = credentials;
        let error = failure(setup, &options).await?;
        ensure!(
            matches!(
                error.kind(),
                ErrorKind::Refused(Refusal::BadCredentials | Refusal::NotAuthorized)
            ),
            "with wrong credentials the error is {error:?}"
        );
        let text = format!("{error} {error:?}");
        ensure!(!text.contains("g3heim"), "the password shows in the error");
    }
    options.credentials = Some(Credentials::new("user", Some("right".into())));
    let client = Client::connect_with(setup, &options, SessionState::new()).await?;
    client.disconnect().await
}

pub(super) async fn unreachable(setup: &Setup) -> Result<(), Failure> {
    let stage = setup.broker.stage("client", Scene::Absent).await?;
    let error = failure(setup, &stage.options).await?;
    ensure!(error.kind() == ErrorKind::Unreachable, "the error is {error:?}");
    Ok(())
}

pub(super) async fn host_not_found(setup: &Setup) -> Result<(), Failure> {
    let mut options = setup.options("client");
    options.host = "no-such-host.invalid".into();
    let error = failure(setup, &options).await?;
    ensure!(error.kind() == ErrorKind::HostNotFound, "the error is {error:?}");
    Ok(())
}

pub(super) async fn silence_is_a_timeout(setup: &Setup) -> Result<(), Failure> {
    let stage = setup.broker.stage("client", Scene::Silent).await?;
    let mut options = stage.options.clone();
    options.timeout = Duration::from_secs(1);
    let began = Instant::now();
    let error = failure(setup, &options).await?;
    let took = began.elapsed();
    ensure!(error.kind() == ErrorKind::Timeout, "the error is {error:?}");
    // Libraries look at their clocks at times of their own; twice and a half is late.
    ensure!(
        took >= Duration::from_millis(900) && took < Duration::from_millis(2_500),
        "bounded by 1 s, the attempt took {took:?}"
    );
    Ok(())
}

pub(super) async fn session_present(setup: &Setup) -> Result<(), Failure> {
    for (clean, expected) in [
        (true, false),
        (false, false),
        (false, true),
        (false, true),
        (true, false),
        (false, false),
    ] {
        let mut options = setup.options("client");
        options.clean_session = clean;
        let client = Client::connect_with(setup, &options, SessionState::new()).await?;
        let present = client.session_present;
        client.disconnect().await?;
        ensure!(
            present == expected,
            "clean_session {clean}: session_present is {present}, and it should be {expected}"
        );
    }
    Ok(())
}

pub(super) async fn missing_transports_are_refused(setup: &Setup) -> Result<(), Failure> {
    let has = setup.capabilities();
    for (transport, is_there) in [
        (Transport::Tls, has.tls),
        (Transport::WebSocket, has.websocket),
        (Transport::WebSocketTls, has.tls && has.websocket),
    ] {
        let mut options = setup.options("client");
        options.transport = transport;
        if !is_there {
            let error = failure(setup, &options).await?;
            let scheme = transport.scheme();
            ensure!(
                error.kind() == ErrorKind::Unsupported,
                "{scheme}: the error is {error:?}"
            );
            ensure!(
                error.to_string().contains(scheme),
                "the error does not name {scheme}: {error}"
            );
        }
    }
    Ok(())
}

pub(super) async fn connections_have_numbers_of_their_own(setup: &Setup) -> Result<(), Failure> {
    let mut numbers = Vec::new();
    for name in ["one", "two", "one"] {
        let mut client = Client::listen(setup, name, QoS::AtLeastOnce).await?;
        client.publish_settled(numbered("own", 1, QoS::AtLeastOnce)?).await?;
        let token = client.take().await?.token;
        let token = token
            .ok_or("no token")
            .or_fail("a QoS 1 delivery of an adapter with manual_ack")?;
        ensure!(
            !numbers.contains(&token.connection()),
            "connection number {} was given twice",
            token.connection()
        );
        numbers.push(token.connection());
        client.disconnect().await?;
    }
    Ok(())
}

pub(super) async fn capabilities_are_stable(setup: &Setup) -> Result<(), Failure> {
    let before = setup.capabilities();
    ensure!(!before.versions.is_empty(), "it speaks no version of MQTT");
    let client = Client::connect(setup, "client").await?;
    let during = setup.capabilities();
    client.disconnect().await?;
    let after = setup.capabilities();
    ensure!(
        before == during && during == after,
        "they were {before:?}, {during:?}, {after:?}"
    );
    Ok(())
}
