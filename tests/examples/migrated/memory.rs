//! What the memory worker does, whoever brings the messages: it remembers sentences and finds
//! them again. Both forms of the service use it as it is.

use std::sync::{Arc, Mutex, PoisonError};

/// How many sentences it holds; the oldest go first.
const MOST: usize = 1000;

/// A handle: clones are the same memory.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Vec<String>>>);

impl Memory {
    pub(crate) fn remember(&self, text: String) {
        let mut sentences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sentences.len() == MOST {
            sentences.remove(0);
        }
        sentences.push(text);
    }

    /// The sentences with this word in them, the newest first.
    pub(crate) fn find(&self, word: &str) -> Vec<String> {
        let sentences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = sentences.iter().rev().filter(|text| text.contains(word));
        found.cloned().collect()
    }
}
