//! The replies that were given, for requests that come again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tars_ports::Message;

use crate::dispatch::Key;

/// Bytes of replies that are kept.
const MAX_BYTES: usize = 16 * 1024 * 1024;

#[derive(Default)]
struct Kept {
    replies: HashMap<Key, Message>,
    /// The oldest first.
    order: VecDeque<Key>,
    bytes: usize,
}

/// By the request they answer, as deduplication recognises it; bounded in number and bytes.
#[derive(Default)]
pub(crate) struct Answers(Mutex<Kept>);

impl Answers {
    /// Keeps a reply; the oldest go to make room.
    pub(crate) fn keep(&self, request: &[u8], reply: Message, max_entries: usize) {
        let (Some(key), size) = (Key::of(request), reply.packet_size()) else {
            return;
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.remove(key) {
            kept.order.retain(|other| *other != key);
        }
        while kept.order.len() >= max_entries.max(1) || kept.bytes + size > MAX_BYTES {
            let Some(oldest) = kept.order.pop_front() else {
                // Larger than all that is kept.
                return;
            };
            kept.remove(oldest);
        }
        kept.bytes += size;
        kept.order.push_back(key);
        kept.replies.insert(key, reply);
    }

    pub(crate) fn find(&self, request: &[u8]) -> Option<Message> {
        let key = Key::of(request)?;
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.replies.get(&key).cloned()
    }
}

impl Kept {
    fn remove(&mut self, key: Key) -> bool {
        let removed = self.replies.remove(&key);
        self.bytes -= removed.as_ref().map_or(0, Message::packet_size);
        removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(n: usize) -> Vec<u8> {
        format!(r#"{{"id":"{n}","type":"t","data":{{}}}}"#).into_bytes()
    }

    fn reply(bytes: usize) -> Message {
        Message::new("a".parse().unwrap(), vec![0; bytes])
    }

    fn kept(answers: &Answers, requests: std::ops::Range<usize>) -> Vec<usize> {
        requests.filter(|n| answers.find(&request(*n)).is_some()).collect()
    }

    #[test]
    fn the_oldest_go_to_make_room() {
        let answers = Answers::default();
        for n in 0..5 {
            answers.keep(&request(n), reply(1), 3);
        }
        answers.keep(&request(3), reply(2), 3);
        assert_eq!(kept(&answers, 0..5), [2, 3, 4]);
        answers.keep(&request(5), reply(1), 3);
        assert_eq!(
            kept(&answers, 0..6),
            [3, 4, 5],
            "the one that was kept anew is not the oldest"
        );
    }

    #[test]
    fn their_bytes_are_bounded() {
        let answers = Answers::default();
        for n in 0..10 {
            answers.keep(&request(n), reply(MAX_BYTES / 3), 100);
        }
        assert_eq!(kept(&answers, 0..10), [8, 9]);
        answers.keep(&request(10), reply(MAX_BYTES), 100);
        assert!(
            kept(&answers, 0..11).is_empty(),
            "what is larger than all room is not kept"
        );
        assert_eq!(answers.0.lock().unwrap().bytes, 0);
    }
}
