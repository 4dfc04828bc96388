//! What is sent: a transcript with as many words as its size takes, and the envelope as one writes
//! it by hand.

use serde::{Deserialize, Serialize};

/// The type of the events.
pub const EVENT_TYPE: &str = "stt.final";

/// Data of an event, numbered by the publisher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// Counted from 0.
    pub n: u64,
    /// What was said.
    pub text: String,
    /// The language.
    pub language: String,
    /// How sure it is.
    pub confidence: f64,
    /// Word by word.
    pub words: Vec<Word>,
}

/// A word of a transcript.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// The word.
    pub text: String,
    /// Seconds from the beginning.
    pub start: f64,
    /// Seconds from the beginning.
    pub end: f64,
}

impl Transcript {
    /// One whose JSON has about this many bytes.
    #[must_use]
    pub fn of_size(bytes: usize) -> Self {
        const SAID: [&str; 5] = ["bring", "the", "grüne", "teapot", "please"];
        let mut transcript = Self {
            n: 0,
            text: "bring the grüne teapot".to_owned(),
            language: "en".to_owned(),
            confidence: 0.953_125,
            words: Vec::new(),
        };
        let mut length = json_length(&transcript);
        for (said, number) in SAID.iter().cycle().zip(0_u32..) {
            let start = f64::from(number) * 0.25;
            let word = Word {
                text: (*said).to_owned(),
                start,
                end: start + 0.21,
            };
            length += json_length(&word) + 1;
            if length > bytes {
                break;
            }
            transcript.words.push(word);
        }
        transcript
    }
}

fn json_length(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

/// The envelope as one writes it by hand, for serde_json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plain<T> {
    /// Identifies the event.
    pub id: String,
    /// What kind of event it is.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Unix seconds.
    pub ts: f64,
    /// Who made it.
    pub source: String,
    /// The event.
    pub data: T,
}

impl<T> Plain<T> {
    /// An envelope made now, with a fresh id.
    pub fn new(source: &str, data: T) -> Self {
        Self {
            id: uuid::Uuid::new_v4().simple().to_string(),
            event_type: EVENT_TYPE.to_owned(),
            ts: tars_contracts::unix_now(),
            source: source.to_owned(),
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_has_about_its_size() {
        for bytes in [200, 2_000, 200_000] {
            let length = json_length(&Transcript::of_size(bytes));
            assert!((bytes - 60..=bytes).contains(&length), "{length} for {bytes}");
        }
    }
}
