//! The PEM files, and the roots of the system.
//!
//! Invariant: an error names the file and never shows what is in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use secrecy::zeroize::Zeroizing;
use tars_ports::{Error, ErrorKind, TlsFault, TlsFiles};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error as RustlsError, InconsistentKeys, RootCertStore};

use super::file_error;

/// Far above any bundle of certificates, in bytes.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Whom to trust: those of the file, or those of the system.
pub(super) fn roots(file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(path) = file else {
        let found = rustls_native_certs::load_native_certs();
        let (taken, _) = roots.add_parsable_certificates(found.certs);
        if taken > 0 {
            return Ok(roots);
        }
        let none = file_error(
            "this system has no trusted certificates; install them (Debian: ca-certificates), or name a file".into(),
        );
        return Err(match found.errors.into_iter().next() {
            Some(cause) => none.with_source(cause),
            None => none,
        });
    };
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|cause| {
            file_error(format!("{} has a certificate that is not valid", path.display())).with_source(cause)
        })?;
    }
    Ok(roots)
}

/// The client's certificate with its key, where there is one.
pub(super) fn client_certificate(files: &TlsFiles, provider: &CryptoProvider) -> Result<Option<CertifiedKey>, Error> {
    let (cert, key) = match (&files.cert, &files.key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        _ => {
            let what = "a client certificate and its private key go together: one of the two files is not named";
            return Err(Error::new(ErrorKind::Config, what));
        }
    };
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|cause| match cause {
        PemError::NoItemsFound => file_error(format!(
            "{} has no private key in PEM; an encrypted one has to be decrypted first",
            key.display()
        )),
        cause => not_pem(key, cause),
    })?;
    match CertifiedKey::from_der(chain, private, provider) {
        Ok(certified) => Ok(Some(certified)),
        Err(cause @ RustlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let what = format!(
                "the certificate {} and the private key {} do not belong together",
                cert.display(),
                key.display()
            );
            Err(crate::error::tls(TlsFault::KeyMismatch, what).with_source(cause))
        }
        Err(cause) => {
            let what = format!("{} and {} cannot be used", cert.display(), key.display());
            Err(file_error(what).with_source(cause))
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|cause| not_pem(path, cause))?;
    if found.is_empty() {
        return Err(file_error(format!("{} has no certificate in PEM", path.display())));
    }
    Ok(found)
}

fn not_pem(path: &Path, cause: PemError) -> Error {
    // Its words may quote a line of the file.
    let what = match cause {
        PemError::MissingSectionEnd { .. } => "a section has no end",
        PemError::Base64Decode(_) => "a section is not base64",
        _ => "a line is malformed",
    };
    file_error(format!("{} is not PEM: {what}", path.display()))
}

/// May be a key: overwritten when it is dropped.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::new());
    let length = File::open(path).and_then(|file| {
        // At once: a buffer that grows leaves copies behind.
        bytes.reserve_exact(usize::try_from(file.metadata()?.len().min(LARGEST)).unwrap_or_default() + 1);
        file.take(LARGEST + 1).read_to_end(&mut bytes)
    });
    match length {
        Ok(length) if length as u64 <= LARGEST => Ok(bytes),
        Ok(_) => Err(file_error(format!("{} has more than {LARGEST} bytes", path.display()))),
        Err(cause) => Err(unreadable(path, cause)),
    }
}

fn unreadable(path: &Path, cause: io::Error) -> Error {
    file_error(format!("{} cannot be read", path.display())).with_source(cause)
}
