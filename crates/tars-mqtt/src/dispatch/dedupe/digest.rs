//! A digest of a JSON value that does not depend on the order of keys.
//!
//! It is made of the values as the reader of envelopes sees them: a scalar is a few tagged
//! bytes, an array its elements in order, an object its entries in the order of their
//! keys, where of a key that is there twice the last entry counts. `1` and `1.0` differ,
//! `1e0` and `1.0` do not, `-0` is the integer 0, and an integer beyond 64 bits is a float.
//!
//! All hashing is SipHash under a key drawn once for the process, so nobody can choose
//! two values that collide; a digest has 128 bits. What is hashed goes through a buffer
//! that each thread keeps: many small writes cost several times as much as a few.

use std::cell::Cell;
use std::cmp::Ordering;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::sync::LazyLock;

use tars_contracts::flat::{Node, StaticNode, next};

static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Ends a text. No UTF-8 has these bytes, so no text is the beginning of another, and the end
/// of an object is no name.
const END: u8 = 0xff;
const OBJECT_END: u8 = 0xfe;

/// So many bytes are hashed at once.
const CHUNK: usize = 1024;

/// The names of so many entries are sorted without an allocation.
const FEW: usize = 8;

/// Of an entry of an object: its length, and where it stands in the nodes.
#[derive(Clone, Copy, Default)]
struct Name {
    length: usize,
    at: usize,
}

impl Name {
    #[inline]
    fn text<'a>(self, nodes: &[Node<'a>]) -> &'a str {
        text(&nodes[self.at])
    }

    /// Any order will do. By length is cheap, and most names are told apart by it.
    #[inline]
    fn order(self, other: Self, nodes: &[Node<'_>]) -> Ordering {
        let by_length = self.length.cmp(&other.length);
        by_length.then_with(|| self.text(nodes).cmp(other.text(nodes)))
    }
}

/// Takes texts and values, and ends as the digest of them, in their order.
pub(crate) struct Digest {
    hasher: DefaultHasher,
    /// What was not hashed yet, and how much of it there is.
    bytes: Vec<u8>,
    filled: usize,
}

impl Digest {
    pub(crate) fn new() -> Self {
        let mut bytes = SCRATCH.take();
        bytes.resize(CHUNK, 0);
        Self {
            hasher: SECRET.build_hasher(),
            bytes,
            filled: 0,
        }
    }

    /// Takes a text without its end.
    pub(crate) fn part(&mut self, text: &str) {
        self.filled = self.put_part(self.filled, text);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.filled = self.put_text(self.filled, text);
    }

