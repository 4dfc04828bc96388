//! The command line: names, defaults, help with examples. What it does stands elsewhere.

use std::time::Duration;

use anstream::ColorChoice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tars_mqtt::QoS;

use crate::broker::BrokerArgs;
use crate::exit::EXIT_CODES;

/// Looks into a fleet of MQTT services: why one does not connect, how all are, what they say.
#[derive(Debug, Parser)]
#[command(name = "tars", version, propagate_version = true, after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Colours: by default only on a terminal, and never with NO_COLOR
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Shows the client's own log on stderr (-v: info, -vv: debug, -vvv: trace)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

const EXAMPLES: &str = "\
The broker is found as a service finds it: MQTT_URL and the other MQTT_ variables, from the
environment or from the file .env in the working directory. --url overrides them.

Examples:
  tars doctor                            why does it not connect?
  tars watch                             every service, live
  tars tail 'stt/#' --type stt.final     final transcripts as they come
  tars send tts/say tts.say '{\"text\":\"Hello\"}'
  tars request memory/query memory.query '{\"text\":\"tea\"}' --reply-on memory/results";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Doctor(DoctorArgs),
    Watch(WatchArgs),
    Tail(TailArgs),
    Send(SendArgs),
    Request(RequestArgs),
    /// Prints the completions of a shell
    #[command(after_long_help = "\
Examples:
  tars completions bash > /etc/bash_completion.d/tars
  tars completions zsh > ~/.zfunc/_tars
  tars completions fish > ~/.config/fish/completions/tars.fish")]
    Completions {
        shell: Shell,
    },
}

/// Goes from the variables to a message and back, and names what is in the way
#[derive(Debug, Args)]
#[command(long_about = "\
Goes from the variables to a message and back, and names what is in the way.

Reads the same configuration as a service, then goes step by step: variables, name lookup, TCP,
TLS, CONNECT, subscribe, publish and back, a large message, the client id. The first step that
fails ends it.

It connects as `{client id}-doctor-xxxx`, so that a running service keeps its connection.",
    after_long_help = format!("{EXIT_CODES}\n\n{DOCTOR_EXAMPLES}"))]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    /// The topic to publish to and to receive on; a service's ACL may allow others
    /// [default: tars/doctor/{own client id}]
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Also sends a message of this many bytes, such as 200000, 256k or 2M
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) payload: Option<usize>,
    /// Connects under the service's own client id, and sees whether somebody else has it
    #[arg(long)]
    pub(crate) as_service: bool,
    /// With --as-service: how long to wait for the other, in seconds
    #[arg(long, default_value = "6", value_parser = seconds, value_name = "SECONDS", requires = "as_service")]
    pub(crate) hold: Duration,
    /// How long a message may take to come back, in seconds
    #[arg(long, default_value = "3", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) echo_timeout: Duration,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

const DOCTOR_EXAMPLES: &str = "\
Examples:
  tars doctor
  tars doctor --payload 2M               is there a packet limit in the way?
  tars doctor --as-service               does another client have this id?
  tars doctor --topic brain/scratch      where the ACL allows no other
  tars doctor --json | jq -r '.steps[] | select(.outcome == \"failed\")'";

/// A live table of every service, from its health and its heartbeats
#[derive(Debug, Args)]
#[command(after_long_help = "\
A service is `up` or `unhealthy` as it says itself, `offline` if the broker says so in its place
(last will), `stale` if its heartbeats stay away for three of its intervals (or --stale-after).

Examples:
  tars watch
  tars watch --once --for 35             long enough to hear beats of every 30 s
  tars watch --once --json | jq -r 'select(.state != \"up\") | .service'
  tars watch --once --check              exit code 22 unless every service is up")]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    /// Prints the table once and ends
    #[arg(long)]
    pub(crate) once: bool,
    /// With --once: how long to listen before, in seconds
    #[arg(long = "for", default_value = "2", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) listen: Duration,
    /// One JSON object a line: of each service, without --once whenever it changes
    #[arg(long)]
    pub(crate) json: bool,
    /// With --once: exit code 22 unless there is a service and every one is up
    #[arg(long, requires = "once")]
    pub(crate) check: bool,
    /// Silence after which a service is stale whose interval is not known yet, in seconds
    #[arg(long, default_value = "90", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) stale_after: Duration,
}

/// Shows what is published, readable or as JSON
#[derive(Debug, Args)]
#[command(after_long_help = "\
What is no envelope is shown as it is. With --json a line is an object with topic, qos, retain,
received, and either id, type, ts, source, correlation_id, data or payload (payload_hex if it is
no text).

