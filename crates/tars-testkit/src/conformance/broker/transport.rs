//! A Mosquitto that is reached over TLS or WebSocket.

use tars_ports::{ConnectOptions, TlsFiles};

use super::{BrokerCertificate, ClientCertificate, Security, Staged};
use crate::certificates::Certificates;
use crate::conformance::{Failure, OrFail};
use crate::mosquitto::{Listener, Mosquitto};

/// The broker, with how a client reaches it.
pub(in crate::conformance) struct Secured {
    pub(in crate::conformance) broker: Mosquitto,
    pub(in crate::conformance) certificates: Certificates,
    pub(in crate::conformance) port: u16,
    pub(in crate::conformance) tls: TlsFiles,
}

impl Secured {
    pub(in crate::conformance) async fn start(security: Security) -> Result<Self, Failure> {
        let certificates = Certificates::make();
        let transport = security.transport;
        let mut builder = Mosquitto::builder().persistence(true);
        let mut listener = Listener::new();
        let mut tls = TlsFiles::default();
        if transport.is_encrypted() {
            let pair = match security.broker {
                BrokerCertificate::Good => certificates.server(),
                BrokerCertificate::Expired => certificates.expired(),
                BrokerCertificate::NotYetValid => certificates.not_yet_valid(),
                BrokerCertificate::WrongName => certificates.wrong_name(),
                BrokerCertificate::OtherAuthority => certificates.server_of_other(),
            };
            listener = listener.tls(pair.cert, pair.key);
            if security.asks_client {
                listener = listener.require_certificate(certificates.ca());
            }
            if security.tls13 {
                listener = listener.config_line("tls_version tlsv1.3");
            } else {
                builder = builder.without_tls13();
            }
            tls.ca = Some(certificates.ca());
            let own = match security.client {
                ClientCertificate::None => None,
                ClientCertificate::Good => Some(certificates.client()),
                ClientCertificate::OtherAuthority => Some(certificates.client_of_other()),
                ClientCertificate::OtherKey => Some(certificates.mismatched()),
            };
            (tls.cert, tls.key) = own.map(|pair| (pair.cert, pair.key)).unzip();
        }
        if transport.is_websocket() {
            listener = listener.websocket();
        }
        let broker = builder.listener(listener).start().await;
        let broker = broker.or_fail("Mosquitto with a further listener does not start")?;
        Ok(Self {
            port: broker.listener_port(0),
            broker,
            certificates,
            tls,
        })
    }
}

pub(super) async fn stage(security: Security, client_id: &str) -> Result<Staged, Failure> {
    let secured = Secured::start(security).await?;
    let mut options = ConnectOptions::new("127.0.0.1", secured.port, client_id);
    options.transport = security.transport;
    options.tls = secured.tls.clone();
    Ok(Staged::new(options, secured))
}
