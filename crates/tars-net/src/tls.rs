//! TLS 1.2 and 1.3 by rustls. The broker's certificate and its name are always checked.

pub(crate) mod error;
mod files;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tars_ports::{ConnectOptions, Error, ErrorKind, TlsFault};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, Error as RustlsError, RootCertStore, SignatureScheme};

use crate::Stream;

/// The client's side of a handshake, ready to begin.
pub(crate) struct Client {
    connector: TlsConnector,
    name: ServerName<'static>,
    certificate: Arc<Certificate>,
}

impl Client {
    /// Reads the files of the options.
    pub(crate) async fn prepare(options: &ConnectOptions) -> Result<Self, Error> {
        let name = ServerName::try_from(options.host.clone()).map_err(|cause| {
            let what = format!("`{}` is no name that a certificate can have", options.host);
            Error::new(ErrorKind::Config, what).with_source(cause)
        })?;
        let files = options.tls.clone();
        let read = tokio::task::spawn_blocking(move || {
            // Chosen here, so that nothing depends on a default of the whole process.
            let provider = Arc::new(ring::default_provider());
            let roots = files::roots(files.ca.as_deref())?;
            let certified = files::client_certificate(&files, &provider)?;
            config(provider, roots, certified)
        });
        let (config, certificate) = read.await.map_err(|cause| {
            Error::new(ErrorKind::Internal, "reading the certificates was interrupted").with_source(cause)
        })??;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
            certificate,
        })
    }

    pub(crate) async fn handshake(self, options: &ConnectOptions, stream: Stream) -> Result<Stream, Error> {
        let handshake = self.connector.connect(self.name, stream).await;
        let asked = self.certificate.asked.load(Ordering::Relaxed);
        let stream = handshake.map_err(|cause| error::failed(options, asked, cause))?;
        let (_, session) = stream.get_ref();
        tracing::debug!(
            address = options.address(),
            version = ?session.protocol_version(),
            cipher = ?session.negotiated_cipher_suite().map(|suite| suite.suite()),
            client_certificate_asked = asked,
            "TLS handshake done"
        );
        Ok(Stream::layered(stream, asked))
    }
}

fn config(
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    certified: Option<CertifiedKey>,
) -> Result<(ClientConfig, Arc<Certificate>), Error> {
    let certificate = Arc::new(Certificate {
        certified: certified.map(Arc::new),
        asked: AtomicBool::new(false),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| Error::new(ErrorKind::Internal, "rustls has no TLS version").with_source(cause))?
        .with_root_certificates(roots)
        .with_client_cert_resolver(certificate.clone());
    Ok((config, certificate))
}

/// The client's certificate, and whether the broker asked for one.
#[derive(Debug)]
struct Certificate {
    certified: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Certificate {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}

/// What rustls says, where it does.
pub(crate) fn rustls_error(cause: &io::Error) -> Option<&RustlsError> {
    cause.get_ref()?.downcast_ref()
}

/// A fault with the files.
fn file_error(what: String) -> Error {
    crate::error::tls(TlsFault::File, what)
}
