//! TLS and WebSocket: what they carry, and every way in which the handshake fails.

use std::path::PathBuf;

use tars_ports::{ConnectOptions, ErrorKind, QoS, SessionState, TlsFault, Transport};

use super::broker::{BrokerCertificate, ClientCertificate, Scene, Security};
use super::connect::failure;
use super::publish::bearable;
use super::steps::{ALL, Client, number, numbered};
use super::{Failure, OrFail, Setup, ensure};

const ENCRYPTED: [Transport; 2] = [Transport::Tls, Transport::WebSocketTls];

/// Those that the adapter has.
fn has(setup: &Setup, transport: Transport) -> bool {
    let can = setup.capabilities();
    (can.tls || !transport.is_encrypted()) && (can.websocket || !transport.is_websocket())
}

/// Every transport, with both versions of TLS where it is encrypted.
fn ways(setup: &Setup) -> Vec<Security> {
    let mut ways = Vec::new();
    for transport in [
        Transport::Tcp,
        Transport::WebSocket,
        Transport::Tls,
        Transport::WebSocketTls,
    ] {
        if has(setup, transport) {
            let security = Security::new(transport);
            ways.push(security);
            if transport.is_encrypted() {
                ways.push(Security {
                    tls13: false,
                    ..security
                });
            }
        }
    }
    ways
}

fn encrypted_ways(setup: &Setup) -> impl Iterator<Item = Security> {
    ways(setup).into_iter().filter(|way| way.transport.is_encrypted())
}

async fn makes_the_round(setup: &Setup, options: &ConnectOptions) -> Result<(), Failure> {
    let mut client = Client::connect_with(setup, options, SessionState::new()).await?;
    client.subscribe(ALL, QoS::AtLeastOnce).await?;
    client.publish_settled(numbered("own", 7, QoS::AtLeastOnce)?).await?;
    let delivery = client.take().await?;
    ensure!(number(&delivery)? == 7, "another message came back");
    // Larger than any buffer on the way, or at least than a frame.
    let size: usize = match bearable(options.transport, 3_000_000) {
        true => 3_000_000,
        false => 70_000,
    };
    let mut large = numbered("own", 8, QoS::AtLeastOnce)?;
    let payload: Vec<u8> = (0..size).map(|at| (at * 31).to_le_bytes()[1]).collect();
    large.payload = payload.clone().into();
    client.publish_settled(large).await?;
    let delivery = client.take().await?;
    ensure!(delivery.payload[..] == payload[..], "a large payload came back changed");
    client.disconnect().await
}

pub(super) async fn each_carries_messages(setup: &Setup) -> Result<(), Failure> {
    for way in ways(setup) {
        let stage = setup.broker.stage("client", Scene::Transport(way)).await?;
        makes_the_round(setup, &stage.options)
            .await
            .map_err(|failure| Failure::new(format!("{way:?}: {failure}")))?;
    }
    Ok(())
}

/// The attempt fails with this fault.
async fn fails(setup: &Setup, options: &ConnectOptions, expected: TlsFault, case: &str) -> Result<(), Failure> {
    let error = failure(setup, options).await.or_fail(case)?;
    ensure!(
        error.kind() == ErrorKind::Tls(expected),
        "{case}: the error should be {expected:?}, and is {error:?}"
    );
    Ok(())
}

pub(super) async fn bad_certificates_are_told_apart(setup: &Setup) -> Result<(), Failure> {
    for way in encrypted_ways(setup) {
        for (broker, fault) in [
            (BrokerCertificate::Expired, TlsFault::Expired),
            (BrokerCertificate::NotYetValid, TlsFault::NotYetValid),
            (BrokerCertificate::WrongName, TlsFault::WrongName),
            (BrokerCertificate::OtherAuthority, TlsFault::UnknownAuthority),
        ] {
            let security = Security { broker, ..way };
            let stage = setup.broker.stage("client", Scene::Transport(security)).await?;
            fails(setup, &stage.options, fault, &format!("{security:?}")).await?;
        }
    }
    Ok(())
}

