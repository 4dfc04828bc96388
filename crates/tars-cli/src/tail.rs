//! `tars tail`: what is published, as it comes.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use tars_mqtt::contracts::unix_now;
use tars_mqtt::{Client, Envelope, InboundMessage};
use tokio::sync::mpsc;

use crate::args::TailArgs;
use crate::broker::tell_of_the_connection;
use crate::exit::Failure;
use crate::output::{self, FAINT, ODD, TOPIC, TYPE, tame};
use crate::times;

/// Messages between the client and a slow terminal; behind them the client's own queue fills,
/// and drops the oldest QoS 0 ones, which is told at the end.
const WAITING: usize = 1024;
/// Bytes of a payload that is no envelope, as shown on a terminal.
const SHOWN: usize = 200;

/// See the module.
pub(crate) async fn run(args: TailArgs) -> Result<(), Failure> {
    let client = Client::new(args.broker.config("tail", None)?)?;
    let counted = client.clone();
    let ended = client
        .run_until(async |client: Client| show(&client, &args).await)
        .await;
    let dropped = counted.stats().dropped;
    if dropped > 0 {
        output::note(&format!(
            "{dropped} messages were dropped: they came faster than they were read"
        ));
    }
    ended
}

async fn show(client: &Client, args: &TailArgs) -> Result<(), Failure> {
    let (arrived, mut messages) = mpsc::channel(WAITING);
    for filter in &args.filter {
        let arrived = arrived.clone();
        let forward = move |message: InboundMessage| {
            let arrived = arrived.clone();
            async move {
                // An error means that the command is ending.
                let _ = arrived.send(message).await;
            }
        };
        client.subscribe(filter, forward).qos(args.qos).await?;
    }
    let mut left = args.count.unwrap_or(u64::MAX);
    let printing = async {
        while left > 0
            && let Some(message) = messages.recv().await
        {
            let message = Arrived::new(message);
            if message.is_wanted(args) {
                match args.json {
                    true => output::json(&message.json())?,
                    false => output::line(&message.text())?,
                }
                left -= 1;
            }
        }
        Ok(())
    };
    tokio::select! {
        printed = printing => printed,
        stopped = client.until_signal() => Ok(stopped?),
        () = output::nobody_reads() => Ok(()),
        () = tell_of_the_connection(client) => Ok(()),
    }
}

/// A message, and the envelope that it is, if it is one.
struct Arrived {
    message: InboundMessage,
    at: f64,
    envelope: Option<Envelope>,
}

impl Arrived {
    fn new(message: InboundMessage) -> Self {
        let envelope = Envelope::from_bytes(&message.payload).ok();
        let at = unix_now();
        Self { message, at, envelope }
    }

    fn is_wanted(&self, args: &TailArgs) -> bool {
        if args.no_retained && self.message.retain {
            return false;
        }
        let asks_for_envelopes = !args.types.is_empty() || !args.sources.is_empty() || args.correlation_id.is_some();
        let Some(envelope) = &self.envelope else {
            return !asks_for_envelopes;
        };
        let any = |wanted: &[String], matches: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|wanted| matches(wanted))
        };
        any(&args.types, &|wanted| is_of_type(&envelope.event_type, wanted))
            && any(&args.sources, &|wanted| envelope.source == wanted)
            && args
                .correlation_id
                .as_ref()
                .is_none_or(|id| envelope.correlation_id() == id)
    }

    fn text(&self) -> String {
        let Self { message, at, envelope } = self;
        let time = times::time_of_day(*at);
        let topic = tame(message.topic.as_str());
        let mut line = format!("{FAINT}{time}{FAINT:#} {TOPIC}{topic}{TOPIC:#} ");
        if message.retain {
            let _ = write!(line, "{ODD}retained{ODD:#} ");
        }
        // Writing into a string does not fail.
        let _ = match envelope {
            Some(envelope) => {
                let (kind, source) = (tame(&envelope.event_type), tame(&envelope.source));
                let id = tame(envelope.correlation_id());
                let data = serde_json::to_string(&envelope.data).unwrap_or_default();
                let data = tame(&data);
                write!(line, "{TYPE}{kind}{TYPE:#} {FAINT}{source} {id}{FAINT:#} {data}")
            }
            None => write!(
                line,
                "{FAINT}{} bytes{FAINT:#} {}",
                message.payload.len(),
                preview(&message.payload)
            ),
        };
        line
    }

    fn json(&self) -> Value {
        let Self { message, at, envelope } = self;
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| drop(line.insert(name.to_owned(), value));
        put("topic", message.topic.as_str().into());
        put("qos", (message.qos as u8).into());
        put("retain", message.retain.into());
        put("received", (*at).into());
        match envelope {
            Some(envelope) => {
                put("id", envelope.id.as_str().into());
                put("type", envelope.event_type.as_str().into());
                put("ts", envelope.ts.into());
                put("source", envelope.source.as_str().into());
                put("correlation_id", envelope.correlation_id().into());
                put("data", Value::Object(envelope.data.clone()));
            }
            None => match std::str::from_utf8(&message.payload) {
                Ok(text) => put("payload", text.into()),
                Err(_) => put("payload_hex", hex(&message.payload).into()),
            },
        }
        Value::Object(line)
    }
}

fn is_of_type(event_type: &str, wanted: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => event_type.starts_with(beginning),
        None => event_type == wanted,
    }
}

/// The beginning of what is no envelope: as text, or its bytes in hex.
fn preview(payload: &[u8]) -> String {
    let cut = &payload[..payload.len().min(SHOWN)];
    let more = if cut.len() < payload.len() { "…" } else { "" };
    match std::str::from_utf8(payload) {
        // The cut may go through a character.
        Ok(_) => format!("{}{more}", tame(&String::from_utf8_lossy(cut))),
        Err(_) => format!("0x{}{more}", hex(cut)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_match_exactly_or_by_their_beginning() {
        assert!(is_of_type("stt.final", "stt.final"));
        assert!(!is_of_type("stt.final.late", "stt.final"));
        assert!(is_of_type("stt.final", "stt.*"));
        assert!(!is_of_type("tts.say", "stt.*"));
    }

    #[test]
    fn what_is_no_text_is_shown_in_hex() {
        assert_eq!(preview(b"on"), "on");
        assert_eq!(preview(&[0xff, 0x00]), "0xff00");
        assert_eq!(preview("ü".repeat(150).as_bytes()), format!("{}…", "ü".repeat(100)));
    }
}
