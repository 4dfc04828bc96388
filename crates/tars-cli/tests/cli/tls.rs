//! The doctor and certificates.

use std::path::PathBuf;

use tars_testkit::certificates::{Certificates, Pair};
use tars_testkit::mosquitto::{Listener, Mosquitto};

use crate::Tars;
use crate::doctor::diagnosed;

async fn broker(certificate: Pair) -> Mosquitto {
    let listener = Listener::new().tls(certificate.cert, certificate.key);
    Mosquitto::builder().listener(listener).start().await.unwrap()
}

/// The doctor of a service with these files.
fn doctor(port: u16, files: &[(&str, PathBuf)]) -> Tars {
    let tars = Tars::new(&["doctor", "--json"]).variable("MQTT_URL", &format!("mqtts://localhost:{port}"));
    let set = |tars: Tars, (name, file): &(&str, PathBuf)| tars.variable(name, file.to_str().unwrap());
    files.iter().fold(tars, set)
}

#[tokio::test]
async fn a_good_certificate_is_no_obstacle() {
    let made = Certificates::make();
    let broker = broker(made.server()).await;
    let (code, _, said) = diagnosed(doctor(broker.listener_port(0), &[("MQTT_CA_FILE", made.ca())])).await;
    assert_eq!(code, 0, "{said}");
    let url = format!("mqtts://localhost:{}", broker.listener_port(0));
    let tars = Tars::new(&["doctor"])
        .variable("MQTT_CLIENT_ID", "brain")
        .variable("MQTT_URL", &url);
    let out = tars
        .variable("MQTT_CA_FILE", made.ca().to_str().unwrap())
        .run()
        .await
        .out;
    let tls = out.lines().find(|line| line.contains(" TLS ")).unwrap_or_default();
    assert!(tls.starts_with("ok") && tls.contains("good for localhost"), "{out}");
}

#[tokio::test]
async fn an_unknown_authority() {
    let made = Certificates::make();
    let broker = broker(made.server()).await;
    let port = broker.listener_port(0);
    for (files, check) in [
        (
            vec![("MQTT_CA_FILE", made.other_ca())],
            "has not the authority of this broker",
        ),
        (vec![], "MQTT_CA_FILE is not set"),
    ] {
        let (code, step, said) = diagnosed(doctor(port, &files)).await;
        assert_eq!((code, step.as_str()), (13, "TLS"), "{said}");
        assert!(said.contains(check), "{said}");
    }
}

#[tokio::test]
async fn the_wrong_server_name() {
    let made = Certificates::make();
    let broker = broker(made.wrong_name()).await;
    let (code, step, said) = diagnosed(doctor(broker.listener_port(0), &[("MQTT_CA_FILE", made.ca())])).await;
    assert_eq!((code, step.as_str()), (13, "TLS"), "{said}");
    assert!(said.contains("must be a name that the certificate has"), "{said}");
}

#[tokio::test]
async fn certificates_of_another_time() {
    let made = Certificates::make();
    for (pair, check) in [(made.expired(), "has to be renewed"), (made.not_yet_valid(), "clock")] {
        let broker = broker(pair).await;
        let (code, step, said) = diagnosed(doctor(broker.listener_port(0), &[("MQTT_CA_FILE", made.ca())])).await;
        assert_eq!((code, step.as_str()), (13, "TLS"), "{said}");
        assert!(said.contains(check), "{said}");
    }
}

#[tokio::test]
async fn tls_to_a_port_without_it_and_none_to_a_port_with_it() {
    let made = Certificates::make();
    let broker = broker(made.server()).await;
    let (code, step, said) = diagnosed(doctor(broker.port(), &[("MQTT_CA_FILE", made.ca())])).await;
    assert_eq!((code, step.as_str()), (13, "TLS"), "{said}");
    assert!(said.contains("may be one without TLS"), "{said}");
    let url = format!("mqtt://localhost:{}", broker.listener_port(0));
    let plain = Tars::new(&["doctor", "--json"]).variable("MQTT_URL", &url);
    let (code, step, said) = diagnosed(plain).await;
    assert_eq!((code, step.as_str()), (14, "CONNECT"), "{said}");
    assert!(said.contains("mqtts://"), "{said}");
}

#[tokio::test]
async fn a_certificate_of_the_client_that_is_missing_or_foreign() {
    let made = Certificates::make();
    let server = made.server();
    let listener = Listener::new()
        .tls(server.cert, server.key)
        .require_certificate(made.ca());
    let broker = Mosquitto::builder().listener(listener).start().await.unwrap();
    let (good, foreign, mixed) = (made.client(), made.client_of_other(), made.mismatched());
    let ca = ("MQTT_CA_FILE", made.ca());
    let pair = |pair: Pair| vec![ca.clone(), ("MQTT_CERT_FILE", pair.cert), ("MQTT_KEY_FILE", pair.key)];
    for (files, expected, check) in [
        (pair(good), 0, "brain"),
        (vec![ca.clone()], 13, "lets in who shows a certificate"),
        (pair(foreign), 13, "whether the broker trusts them"),
        (pair(mixed), 13, "are not of one pair"),
    ] {
        let (code, _, said) = diagnosed(doctor(broker.listener_port(0), &files)).await;
        assert_eq!(code, expected, "{said}");
        assert!(said.contains(check), "{said}");
    }
}
