//! Certificates made for a test: two authorities, and of the first a good certificate and
//! bad ones of each kind.
//!
//! ```
//! use tars_testkit::certificates::Certificates;
//!
//! let certificates = Certificates::make();
//! assert!(certificates.server().cert.exists());
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

/// A certificate and its private key, each a PEM file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pair {
    /// The certificate.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// A folder of PEM files, gone with this value.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

/// Who signs.
struct Authority {
    name: &'static str,
    issuer: Issuer<'static, KeyPair>,
}

/// What a broker of a test is reached at.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

impl Certificates {
    /// Makes them all.
    ///
    /// # Panics
    /// When they cannot be made or written.
    #[must_use]
    pub fn make() -> Self {
        let folder = TempDir::with_prefix("tars-certificates-").expect("a folder can be made");
        let certificates = Self { folder };
        let ours = certificates.authority("ca");
        let other = certificates.authority("other-ca");
        let good = |names: &[&str]| params(names);
        certificates.sign("server", &ours, good(&NAMES));
        certificates.sign("server-wrong-name", &ours, good(&["broker.example"]));
        certificates.sign("server-of-other", &other, good(&NAMES));
        let mut expired = good(&NAMES);
        expired.not_before = date_time_ymd(2001, 1, 1);
        expired.not_after = date_time_ymd(2002, 1, 1);
        certificates.sign("server-expired", &ours, expired);
        let mut early = good(&NAMES);
        early.not_before = date_time_ymd(2200, 1, 1);
        early.not_after = date_time_ymd(2300, 1, 1);
        certificates.sign("server-not-yet-valid", &ours, early);
        certificates.sign("client", &ours, good(&["client"]));
        certificates.sign("client-of-other", &other, good(&["client"]));
        certificates
    }

    /// The authority to trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Another one.
    #[must_use]
    pub fn other_ca(&self) -> PathBuf {
        self.file("other-ca.pem")
    }

    /// Of a broker on loopback.
    #[must_use]
    pub fn server(&self) -> Pair {
        self.pair("server")
    }

    /// Of a broker at `broker.example`.
    #[must_use]
    pub fn wrong_name(&self) -> Pair {
        self.pair("server-wrong-name")
    }

    /// Of a broker on loopback, signed by the other authority.
    #[must_use]
    pub fn server_of_other(&self) -> Pair {
        self.pair("server-of-other")
    }

    /// Of a broker on loopback, until 2002.
    #[must_use]
    pub fn expired(&self) -> Pair {
        self.pair("server-expired")
    }

    /// Of a broker on loopback, from 2200 on.
    #[must_use]
    pub fn not_yet_valid(&self) -> Pair {
        self.pair("server-not-yet-valid")
    }

    /// Of a client.
    #[must_use]
    pub fn client(&self) -> Pair {
        self.pair("client")
    }

    /// Of a client, signed by the other authority.
    #[must_use]
    pub fn client_of_other(&self) -> Pair {
        self.pair("client-of-other")
    }

    /// A client's certificate with the key of another one.
    #[must_use]
    pub fn mismatched(&self) -> Pair {
        Pair {
            cert: self.client().cert,
            key: self.client_of_other().key,
        }
    }

    /// Where the files are; a test may add its own.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pair(&self, name: &str) -> Pair {
        Pair {
            cert: self.file(&format!("{name}.pem")),
            key: self.file(&format!("{name}-key.pem")),
        }
    }

    fn authority(&self, name: &'static str) -> Authority {
        let mut params = params(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        fs::write(self.file(&format!("{name}.pem")), certificate.pem()).expect("written");
        let issuer = Issuer::new(params, key);
        Authority { name, issuer }
    }

    fn sign(&self, name: &str, authority: &Authority, mut params: CertificateParams) {
        let subject = format!("{name} of {}", authority.name);
        params.distinguished_name.push(DnType::CommonName, subject);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority.issuer).expect("signed");
        let pair = self.pair(name);
        fs::write(pair.cert, certificate.pem()).expect("written");
        fs::write(pair.key, key.serialize_pem()).expect("written");
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    CertificateParams::new(names).expect("names that a certificate can have")
}
