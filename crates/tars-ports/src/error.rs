//! The one error type of ports, adapters and facade.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use tars_contracts::{ContractError, TopicError};

/// Why a broker refused a connection (MQTT 3.1.1 section 3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// 1: the broker does not speak this version.
    ProtocolVersion,
    /// 2: it does not accept the client id.
    ClientId,
    /// 3: it cannot serve at present.
    Unavailable,
    /// 4: wrong user name or password.
    BadCredentials,
    /// 5: this client may not connect.
    NotAuthorized,
    /// Any other code.
    Other(u8),
}

/// What was wrong with a TLS handshake or with what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFault {
    /// The broker's certificate has expired.
    Expired,
    /// The broker's certificate is not valid yet: or this machine's clock is wrong.
    NotYetValid,
    /// The broker's certificate is for another host name or address.
    WrongName,
    /// The broker's certificate is signed by nobody who is trusted.
    UnknownAuthority,
    /// Anything else about the broker's certificate: revoked, malformed, of a wrong purpose.
    BadCertificate,
    /// A file cannot be read, or has not the PEM sections that it should have.
    File,
    /// The client's certificate and private key do not belong together.
    KeyMismatch,
    /// The broker wants a client certificate, and there is none.
    ClientCertificateRequired,
    /// The broker does not accept the client certificate.
    ClientCertificateRefused,
    /// The peer does not speak TLS, or closed instead of answering the handshake.
    NotTls,
    /// No common TLS version (1.2 or 1.3) or algorithm.
    Incompatible,
    /// Anything else; the source says what.
    Other,
}

/// What went wrong, for code to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration; the message lists every problem.
    Config,
    /// A topic name that MQTT does not allow.
    InvalidTopic,
    /// A topic filter that MQTT does not allow, or that cannot stand beside the others.
    InvalidFilter,
    /// Data that makes no valid envelope.
    InvalidPayload,
    /// Above the packet limit.
    TooLarge,
    /// No room for another message, and the caller did not want to wait longer; or for another
    /// subscription.
    Full,
    /// There is no connection.
    NotConnected,
    /// There is one already.
    AlreadyConnected,
    /// The client was shut down.
    Closed,
    /// Nothing came in time.
    Timeout,
    /// The host's name is not known.
    HostNotFound,
    /// Nobody listens there, or no route leads there.
    Unreachable,
    /// The broker refused the connection.
    Refused(Refusal),
    /// The TLS handshake, or the files for it.
    Tls(TlsFault),
    /// The peer broke the protocol.
    Protocol,
    /// The connection ended.
    ConnectionLost,
    /// The broker refused a subscription.
    SubscriptionRefused,
    /// The peer answered a request with an error; its words are in the source.
    ErrorReply,
    /// A message of a stream is missing.
    Gap,
    /// The adapter, or this build, cannot do that.
    Unsupported,
    /// A defect of this library: please report it.
    Internal,
}

/// What is known of a message whose publish failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The broker certainly did not get it: sending it again cannot duplicate it.
    NotSent,
    /// It may have arrived.
    Unknown,
}

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    context: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    fate: Option<Fate>,
}

/// What failed, on which topic or address, and what to check. Cheap to clone, so
/// that many waiters can learn the same reason.
#[derive(Clone)]
pub struct Error(Box<Inner>);

impl Error {
    /// A kind, and a sentence a person can act on.
    #[must_use]
    pub fn new(kind: ErrorKind, context: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            context: context.into(),
            source: None,
            fate: None,
        }))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Adds what is known of the message.
    #[must_use]
    pub fn with_fate(mut self, fate: Fate) -> Self {
        self.0.fate = Some(fate);
        self
    }

    /// Puts a sentence in front: what was being done, on which topic.
    #[must_use]
    pub fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.0.context = format!("{what}: {}", self.0.context).into();
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// For a failed publish: whether the message may have reached the broker.
    /// `None` where no message was involved.
    #[must_use]
    pub fn fate(&self) -> Option<Fate> {
        self.0.fate
    }

    /// Whether trying the same again soon can help. Bad credentials, a rejected client
    /// id, a bad certificate or a topic with a wildcard do not heal by waiting.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::NotConnected
                | ErrorKind::Full
                | ErrorKind::Timeout
                | ErrorKind::HostNotFound
                | ErrorKind::Unreachable
                | ErrorKind::Refused(Refusal::Unavailable)
                | ErrorKind::Protocol
                | ErrorKind::ConnectionLost
                // Closed before it answered: it may be about to start or to stop.
                | ErrorKind::Tls(TlsFault::NotTls)
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.context)?;
        match self.0.fate {
            Some(Fate::Unknown) => f.write_str(" (the message may have reached the broker)"),
            Some(Fate::NotSent) => f.write_str(" (the message was not sent)"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<TopicError> for Error {
    fn from(error: TopicError) -> Self {
        Self::new(ErrorKind::InvalidTopic, error.to_string()).with_source(error)
    }
}

impl From<ContractError> for Error {
    fn from(error: ContractError) -> Self {
        Self::new(ErrorKind::InvalidPayload, error.to_string()).with_source(error)
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_failed_and_keeps_the_cause() {
        let error = Error::new(ErrorKind::Unreachable, "nobody listens on mqtt://127.0.0.1:1")
            .with_source(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
            .while_doing("connecting");
        assert_eq!(error.to_string(), "connecting: nobody listens on mqtt://127.0.0.1:1");
        assert!(error.source().is_some());
        assert!(error.is_transient());
        assert!(format!("{error:?}").contains("connection refused"));
    }

    #[test]
    fn bad_credentials_do_not_heal_by_waiting() {
        assert!(!Error::new(ErrorKind::Refused(Refusal::BadCredentials), "").is_transient());
        assert!(Error::new(ErrorKind::Refused(Refusal::Unavailable), "").is_transient());
    }

    #[test]
    fn a_failed_publish_says_whether_it_may_have_arrived() {
        let error = Error::new(ErrorKind::Timeout, "publish to a/b").with_fate(Fate::Unknown);
        assert!(error.to_string().contains("may have reached"));
    }
}
