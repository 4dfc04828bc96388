//! What a failed handshake says, as a [`TlsFault`] and a sentence.

use std::io;

use tars_ports::{ConnectOptions, Error, TlsFault};
use tokio_rustls::rustls::{AlertDescription as Alert, CertificateError as Bad, Error as RustlsError};

use super::rustls_error;
use crate::error::tls;

/// A handshake that failed, or a connection that ended right behind it.
pub(crate) fn failed(options: &ConnectOptions, certificate_asked: bool, cause: io::Error) -> Error {
    let address = options.address();
    let (fault, what) = match rustls_error(&cause) {
        Some(RustlsError::InvalidCertificate(bad)) => broker_certificate(options, bad),
        Some(RustlsError::AlertReceived(alert)) => match alert {
            Alert::CertificateRequired => return certificate_refused(options).with_source(cause),
            Alert::HandshakeFailure
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
                if certificate_asked =>
            {
                return certificate_refused(options).with_source(cause);
            }
            Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity => incompatible(&address),
            _ => (
                TlsFault::Other,
                format!("{address} ended the TLS handshake; its log says why"),
            ),
        },
        Some(RustlsError::PeerIncompatible(_)) => incompatible(&address),
        Some(RustlsError::InvalidMessage(_)) => (
            TlsFault::NotTls,
            format!("{address} did not answer in TLS; check the port, or use the scheme without TLS"),
        ),
        Some(_) => (TlsFault::Other, format!("the TLS handshake with {address} failed")),
        // TLS 1.2: it had asked, and left without a word.
        None if certificate_asked => return certificate_refused(options).with_source(cause),
        None => (
            TlsFault::NotTls,
            format!("{address} closed the connection in the TLS handshake; check that this port speaks TLS"),
        ),
    };
    tls(fault, what).with_source(cause)
}

fn incompatible(address: &str) -> (TlsFault, String) {
    let what = format!("{address} has no TLS version (1.2 or 1.3) or algorithm in common with this client");
    (TlsFault::Incompatible, what)
}

fn broker_certificate(options: &ConnectOptions, bad: &Bad) -> (TlsFault, String) {
    let address = options.address();
    match bad {
        Bad::Expired | Bad::ExpiredContext { .. } => (
            TlsFault::Expired,
            format!("the certificate of {address} has expired; renew it, or check this machine's clock"),
        ),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => (
            TlsFault::NotYetValid,
            format!("the certificate of {address} is not valid yet; check this machine's clock"),
        ),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => (
            TlsFault::WrongName,
            format!(
                "the certificate of {address} is for another name than `{}`; use a name that it has",
                options.host
            ),
        ),
        Bad::UnknownIssuer => {
            let trusted = match &options.tls.ca {
                Some(file) => format!("nobody in {}", file.display()),
                None => "no authority that this system trusts; name the authority's file".to_owned(),
            };
            (
                TlsFault::UnknownAuthority,
                format!("the certificate of {address} is signed by {trusted}"),
            )
        }
        // Its Display says what.
        _ => (
            TlsFault::BadCertificate,
            format!("the certificate of {address} cannot be accepted: {bad}"),
        ),
    }
}

/// The broker ended the connection over the client's certificate, as far as can be told.
pub(crate) fn certificate_refused(options: &ConnectOptions) -> Error {
    let address = options.address();
    match &options.tls.cert {
        None => tls(
            TlsFault::ClientCertificateRequired,
            format!("{address} wants a client certificate; name the files of one and of its key"),
        ),
        Some(file) => tls(
            TlsFault::ClientCertificateRefused,
            format!(
                "{address} closed after it had seen the client certificate of {}; is it expired, or of an authority \
                 that the broker does not know?",
                file.display()
            ),
        ),
    }
}
