//! TLS and WebSocket from URL to broker: what is carried, and what is said when it is not.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tars_mqtt::{Adapter, Client, Config, ConfigBuilder, Data, Envelope, Error, ErrorKind, LifecycleEvent, TlsFault};
use tars_testkit::certificates::{Certificates, Pair};
use tars_testkit::mosquitto::{Listener, Mosquitto};

use crate::support::seen::Seen;
use crate::support::{adapters, started, within};

fn config(adapter: Adapter, url: &str, certificates: &Certificates) -> ConfigBuilder {
    Config::builder()
        .url(url)
        .client_id("svc")
        .adapter(adapter)
        .ca_file(certificates.ca())
        .reconnect_min_delay(Duration::from_millis(100))
        .reconnect_max_delay(Duration::from_millis(500))
}

fn with(config: ConfigBuilder, pair: &Pair) -> ConfigBuilder {
    config.cert_file(&pair.cert).key_file(&pair.key)
}

async fn connect(config: ConfigBuilder) -> Result<Client, Error> {
    let client = Client::new(config.build().unwrap()).unwrap();
    within("connecting", client.connect()).await.map(|()| client)
}

/// An event goes to the broker and comes back.
async fn makes_the_round(client: &Client) {
    let seen = Seen::default();
    let handler = {
        let seen = seen.clone();
        move |event: Envelope<Data>| {
            seen.push(event.data["n"].clone());
            std::future::ready(())
        }
    };
    client.subscribe("echo/+", handler).await.unwrap();
    let event = client.publish_event("echo/a", "echo.asked", &json!({"n": 7}));
    event.qos(tars_mqtt::QoS::AtLeastOnce).await.unwrap();
    assert_eq!(seen.reach(1).await, [json!(7)]);
}

/// A broker that speaks this version of TLS and no other.
fn versioned(tls13: bool) -> tars_testkit::mosquitto::MosquittoBuilder {
    match tls13 {
        true => Mosquitto::builder(),
        false => Mosquitto::builder().without_tls13(),
    }
}

/// Without TLS 1.2 where 1.3 is meant.
fn secure(pair: &Pair, tls13: bool) -> Listener {
    let listener = Listener::new().tls(&pair.cert, &pair.key);
    match tls13 {
        true => listener.config_line("tls_version tlsv1.3"),
        false => listener,
    }
}

