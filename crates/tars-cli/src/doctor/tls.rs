//! The TLS handshake, by the dialler of the adapters and with the files of the service; and what
//! to check when it, or what comes after it, fails for its certificates.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use tars_mqtt::ports::{ConnectOptions, TlsFiles};
use tars_mqtt::{Config, Error, ErrorKind, TlsFault, Transport};
use tokio::time::Instant;

use super::report::{Finding, Found, Step};
use crate::exit::in_full;

/// A handshake, and the end of the connection.
pub(super) async fn shake_hands(config: &Config, limit: Duration) -> Found<()> {
    let broker = &config.broker;
    let mut options = ConnectOptions::new(broker.host.as_str(), broker.port, config.client_id.as_str());
    // Without WebSocket, which is the next step's.
    options.transport = Transport::Tls;
    options.timeout = limit;
    options.tls = TlsFiles::new(
        config.ca_file.clone(),
        config.cert_file.clone(),
        config.key_file.clone(),
    );
    match tars_net::dial(&options, Instant::now() + limit).await {
        Ok(_) => Ok((
            (),
            format!(
                "the certificate is good for {}, by {}",
                broker.host,
                authorities(config)
            ),
        )),
        Err(error) => Err(finding(&error, config)),
    }
}

fn authorities(config: &Config) -> String {
    match &config.ca_file {
        Some(file) => file.display().to_string(),
        None => "the roots of this system".to_owned(),
    }
}

/// Why, and what to check; the step is TLS, wherever it showed.
pub(super) fn finding(error: &Error, config: &Config) -> Finding {
    let (host, port) = (&config.broker.host, config.broker.port);
    let look = format!("openssl s_client -connect {host}:{port} -servername {host} </dev/null");
    let finding = Finding::new(in_full(error)).of(Step::Tls);
    let ErrorKind::Tls(fault) = error.kind() else {
        return finding.check(format!("`{look}`"));
    };
    match fault {
        TlsFault::UnknownAuthority => match &config.ca_file {
            None => finding
                .check(
                    "MQTT_CA_FILE is not set: a private authority, or a self-signed certificate, must be named there",
                )
                .check(format!("who signed it: `{look} -showcerts`")),
            Some(file) => finding
                .check(format!(
                    "MQTT_CA_FILE: {} has not the authority of this broker",
                    file.display()
                ))
                .check(format!("who signed it: `{look} -showcerts`")),
        },
        TlsFault::WrongName => finding
            .check(format!(
                "the host in MQTT_URL: it must be a name that the certificate has, and {host:?} is none"
            ))
            .check(format!("its names: `{look} | openssl x509 -noout -ext subjectAltName`")),
        TlsFault::Expired => finding
            .check("the certificate at the broker: it has to be renewed, and the broker reloaded")
            .check("this machine's clock: `date`"),
        TlsFault::NotYetValid => finding.check("this machine's clock: `date`"),
        TlsFault::NotTls => finding
            .check(format!(
                "the scheme in MQTT_URL: port {port} may be one without TLS (mqtt://, usually 1883)"
            ))
            .check("the broker's log at this moment"),
        TlsFault::ClientCertificateRequired => {
            finding.check("MQTT_CERT_FILE and MQTT_KEY_FILE: the broker lets in who shows a certificate")
        }
        TlsFault::ClientCertificateRefused => finding
            .check(format!(
                "who signed {}, and whether the broker trusts them",
                shown(config.cert_file.as_deref())
            ))
            .check("whether it has expired: `openssl x509 -noout -dates -in` that file"),
        TlsFault::KeyMismatch => {
            let (cert, key) = (shown(config.cert_file.as_deref()), shown(config.key_file.as_deref()));
            finding.check(format!(
                "MQTT_CERT_FILE and MQTT_KEY_FILE: {cert} and {key} are not of one pair"
            ))
        }
        TlsFault::File => {
            finding.check("the files of MQTT_CA_FILE, MQTT_CERT_FILE and MQTT_KEY_FILE, and who may read them")
        }
        _ => finding.check(format!("`{look}`")),
    }
}

fn shown(file: Option<&Path>) -> impl Display {
    file.map_or_else(|| "(not set)".to_owned(), |file| file.display().to_string())
}
