//! A digest of a JSON value that does not depend on the order of keys.
//!
//! It is made while the value is read: a scalar is a few tagged bytes, an array its
//! elements in order, an object its entries in the order of their keys, where of a key
//! that is there twice the last entry counts. Numbers are what a reader of JSON sees: `1`
//! and `1.0` differ, `1e0` and `1.0` do not, and an integer beyond 64 bits is a float.
//!
//! A usual message is so hashed once, as a whole; only an object that has become long is
//! replaced by its own digest, so that nesting moves no byte more often than once.
//!
//! All hashing is SipHash under a key drawn once for the process, so nobody can choose
//! two values that collide; a digest has 128 bits.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use tars_contracts::MAX_DEPTH;

static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The keyed 64-bit hash of the bytes, and of them and one more: two values as
/// independent as under two keys.
pub(crate) fn hash_128(bytes: &[u8]) -> [u64; 2] {
    let mut hasher = SECRET.build_hasher();
    // One write: many small ones cost several times as much.
    hasher.write(bytes);
    let first = hasher.finish();
    hasher.write(&[0]);
    [first, hasher.finish()]
}

/// Ends a text. No UTF-8 has this byte, so no text is the beginning of another.
const END: u8 = 0xff;

/// An object with more bytes is replaced by its digest.
const LONG: usize = 512;

/// Where a digest is made: the bytes of what has been read of the value, and where the
/// entries of the objects that are being read stand in them.
pub(crate) struct Digest {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Scratch for entries that come in another order than that of their keys.
    sorted: Vec<u8>,
}

/// Of an object: from its tag to the end of its key, and to the end of its value.
struct Entry {
    start: usize,
    key_end: usize,
    end: usize,
}

impl Entry {
    fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start..self.key_end]
    }
}

impl Digest {
    /// For a payload of this size; what is usual does not grow.
    pub(crate) fn new(payload: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(payload.min(4 * 1024)),
            entries: Vec::with_capacity(16),
            sorted: Vec::new(),
        }
    }

    /// Takes a value that stands, if it is an array or an object, on this level.
    pub(crate) fn value(&mut self, level: usize) -> Value<'_> {
        Value { digest: self, level }
    }

    /// Reads an object with `read_value`, which is told where its entry begins.
    pub(crate) fn object<'de, A: MapAccess<'de>>(
        &mut self,
        mut map: A,
        mut read_value: impl FnMut(&mut Self, &mut A, usize) -> Result<(), A::Error>,
    ) -> Result<(), A::Error> {
        let first = self.entries.len();
        self.bytes.push(b'{');
        let begin = self.bytes.len();
        loop {
            let start = self.bytes.len();
            self.bytes.push(b'k');
            if map.next_key_seed(Name(self))?.is_none() {
                self.bytes.truncate(start);
                break;
            }
            let key_end = self.bytes.len();
            read_value(self, &mut map, start)?;
            let end = self.bytes.len();
            self.entries.push(Entry { start, key_end, end });
        }
        self.sort(first, begin);
        self.entries.truncate(first);
        self.bytes.push(b'}');
        if self.bytes.len() - begin > LONG {
            let digest = hash_128(&self.bytes[begin..]);
            self.bytes.truncate(begin - 1);
            self.bytes.push(b'#');
            self.word(digest[0]);
            self.word(digest[1]);
        }
        Ok(())
    }

    /// Puts the entries from `first` on, whose bytes begin there, in the order of their keys.
    fn sort(&mut self, first: usize, begin: usize) {
        let (bytes, entries) = (&self.bytes, &mut self.entries[first..]);
        if entries.is_sorted_by(|one, next| one.key(bytes) < next.key(bytes)) {
            return;
        }
        // Stable, so that of a key that is there twice the last one stands last.
        entries.sort_by(|one, other| one.key(bytes).cmp(other.key(bytes)));
        self.sorted.clear();
        for same in entries.chunk_by(|one, next| one.key(bytes) == next.key(bytes)) {
            if let Some(last) = same.last() {
                self.sorted.extend_from_slice(&bytes[last.start..last.end]);
            }
        }
        self.bytes.truncate(begin);
        self.bytes.extend_from_slice(&self.sorted);
    }

    /// Whether the entry that begins there, whose value is not yet read, has this key.
    pub(crate) fn key_is(&self, start: usize, name: &str) -> bool {
        self.bytes[start + 1..].strip_suffix(&[END]) == Some(name.as_bytes())
    }

    /// The digest of what was read; the next one begins.
    pub(crate) fn take(&mut self) -> [u64; 2] {
        let digest = hash_128(&self.bytes);
        self.bytes.clear();
        digest
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(END);
    }

    fn word(&mut self, word: u64) {
        self.bytes.extend_from_slice(&word.to_le_bytes());
    }
}

/// Takes a key's text.
struct Name<'a>(&'a mut Digest);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        self.0.text(key);
        Ok(())
    }
}

/// Takes any value. Every kind has a tag of its own, and says itself where it ends.
pub(crate) struct Value<'a> {
    digest: &'a mut Digest,
    level: usize,
}

impl Value<'_> {
    fn tagged(self, tag: u8, word: u64) {
        self.digest.bytes.push(tag);
        self.digest.word(word);
    }

    /// Reading recurses once for each level, so a hostile payload must not choose how deep.
    fn check_level<E: Error>(&self) -> Result<(), E> {
        if self.level > MAX_DEPTH {
            return Err(E::custom("nested too deep"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.digest.bytes.push(b'n');
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.digest.bytes.push(if value { b't' } else { b'f' });
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        // Small ones are usual, and need few bytes.
        match u8::try_from(value) {
            Ok(small) => self.digest.bytes.extend_from_slice(&[b'0', small]),
            Err(_) => self.tagged(b'u', value),
        }
        Ok(())
    }

    // serde_json gives only negative ones as `i64`.
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.tagged(b'i', value.cast_unsigned());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.tagged(b'd', value.to_bits());
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.digest.bytes.push(b's');
        self.digest.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        self.check_level()?;
        self.digest.bytes.push(b'[');
        while elements.next_element_seed(self.digest.value(self.level + 1))?.is_some() {}
        self.digest.bytes.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.check_level()?;
        let inside = self.level + 1;
        self.digest
            .object(map, |digest, map, _| map.next_value_seed(digest.value(inside)))
    }
}
