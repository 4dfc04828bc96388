//! Bytes on their way out, and how far they got.
//!
//! Positions count every byte ever appended, so that a packet is known to be
//! written when the written position has passed its end.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::Error as CodecError;

/// An emptied buffer larger than this gives its memory back.
const KEEP: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    bytes: BytesMut,
    written: u64,
    /// Ends of the QoS 0 publishes that are not written yet.
    qos0: VecDeque<u64>,
}

impl WriteBuffer {
    /// Appends one packet, and says at which position it ends.
    pub(crate) fn append(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> Result<usize, CodecError>,
    ) -> Result<u64, CodecError> {
        encode(&mut self.bytes)?;
        Ok(self.end())
    }

    /// Appends a QoS 0 publish, which is counted until it is written.
    pub(crate) fn append_qos0(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> Result<usize, CodecError>,
    ) -> Result<(), CodecError> {
        let end = self.append(encode)?;
        self.qos0.push_back(end);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes
    }

    /// The socket took the first `n` bytes.
    pub(crate) fn advance(&mut self, n: usize) {
        self.bytes.advance(n);
        self.written += n as u64;
        while self.qos0.front().is_some_and(|end| *end <= self.written) {
            self.qos0.pop_front();
        }
        if self.bytes.is_empty() && self.bytes.capacity() > KEEP {
            self.bytes = BytesMut::new();
        }
    }

    /// Whether the socket took all of a packet that ends there.
    pub(crate) fn is_written(&self, end: u64) -> bool {
        end <= self.written
    }

    /// QoS 0 publishes whose last byte was not taken.
    pub(crate) fn unwritten_qos0(&self) -> u64 {
        self.qos0.len() as u64
    }

    fn end(&self) -> u64 {
        self.written + self.bytes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(n: usize) -> impl FnOnce(&mut BytesMut) -> Result<usize, CodecError> {
        move |bytes| {
            bytes.extend_from_slice(&vec![7; n]);
            Ok(n)
        }
    }

    #[test]
    fn a_packet_is_written_with_its_last_byte() {
        let mut buffer = WriteBuffer::default();
        buffer.append_qos0(some(10)).expect("appended");
        let end = buffer.append(some(5)).expect("appended");
        buffer.advance(9);
        assert_eq!(buffer.unwritten_qos0(), 1);
        buffer.advance(5);
        assert_eq!(buffer.unwritten_qos0(), 0);
        assert!(!buffer.is_written(end));
        buffer.append_qos0(some(1)).expect("appended");
        buffer.advance(1);
        assert!(buffer.is_written(end));
        assert_eq!((buffer.len(), buffer.unwritten_qos0()), (1, 1));
    }

    #[test]
    fn a_large_packet_leaves_no_memory_behind() {
        let mut buffer = WriteBuffer::default();
        buffer.append(some(4 * KEEP)).expect("appended");
        buffer.advance(4 * KEEP);
        assert!(buffer.bytes.capacity() <= KEEP);
    }
}
