//! A digest of a JSON value that does not depend on the order of keys.
//!
//! It is made while the value is read: a scalar is a few tagged bytes, an array its
//! elements in order, an object the sum of its entries' digests, where of a key that is
//! there twice the last entry counts. Numbers are what a reader of JSON sees: `1` and
//! `1.0` differ, `1e0` and `1.0` do not, and an integer beyond 64 bits is a float.
//!
//! All hashing is SipHash under a key drawn once for the process, so nobody can choose
//! two values that collide; a digest has 128 bits.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use tars_contracts::MAX_DEPTH;

static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn hash_64(bytes: &[u8]) -> u64 {
    let mut hasher = SECRET.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

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

/// Where a digest is made: the bytes of what is being read, of which there is never
/// more than one object's entry at a time on each level, and the entries that are done.
pub(crate) struct Digest {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    key: u64,
    digest: [u64; 2],
}

impl Digest {
    /// With room for a usual message, so that it seldom grows.
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(256),
            entries: Vec::with_capacity(16),
        }
    }

    /// Takes a value that stands, if it is an array or an object, on this level.
    pub(crate) fn value(&mut self, level: usize) -> Value<'_> {
        Value { digest: self, level }
    }

    /// Reads an object with `read_value`, which is told where its key's bytes begin.
    pub(crate) fn object<'de, A: MapAccess<'de>>(
        &mut self,
        mut map: A,
        mut read_value: impl FnMut(&mut Self, &mut A, usize) -> Result<(), A::Error>,
    ) -> Result<(), A::Error> {
        let (start, first) = (self.bytes.len(), self.entries.len());
        while map.next_key_seed(Name(self))?.is_some() {
            let key = hash_64(&self.bytes[start..]);
            read_value(self, &mut map, start)?;
            let digest = hash_128(&self.bytes[start..]);
            self.entries.push(Entry { key, digest });
            self.bytes.truncate(start);
        }
        let entries = &mut self.entries[first..];
        // Stable, so that of a key that is there twice the last one stands last.
        entries.sort_by_key(|entry| entry.key);
        let mut sum = [0_u64; 2];
        for same in entries.chunk_by(|a, b| a.key == b.key) {
            let last = same.last().map_or([0; 2], |entry| entry.digest);
            sum = [sum[0].wrapping_add(last[0]), sum[1].wrapping_add(last[1])];
        }
        self.entries.truncate(first);
        self.bytes.push(b'{');
        self.word(sum[0]);
        self.word(sum[1]);
        Ok(())
    }

    /// Whether the key whose bytes begin there, of the entry being read, is this one.
    pub(crate) fn key_is(&self, start: usize, name: &str) -> bool {
        self.bytes[start..].strip_suffix(&[END]) == Some(name.as_bytes())
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
        self.tagged(b'u', value);
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
