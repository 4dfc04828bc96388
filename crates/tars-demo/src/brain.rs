//! The service that listens: typed handlers, a ledger of what was handled, answers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tars_mqtt::{Client, Context, Data, Envelope, QoS, TopicName};
use tokio::sync::watch;

use crate::timeline::{Timeline, Who};

#[derive(Deserialize)]
struct FinalTranscript {
    text: String,
    confidence: f64,
}

#[derive(Deserialize)]
struct StreamDelta {
    seq: u64,
    delta: String,
}

#[derive(Deserialize)]
struct Question {
    text: String,
}

#[derive(Serialize)]
struct Answer {
    reply: String,
}

/// Which events were handled, by their ids.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<Book>);

struct Book {
    ids: Mutex<BTreeSet<String>>,
    distinct: watch::Sender<usize>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Book {
            ids: Mutex::default(),
            distinct: watch::Sender::new(0),
        }))
    }

    fn note(&self, id: &str) {
        let mut ids = self.0.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(id.to_owned());
        self.0.distinct.send_replace(ids.len());
    }

    pub(crate) fn distinct(&self) -> usize {
        *self.0.distinct.borrow()
    }

    /// Waits until this many different events were handled.
    pub(crate) async fn reach(&self, count: usize) -> Result<()> {
        let mut distinct = self.0.distinct.subscribe();
        let reached = distinct.wait_for(|handled| *handled >= count);
        if tokio::time::timeout(Duration::from_secs(15), reached).await.is_err() {
            bail!("only {} of {count} events were handled in time", self.distinct());
        }
        Ok(())
    }
}

/// Subscribes everything the brain listens to.
pub(crate) async fn listen(brain: &Client, ledger: &Ledger, timeline: &Timeline) -> Result<()> {
    let (book, lines) = (ledger.clone(), timeline.clone());
    let transcript = move |event: Envelope<FinalTranscript>| {
        lines.say(
            Who::Brain,
            format_args!(
                "heard {:?} ({:.0} % sure)",
                event.data.text,
                event.data.confidence * 100.0
            ),
        );
        book.note(&event.id);
        async {}
    };
    brain.subscribe("stt/final", transcript).qos(QoS::AtLeastOnce).await?;

    let (book, lines) = (ledger.clone(), timeline.clone());
    let delta = move |event: Envelope<StreamDelta>| {
        lines.say(
            Who::Brain,
            format_args!("token {} of {}: {:?}", event.data.seq, event.id, event.data.delta),
        );
        book.note(&format!("{}/{}", event.id, event.data.seq));
        async {}
    };
    brain.subscribe("llm/stream", delta).qos(QoS::AtLeastOnce).await?;

    for filter in ["t/#", "tts/status", "llm/response", "notes/+"] {
        let (book, lines) = (ledger.clone(), timeline.clone());
        let any = move |event: Envelope<Data>, topic: TopicName| {
            let fields = event.data.keys().take(6).cloned().collect::<Vec<_>>().join(", ");
            lines.say(
                Who::Brain,
                format_args!("handled {topic} ({}): {{{fields}}}", event.event_type),
            );
            book.note(&event.id);
            async {}
        };
        brain.subscribe(filter, any).qos(QoS::AtLeastOnce).await?;
    }

    let answer = async |question: Envelope<Question>, context: Context| {
        let reply = Answer {
            reply: format!("{} is noted", question.data.text),
        };
        context.reply("llm/answer", "llm.answer", &reply).await.map(|_| ())
    };
    brain.subscribe("llm/ask", answer).qos(QoS::AtLeastOnce).await?;
    Ok(())
}
