//! Bytes on their way in: room to read into, and packets out of them.
//!
//! A packet's claimed length reserves nothing; the room grows with the bytes that
//! have arrived. A large packet is gathered in a buffer of its own of exactly its
//! size, so that its payload can be handed on without a copy; a small payload is
//! copied out, so that it never keeps a read buffer alive.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4::Packet;
use rumqttc::mqttbytes::{Error as CodecError, check};

/// Size of the buffer that small packets are read into.
const CHUNK: usize = 64 * 1024;
/// Less room than this is too little for one read.
const MIN_ROOM: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) enum ReadError {
    TooLarge { size: usize },
    Malformed(CodecError),
}

#[derive(Debug)]
pub(crate) struct ReadBuffer {
    bytes: BytesMut,
    /// Size of the allocation behind `bytes`.
    allocated: usize,
    /// Largest packet.
    limit: usize,
}

impl ReadBuffer {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            allocated: 0,
            limit,
        }
    }

    /// The first byte of the next packet, if it has come.
    pub(crate) fn first_byte(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    /// The next whole packet, if all of it has come.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Packet>, ReadError> {
        let Some(length) = self.frame_length()? else {
            return Ok(None);
        };
        if self.bytes.len() < length {
            return Ok(None);
        }
        match Packet::read(&mut self.bytes, self.limit) {
            Ok(Packet::Publish(mut publish)) => {
                publish.payload = self.detach(publish.payload);
                Ok(Some(Packet::Publish(publish)))
            }
            Ok(packet) => Ok(Some(packet)),
            Err(error) => Err(ReadError::Malformed(error)),
        }
    }

    /// Room for the next read. Call it when no whole packet is left.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        let length = self.bytes.len();
        let frame = self.frame_length().ok().flatten().unwrap_or(0);
        if frame > CHUNK {
            // At most twice what has come, and in the end exactly the packet:
            // the bytes after it stay in the socket until it is done.
            if self.bytes.capacity() == length {
                self.replace(frame.min((length * 2).max(2 * CHUNK)));
            }
        } else if length == 0 && self.allocated == CHUNK {
            // Gets the whole allocation back, unless a payload shares it.
            self.bytes.reserve(CHUNK);
        } else if self.allocated != CHUNK || self.bytes.capacity() - length < MIN_ROOM.min(CHUNK - length) {
            self.replace(CHUNK);
        }
        &mut self.bytes
    }

    /// Whether the last read may have left something behind.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() == self.bytes.capacity()
    }

    /// Length of the packet that `bytes` begin with, as far as its header has come.
    fn frame_length(&self) -> Result<Option<usize>, ReadError> {
        let size = match check(self.bytes.iter(), self.limit) {
            Ok(header) => header.frame_length(),
            // One or two are wanted where the header itself is incomplete.
            Err(CodecError::InsufficientBytes(_)) if self.bytes.len() < 2 => return Ok(None),
            Err(CodecError::InsufficientBytes(more)) => self.bytes.len() + more,
            Err(CodecError::PayloadSizeLimitExceeded(size)) => return Err(ReadError::TooLarge { size }),
            Err(error) => return Err(ReadError::Malformed(error)),
        };
        if size > self.limit {
            return Err(ReadError::TooLarge { size });
        }
        Ok(Some(size))
    }

    fn replace(&mut self, size: usize) {
        let mut fresh = BytesMut::with_capacity(size);
        fresh.extend_from_slice(&self.bytes);
        self.bytes = fresh;
        self.allocated = size;
    }

    /// A payload that is at least half of what it would keep alive is worth keeping.
    fn detach(&self, payload: Bytes) -> Bytes {
        if payload.len() >= self.allocated / 2 && payload.len() >= MIN_ROOM {
            payload
        } else {
            Bytes::copy_from_slice(&payload)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use rumqttc::mqttbytes::QoS;
    use rumqttc::mqttbytes::v4::Publish;

    use super::*;

    fn publish(payload: usize) -> BytesMut {
        let mut bytes = BytesMut::new();
        Publish::from_bytes("a/b", QoS::AtMostOnce, vec![9; payload].into())
            .write(&mut bytes)
            .expect("encoded");
        bytes
    }

    /// Feeds as a socket would: never more than the room.
    fn feed(buffer: &mut ReadBuffer, mut bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut payloads = Vec::new();
        while !bytes.is_empty() {
            let room = buffer.room();
            let n = bytes.len().min(room.capacity() - room.len());
            assert!(n > 0, "no room");
            room.put_slice(&bytes[..n]);
            bytes = &bytes[n..];
            while let Some(packet) = buffer.next_packet().expect("valid") {
                if let Packet::Publish(publish) = packet {
                    payloads.push((publish.payload.len(), buffer.allocated));
                }
            }
        }
        payloads
    }

    #[test]
    fn packets_of_all_sizes_come_out_whole() {
        let sizes = [
            0, 1, 100, 16_383, 20_000, 40_000, 65_000, 65_536, 70_000, 1_000_000, 3, 300_000, 0,
        ];
        let mut stream = BytesMut::new();
        for size in sizes {
            stream.extend_from_slice(&publish(size));
        }
        let mut buffer = ReadBuffer::new(2_000_000);
        let got: Vec<_> = feed(&mut buffer, &stream).into_iter().map(|(size, _)| size).collect();
        assert_eq!(got, sizes);
    }

    #[test]
    fn a_large_packet_gets_a_buffer_of_its_size_and_gives_it_back() {
        let mut buffer = ReadBuffer::new(2_000_000);
        let mut stream = publish(1_000_000);
        let frame = stream.len();
        stream.extend_from_slice(&publish(10));
        assert_eq!(feed(&mut buffer, &stream), [(1_000_000, frame), (10, CHUNK)]);
    }

    #[test]
    fn a_small_payload_that_is_kept_pins_no_buffer() {
        for (size, alone) in [(10, true), (CHUNK / 4, true), (1_000_000, false)] {
            let mut buffer = ReadBuffer::new(2_000_000);
            let stream = publish(size);
            let mut fed = 0;
            let packet = loop {
                let room = buffer.room();
                let n = (stream.len() - fed).min(room.capacity() - room.len());
                room.put_slice(&stream[fed..fed + n]);
                fed += n;
                if let Some(packet) = buffer.next_packet().expect("valid") {
                    break packet;
                }
            };
            let Packet::Publish(publish) = packet else {
                panic!("a PUBLISH was fed");
            };
            // On its own it is an allocation of its own size; otherwise it is the buffer.
            assert_eq!(publish.payload.is_unique(), alone, "{size}");
            assert_eq!(publish.payload.len(), size);
        }
    }

    #[test]
    fn a_claim_reserves_nothing() {
        let mut buffer = ReadBuffer::new(usize::MAX);
        // PUBLISH that claims 268,435,455 bytes.
        assert!(feed(&mut buffer, &[0x30, 0xff, 0xff, 0xff, 0x7f]).is_empty());
        buffer.room();
        assert!(buffer.allocated <= 2 * CHUNK);
    }

    #[test]
    fn too_large_is_known_from_the_header() {
        let mut buffer = ReadBuffer::new(1_000);
        buffer.room().put_slice(&[0x30, 0xff, 0x7f]);
        assert!(matches!(
            buffer.next_packet(),
            Err(ReadError::TooLarge { size: 16_383 })
        ));
        // The limit counts the header too.
        let mut exact = ReadBuffer::new(publish(500).len());
        assert_eq!(feed(&mut exact, &publish(500)).len(), 1);
        exact.room().put_slice(&publish(501));
        assert!(exact.next_packet().is_err());
    }
}