Examples:
  tars tail                              everything but $SYS
  tars tail 'stt/#' 'llm/#' --type 'stt.*'
  tars tail --correlation-id 3f2a9c --json | jq .data
  tars tail 'camera/+' --count 1")]
pub(crate) struct TailArgs {
    /// Topic filters
    #[arg(default_value = "#")]
    pub(crate) filter: Vec<String>,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    /// Only envelopes of this type; `stt.*` is any that begins so. May be repeated
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) types: Vec<String>,
    /// Only envelopes from this source. May be repeated
    #[arg(long = "source", value_name = "SOURCE")]
    pub(crate) sources: Vec<String>,
    /// Only envelopes of this exchange
    #[arg(long, value_name = "ID")]
    pub(crate) correlation_id: Option<String>,
    /// Without the messages that the broker had kept
    #[arg(long)]
    pub(crate) no_retained: bool,
    /// Ends after so many messages
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub(crate) count: Option<u64>,
    /// The highest QoS to receive with
    #[arg(long, default_value = "0", value_parser = qos)]
    pub(crate) qos: QoS,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Publishes an event and prints its id
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  tars send tts/say tts.say '{\"text\":\"Hello\"}'
  jq -n '{volume: 7}' | tars send system/config config - --retain
  tars send motor/stop motor.stop '{}' --correlation-id 3f2a9c")]
pub(crate) struct SendArgs {
    #[command(flatten)]
    pub(crate) event: EventArgs,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    /// The broker keeps it for those who come later
    #[arg(long)]
    pub(crate) retain: bool,
}

/// Publishes an event and prints the data of its reply
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  tars request memory/query memory.query '{\"text\":\"tea\"}' --reply-on memory/results
  tars request llm/request llm.request - --reply-on llm/response --timeout 60 < prompt.json")]
pub(crate) struct RequestArgs {
    #[command(flatten)]
    pub(crate) event: EventArgs,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    /// The topic, or filter, on which the reply comes
    #[arg(long, value_name = "TOPIC")]
    pub(crate) reply_on: String,
    /// Of which type the reply is, where others carry its correlation id too
    #[arg(long, value_name = "TYPE")]
    pub(crate) reply_type: Option<String>,
    /// How long to wait for the reply, in seconds
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) timeout: Duration,
    /// The whole envelope instead of its data
    #[arg(long)]
    pub(crate) envelope: bool,
}

/// An event to publish.
#[derive(Debug, Args)]
pub(crate) struct EventArgs {
    /// Where to
    pub(crate) topic: String,
    /// Its type, such as stt.final
    #[arg(value_name = "TYPE")]
    pub(crate) event_type: String,
    /// Its data, a JSON object; `-` reads it from stdin
    #[arg(value_name = "JSON")]
    pub(crate) data: String,
    /// 0, 1 or 2; with 1 and 2 the broker has it when this command ends
    #[arg(long, default_value = "1", value_parser = qos)]
    pub(crate) qos: QoS,
    /// Its id, for replies to carry [default: a fresh one]
    #[arg(long, value_name = "ID")]
    pub(crate) correlation_id: Option<String>,
    /// Who it is from [default: MQTT_SOURCE_NAME, or the own client id]
    #[arg(long)]
    pub(crate) source: Option<String>,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// For all that is printed from now on.
    pub(crate) fn apply(self) {
        match self {
            Self::Auto => {}
            Self::Always => ColorChoice::Always.write_global(),
            Self::Never => ColorChoice::Never.write_global(),
        }
    }
}

/// Seconds, with a fraction or without.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected seconds, such as 2 or 0.5")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Bytes, with `k` or `M` for 1,024 and 1,048,576.
fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1024),
        None => text
            .strip_suffix(['m', 'M'])
            .map_or((text, 1), |number| (number, 1024 * 1024)),
    };
    let number = number.parse().ok().and_then(|number: usize| number.checked_mul(unit));
    number.ok_or_else(|| "expected bytes, such as 200000, 256k or 2M".to_owned())
}

fn qos(text: &str) -> Result<QoS, String> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("expected 0, 1 or 2".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("200000"), Ok(200_000));
        assert_eq!(bytes("256k"), Ok(262_144));
        assert_eq!(bytes("2M"), Ok(2_097_152));
        for bad in ["", "k", "2G", "-1", "99999999999999999999", "18446744073709551615k"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["", "-1", "NaN", "1e99", "soon"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
