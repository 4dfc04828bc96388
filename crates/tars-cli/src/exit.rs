//! How a command ends when it does not succeed: in words for people, by exit code for scripts.

use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

use tars_mqtt::{Error, ErrorKind, ErrorReply};

use crate::output;

/// For `--help`, docs/cli.md has the same.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
   0  all is well
   1  something else, in words on stderr
   2  the command line
  10  variables: the configuration is not valid
  11  name lookup: the broker's host is not known
  12  TCP: nobody listens there, or no way leads there
  13  TLS: certificates or handshake
  14  CONNECT: the broker refused, or what listens there is no broker
  15  subscribe: the broker refused it
  16  publish and back: the message did not come back
  17  a large message: the packet limit of the broker, or one's own
  18  client id: another client has it
  20  nothing came in time
  21  the peer answered a request with an error
  22  watch --check: a service is not up, or there is none";

/// What stands between a command and its success.
pub(crate) enum Failure {
    /// What the client said.
    Client(Error),
    /// The command line, found out late.
    Usage(String),
    /// Everything has been said already.
    Told(u8),
    /// stdin cannot be read, or stdout not written.
    Io(io::Error),
}

impl Failure {
    /// Says it on stderr; the exit code is for the caller.
    pub(crate) fn tell(self) -> ExitCode {
        let code = match self {
            // Whoever read the output has seen enough: that is no failure.
            Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Io(error) => {
                output::complain(&error.to_string());
                1
            }
            Self::Usage(what) => {
                output::complain(&what);
                2
            }
            Self::Told(code) => code,
            Self::Client(error) => {
                output::complain(&in_full(&error));
                code(error.kind())
            }
        };
        ExitCode::from(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The sentence, and the causes that say more.
pub(crate) fn in_full(error: &Error) -> String {
    let mut text = error.to_string();
    if let Some(reply) = ErrorReply::of(error) {
        text = format!("{text} ({}: {})", reply.kind, reply.error);
        return text;
    }
    let mut cause = error.source();
    while let Some(further) = cause {
        let further_text = further.to_string();
        if !text.contains(&further_text) {
            text = format!("{text}: {further_text}");
        }
        cause = further.source();
    }
    text
}

fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Config => 10,
        ErrorKind::HostNotFound => 11,
        ErrorKind::Unreachable => 12,
        ErrorKind::Tls(_) => 13,
        ErrorKind::Refused(_) => 14,
        ErrorKind::SubscriptionRefused => 15,
        ErrorKind::TooLarge => 17,
        ErrorKind::Timeout => 20,
        ErrorKind::ErrorReply => 21,
        ErrorKind::InvalidTopic | ErrorKind::InvalidFilter | ErrorKind::InvalidPayload => 2,
        _ => 1,
    }
}
