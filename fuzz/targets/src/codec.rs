//! What adapter-rumqttc reads from a socket.

use bytes::BufMut;

#[path = "../../../crates/adapter-rumqttc/src/read_buffer.rs"]
#[allow(dead_code)]
mod read_buffer;

use read_buffer::ReadBuffer;

/// Larger than most of what is fed, so that both sides of it are met.
pub(crate) const LIMIT: usize = 4_096;

/// However the bytes are cut, the same packets come out, and then the same error; what is
/// buffered is bounded.
pub fn run(bytes: &[u8]) {
    let whole = packets(bytes, bytes.len().max(1));
    for size in [1, 3, 64] {
        assert_eq!(packets(bytes, size), whole, "in pieces of {size}");
    }
}

/// The packets, and the error that ended them, in words.
pub(crate) fn packets(bytes: &[u8], size: usize) -> Vec<String> {
    let mut buffer = ReadBuffer::new(LIMIT);
    let mut found = Vec::new();
    for chunk in bytes.chunks(size) {
        let mut chunk = chunk;
        while !chunk.is_empty() {
            let room = buffer.room();
            let free = room.capacity() - room.len();
            assert!(free > 0 && room.capacity() <= 128 * 1024, "{} of room", room.capacity());
            let (now, later) = chunk.split_at(chunk.len().min(free));
            room.put_slice(now);
            chunk = later;
            loop {
                match buffer.next_packet() {
                    Ok(Some(packet)) => found.push(format!("{packet:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        found.push(format!("{error:?}"));
                        return found;
                    }
                }
            }
        }
    }
    found
}
