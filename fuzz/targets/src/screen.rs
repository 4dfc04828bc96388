//! What stands before paho.

use crate::codec;

#[path = "../../../crates/adapter-paho/src/screen.rs"]
#[allow(dead_code)]
mod packets;

use packets::{Breach, Screen};

/// CONNACK.
const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];
/// SUBSCRIBE with id 1 for one filter, SUBSCRIBE with id 2 for two, UNSUBSCRIBE with id 3.
const ASKED: &[u8] =
    b"\x82\x06\x00\x01\x00\x01a\x01\x82\x0a\x00\x02\x00\x01a\x01\x00\x01b\x00\xa2\x05\x00\x03\x00\x01a";

/// However the bytes are cut, the same passes, and then the same breach; and whatever passes,
/// another codec takes for packets too.
pub fn run(bytes: &[u8]) {
    let whole = screened(bytes, bytes.len().max(1));
    for size in [1, 3, 64] {
        assert_eq!(screened(bytes, size), whole, "in pieces of {size}");
    }
    let (passed, _) = whole;
    for packet in codec::packets(&passed, passed.len().max(1)) {
        let refused = ["TooLarge", "Malformed"].iter().any(|error| packet.starts_with(error));
        assert!(!refused, "{packet} passed: {passed:?}");
    }
    // What paho is sent must not matter to it, but paho's own packets are another matter.
    let mut screen = Screen::new(codec::LIMIT);
    screen.sent(bytes);
}

fn screened(bytes: &[u8], size: usize) -> (Vec<u8>, Option<Breach>) {
    let (mut screen, mut out) = (Screen::new(codec::LIMIT), Vec::new());
    screen.sent(ASKED);
    for chunk in ACCEPTED.chunks(size).chain(bytes.chunks(size)) {
        if let Err(breach) = screen.admit(chunk, &mut out) {
            return (out, Some(breach));
        }
    }
    (out, None)
}