    /// Takes the value that stands at the beginning.
    pub(crate) fn value(&mut self, nodes: &[Node<'_>]) {
        self.filled = self.put_value(self.filled, nodes, 0, b':');
    }

    /// The digest of all that was taken.
    pub(crate) fn finish(mut self) -> [u64; 2] {
        self.flush(self.filled);
        let first = self.hasher.finish();
        // Of the same and one byte more: as independent as under another key.
        self.hasher.write(&[0]);
        SCRATCH.set(self.bytes);
        [first, self.hasher.finish()]
    }

    // How much is filled goes through all that follows as a value and comes back: through
    // memory, each byte would wait for the one before it.

    /// Puts the value that stands there. Every kind has a tag of its own, and says itself where
    /// it ends; before the tag stands `lead`.
    // Always: most values are no call then.
    #[inline(always)]
    fn put_value(&mut self, filled: usize, nodes: &[Node<'_>], at: usize, lead: u8) -> usize {
        match nodes[at] {
            Node::Static(StaticNode::F64(value)) => self.put_word(filled, [lead, b'd'], value.to_bits()),
            // Small ones are usual, and need few bytes.
            Node::Static(StaticNode::U64(value @ ..=0xff)) => self.put(filled, [lead, b'0', value as u8]),
            Node::Static(StaticNode::U64(value)) => self.put_word(filled, [lead, b'u'], value),
            Node::Static(StaticNode::I64(value @ ..0)) => self.put_word(filled, [lead, b'i'], value.cast_unsigned()),
            // The others come as `U64`.
            Node::Static(StaticNode::I64(_)) => self.put(filled, [lead, b'0', 0]),
            Node::Static(StaticNode::Bool(value)) => self.put(filled, [lead, if value { b't' } else { b'f' }]),
            Node::Static(StaticNode::Null) => self.put(filled, [lead, b'n']),
            Node::String(text) => {
                let filled = self.put(filled, [lead, b's']);
                self.put_text(filled, text)
            }
            Node::Array { count, .. } => {
                let filled = self.put(filled, [lead, b'[']);
                self.put_elements(filled, nodes, at + 1, at + 1 + count)
            }
            Node::Object { len, .. } => {
                let filled = self.put(filled, [lead, b'{']);
                self.put_entries(filled, nodes, at + 1, len)
            }
        }
    }

    fn put_elements(&mut self, mut filled: usize, nodes: &[Node<'_>], mut at: usize, end: usize) -> usize {
        while at < end {
            filled = self.put_value(filled, nodes, at, b',');
            at = next(nodes, at);
        }
        self.put(filled, [b']'])
    }

    fn put_entries(&mut self, mut filled: usize, nodes: &[Node<'_>], begin: usize, entries: usize) -> usize {
        let (mut few, mut many) = ([Name::default(); FEW], Vec::new());
        let names = match few.get_mut(..entries) {
            Some(few) => few,
            None => {
                many.resize(entries, Name::default());
                &mut *many
            }
        };
        let mut at = begin;
        for name in &mut *names {
            let length = text(&nodes[at]).len();
            *name = Name { length, at };
            at = next(nodes, at + 1);
        }
        sort(names, nodes);
        for (entry, name) in names.iter().enumerate() {
            let overridden = |next: &Name| next.length == name.length && next.text(nodes) == name.text(nodes);
            if !names.get(entry + 1).is_some_and(overridden) {
                filled = self.put_part(filled, name.text(nodes));
                filled = self.put_value(filled, nodes, name.at + 1, END);
            }
        }
        self.put(filled, [OBJECT_END])
    }

    #[inline]
    fn put_text(&mut self, filled: usize, text: &str) -> usize {
        let filled = self.put_part(filled, text);
        self.put(filled, [END])
    }

    #[inline]
    fn put_part(&mut self, filled: usize, text: &str) -> usize {
        if text.len() > CHUNK {
            self.flush(filled);
            self.hasher.write(text.as_bytes());
            return 0;
        }
        match short(text.as_bytes()) {
            Some(word) => self.put(filled, word.to_le_bytes()) - 8 + text.len(),
            None => self.put_bytes(filled, text.as_bytes()),
        }
    }

    #[inline]
    fn put_word(&mut self, filled: usize, [lead, tag]: [u8; 2], word: u64) -> usize {
        let mut bytes = [lead; 10];
        bytes[1] = tag;
        bytes[2..].copy_from_slice(&word.to_le_bytes());
        self.put(filled, bytes)
    }

    #[inline]
    fn put<const N: usize>(&mut self, filled: usize, bytes: [u8; N]) -> usize {
        self.put_bytes(filled, &bytes)
    }

    /// Not more than are hashed at once.
    #[inline]
    fn put_bytes(&mut self, mut filled: usize, bytes: &[u8]) -> usize {
        if filled + bytes.len() > self.bytes.len() {
            self.flush(filled);
            filled = 0;
        }
        self.bytes[filled..filled + bytes.len()].copy_from_slice(bytes);
        filled + bytes.len()
    }

    #[cold]
    fn flush(&mut self, filled: usize) {
        self.hasher.write(&self.bytes[..filled]);
    }
}

/// Stable, so that of a name that is there twice the last one stands last.
fn sort(names: &mut [Name], nodes: &[Node<'_>]) {
    if names.len() > 16 {
        return names.sort_by(|one, other| one.order(*other, nodes));
    }
    for end in 1..names.len() {
        let (name, mut at) = (names[end], end);
        while at > 0 && names[at - 1].order(name, nodes).is_gt() {
            names[at] = names[at - 1];
            at -= 1;
        }
        names[at] = name;
    }
}

/// Up to eight bytes as a word and zeros: to put those costs less than a copy of any length, and
/// most texts are short.
#[inline]
fn short(bytes: &[u8]) -> Option<u64> {
    let length = bytes.len();
    if length > 8 {
        None
    } else if let (Some(begin), Some(end)) = (bytes.first_chunk(), bytes.last_chunk()) {
        // They overlap.
        let end = u64::from(u32::from_le_bytes(*end)) << (8 * (length - 4));
        Some(u64::from(u32::from_le_bytes(*begin)) | end)
    } else {
        Some(bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    }
}

/// Of what is a name.
#[inline]
fn text<'a>(node: &Node<'a>) -> &'a str {
    match node {
        Node::String(text) => text,
        _ => "",
    }
}