pub(super) async fn client_certificates_are_shown(setup: &Setup) -> Result<(), Failure> {
    for way in encrypted_ways(setup) {
        for (client, expected) in [
            (ClientCertificate::None, Some(TlsFault::ClientCertificateRequired)),
            (
                ClientCertificate::OtherAuthority,
                Some(TlsFault::ClientCertificateRefused),
            ),
            (ClientCertificate::OtherKey, Some(TlsFault::KeyMismatch)),
            (ClientCertificate::Good, None),
        ] {
            let security = Security {
                asks_client: true,
                client,
                ..way
            };
            let stage = setup.broker.stage("client", Scene::Transport(security)).await?;
            match expected {
                Some(fault) => fails(setup, &stage.options, fault, &format!("{security:?}")).await?,
                None => makes_the_round(setup, &stage.options).await?,
            }
        }
    }
    Ok(())
}

pub(super) async fn files_are_told_apart(setup: &Setup) -> Result<(), Failure> {
    let mut security = Security::new(Transport::Tls);
    security.client = ClientCertificate::Good;
    let stage = setup.broker.stage("client", Scene::Transport(security)).await?;
    let good = stage.options.clone();
    let (Some(ca), Some(key)) = (good.tls.ca.clone(), good.tls.key.clone()) else {
        return Err(Failure::new("the stage has no certificates"));
    };
    let beside = |name: &str| ca.with_file_name(name);
    let garbage = beside("garbage.pem");
    std::fs::write(&garbage, "no PEM at all").or_fail("a file is not written")?;
    let broken = beside("broken.pem");
    std::fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
    )
    .or_fail("a file is not written")?;
    for file in [beside("none.pem"), garbage, broken, key] {
        let mut options = good.clone();
        options.tls.ca = Some(file.clone());
        let error = failure(setup, &options).await?;
        ensure!(
            error.kind() == ErrorKind::Tls(TlsFault::File) && error.to_string().contains(&file.display().to_string()),
            "with {} for the authority the error is {error:?}",
            file.display()
        );
    }
    let mut options = good.clone();
    options.tls.key = options.tls.cert.clone();
    fails(setup, &options, TlsFault::File, "a certificate in place of the key").await?;
    options.tls.key = None;
    let error = failure(setup, &options).await?;
    ensure!(
        error.kind() == ErrorKind::Config,
        "without a key the error is {error:?}"
    );
    makes_the_round(setup, &good).await
}

pub(super) async fn files_are_read_each_time(setup: &Setup) -> Result<(), Failure> {
    let mut security = Security::new(Transport::Tls);
    security.asks_client = true;
    security.client = ClientCertificate::Good;
    let stage = setup.broker.stage("client", Scene::Transport(security)).await?;
    let mut options = stage.options.clone();
    // Files of its own, which are not what they should be yet.
    let mut renewed: Vec<(PathBuf, PathBuf)> = Vec::new();
    let files = &mut options.tls;
    for file in [&mut files.ca, &mut files.cert, &mut files.key] {
        let good = file.clone().ok_or("no file").or_fail("the stage has no certificates")?;
        let mine = good.with_extension("renewed");
        std::fs::write(&mine, "").or_fail("a file is not written")?;
        *file = Some(mine.clone());
        renewed.push((good, mine));
    }
    fails(setup, &options, TlsFault::File, "empty files").await?;
    for (good, mine) in renewed {
        std::fs::copy(good, mine).or_fail("a file is not copied")?;
    }
    makes_the_round(setup, &options).await
}

pub(super) async fn a_peer_without_tls_is_told(setup: &Setup) -> Result<(), Failure> {
    for transport in ENCRYPTED {
        let mut options = setup.options("client");
        if !has(setup, transport) || options.transport != Transport::Tcp {
            continue;
        }
        options.transport = transport;
        fails(setup, &options, TlsFault::NotTls, transport.scheme()).await?;
    }
    if setup.lacks(&[super::Need::Transports]).is_none() {
        let scene = Scene::Transport(Security::new(Transport::Tls));
        let stage = setup.broker.stage("client", scene).await?;
        let mut options = stage.options.clone();
        options.transport = Transport::Tcp;
        let error = failure(setup, &options).await?;
        ensure!(
            matches!(error.kind(), ErrorKind::Protocol | ErrorKind::ConnectionLost)
                && error.to_string().contains("TLS"),
            "without TLS to a port with it the error is {error:?}"
        );
    }
    Ok(())
}