#[tokio::test]
async fn every_scheme_carries_events_with_tls_1_2_and_1_3() {
    let certificates = Certificates::make();
    let pair = certificates.server();
    for tls13 in [true, false] {
        let builder = versioned(tls13)
            .listener(secure(&pair, tls13))
            .listener(secure(&pair, tls13).websocket())
            .listener(Listener::new().websocket());
        let broker = started(builder).await;
        let port = |index| broker.listener_port(index);
        for adapter in adapters() {
            for url in [
                format!("mqtts://localhost:{}", port(0)),
                format!("mqtts://127.0.0.1:{}", port(0)),
                format!("wss://localhost:{}", port(1)),
                format!("ws://localhost:{}/mqtt", port(2)),
            ] {
                let client = connect(config(adapter, &url, &certificates)).await.expect(&url);
                makes_the_round(&client).await;
                assert!(client.shutdown().await.is_complete(), "{adapter:?} {url}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_handshake_is_told_apart() {
    let certificates = Certificates::make();
    let bad = [
        (certificates.expired(), TlsFault::Expired, "has expired"),
        (certificates.not_yet_valid(), TlsFault::NotYetValid, "clock"),
        (
            certificates.wrong_name(),
            TlsFault::WrongName,
            "another name than `localhost`",
        ),
        (
            certificates.server_of_other(),
            TlsFault::UnknownAuthority,
            "is signed by nobody in ",
        ),
    ];
    let clients = [
        (
            None,
            Some((TlsFault::ClientCertificateRequired, "wants a client certificate")),
        ),
        (
            Some(certificates.client_of_other()),
            Some((TlsFault::ClientCertificateRefused, "client certificate of ")),
        ),
        (
            Some(certificates.mismatched()),
            Some((TlsFault::KeyMismatch, "do not belong together")),
        ),
        (Some(certificates.client()), None),
    ];
    for tls13 in [true, false] {
        let mut builder = versioned(tls13);
        for (pair, ..) in &bad {
            builder = builder.listener(secure(pair, tls13));
        }
        let good = secure(&certificates.server(), tls13).require_certificate(certificates.ca());
        let broker = started(builder.listener(good)).await;
        for adapter in adapters() {
            for (index, (_, fault, says)) in bad.iter().enumerate() {
                let url = format!("mqtts://localhost:{}", broker.listener_port(index));
                let error = connect(config(adapter, &url, &certificates)).await.err().unwrap();
                assert_eq!(error.kind(), ErrorKind::Tls(*fault), "{adapter:?} {error:?}");
                assert!(error.to_string().contains(says), "{error}");
                assert!(error.to_string().contains(&url), "{error}");
            }
            let url = format!("mqtts://localhost:{}", broker.listener_port(bad.len()));
            for (own, expected) in &clients {
                let mut config = config(adapter, &url, &certificates);
                if let Some(pair) = own {
                    config = with(config, pair);
                }
                match (connect(config).await, expected) {
                    (Ok(client), None) => {
                        makes_the_round(&client).await;
                        client.shutdown().await;
                    }
                    (Err(error), Some((fault, says))) => {
                        assert_eq!(error.kind(), ErrorKind::Tls(*fault), "{adapter:?} {error:?}");
                        assert!(error.to_string().contains(says), "{error}");
                    }
                    (result, _) => panic!("{adapter:?} {own:?}: {:?}", result.err()),
                }
            }
            // TLS where there is none, and the other way round.
            let plain = connect(config(
                adapter,
                &format!("mqtts://localhost:{}", broker.port()),
                &certificates,
            ))
            .await;
            assert_eq!(plain.err().unwrap().kind(), ErrorKind::Tls(TlsFault::NotTls));
            let secured = connect(config(adapter, &url.replace("mqtts", "mqtt"), &certificates)).await;
            let error = secured.err().unwrap();
            assert!(error.to_string().contains("TLS"), "{error}");
        }
    }
}

/// The name check has no exception for an address: a certificate for `localhost` alone would
/// not do for 127.0.0.1, and one for 127.0.0.1 does.
#[tokio::test]
async fn the_roots_of_the_system_do_not_trust_an_authority_of_ones_own() {
    let certificates = Certificates::make();
    let broker = started(Mosquitto::builder().listener(secure(&certificates.server(), true))).await;
    for adapter in adapters() {
        let config = Config::builder()
            .url(format!("mqtts://localhost:{}", broker.listener_port(0)))
            .client_id("svc")
            .adapter(adapter);
        let error = connect(config).await.err().unwrap();
        // A machine without any roots says so instead.
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Tls(TlsFault::UnknownAuthority | TlsFault::File)
            ),
            "{error:?}"
        );
    }
}

/// A fleet renews its authority: the broker comes back with a certificate of the new one, and a
/// running client takes the new file over, without a restart.
#[tokio::test]
async fn renewed_certificates_are_taken_over_by_a_running_client() {
    for adapter in adapters() {
        let certificates = Certificates::make();
        let folder = certificates.folder();
        let (server, ca) = (certificates.server(), folder.join("trusted.pem"));
        fs::copy(certificates.ca(), &ca).unwrap();
        let mut broker = started(Mosquitto::builder().listener(secure(&server, true))).await;
        let url = format!("mqtts://localhost:{}", broker.listener_port(0));
        let client = connect(config(adapter, &url, &certificates).ca_file(&ca))
            .await
            .unwrap();
        let mut events = client.lifecycle();

        broker.stop().await.unwrap();
        let renewed = certificates.server_of_other();
        fs::copy(renewed.cert, server.cert).unwrap();
        fs::copy(renewed.key, server.key).unwrap();
        broker.start_again().await.unwrap();
        within("the old authority is not enough", async {
            loop {
                if let Some(LifecycleEvent::ConnectFailed { error }) = events.next().await
                    && error.kind() == ErrorKind::Tls(TlsFault::UnknownAuthority)
                {
                    break;
                }
            }
        })
        .await;
        fs::copy(certificates.other_ca(), &ca).unwrap();
        within("the new one is", async {
            while !matches!(events.next().await, Some(LifecycleEvent::Connected { .. })) {}
        })
        .await;
        makes_the_round(&client).await;
        client.shutdown().await;
    }
}
