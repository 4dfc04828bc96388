//! What the broker sends, looked at before paho sees it.
//!
//! The C library takes the broker's word for things that it should check: a SUBACK with
//! fewer answers than filters makes the wrapper read memory that is not there, a second
//! CONNACK runs a finished call again, and a claimed length is allocated as it is claimed.
//! So packets are framed here (MQTT 3.1.1 section 2.2), and what is none of those that a
//! broker may send ends the link.
//!
//! An answer to a question that nobody asked is not passed on and harms nobody: brokers
//! send them after a lost session.
//!
//! Bytes only: no socket, no clock. What is held back is never more than the largest
//! header, which is that of a PUBLISH with its topic: 65,544 bytes.

use std::collections::HashMap;

use tars_contracts::TopicName;

// Types of packets (section 2.2.1).
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const UNSUBSCRIBE: u8 = 10;
const UNSUBACK: u8 = 11;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;

/// Why the link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breach {
    /// The header claims more bytes than the limit.
    TooLarge { size: usize, limit: usize },
    /// Something else came where CONNACK must.
    NoConnack,
    /// What was sent, in words.
    Protocol(&'static str),
}

impl Breach {
    /// A topic that is none.
    pub(crate) const BAD_TOPIC: Self = Self::Protocol("a PUBLISH whose topic is no topic name");
}

/// What paho asked, and how many answers that wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Subscribe { filters: usize },
    Unsubscribe,
}

/// What becomes of a packet, as far as it has come.
enum Next {
    /// It takes so many of its bytes to say.
    Hold(usize),
    /// It may pass, with so many bytes to come.
    Pass(usize),
    /// It is left out, with so many bytes to come.
    Skip(usize),
}

/// The screen of one connection.
#[derive(Debug)]
pub(crate) struct Screen {
    limit: usize,
    accepted: bool,
    /// By packet id.
    questions: HashMap<u16, Question>,
    from_broker: Held,
    from_paho: Held,
}

/// A packet that has come in part.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// So many of its bytes are wanted before it is looked at again.
    wanted: usize,
    /// Bytes to come of one that was judged, and whether they pass.
    rest: usize,
    passes: bool,
}

impl Held {
    /// Takes bytes up to the next decision; `None` when there are no more.
    fn take<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Taken<'a>> {
        if bytes.is_empty() {
            return None;
        }
        if self.rest > 0 {
            let (now, later) = bytes.split_at(self.rest.min(bytes.len()));
            (*bytes, self.rest) = (later, self.rest - now.len());
            return Some(Taken::Rest(now));
        }
        // The first byte and one of the remaining length: no packet is shorter.
        self.wanted = self.wanted.max(2);
        let (now, later) = bytes.split_at((self.wanted - self.bytes.len()).min(bytes.len()));
        *bytes = later;
        self.bytes.extend_from_slice(now);
        (self.bytes.len() == self.wanted).then_some(Taken::Whole)
    }

    fn judged(&mut self, rest: usize, passes: bool) {
        // A long topic leaves no long buffer behind.
        self.bytes.clear();
        self.bytes.shrink_to(256);
        (self.wanted, self.rest, self.passes) = (0, rest, passes);
    }
}

enum Taken<'a> {
    /// Of a packet that was judged.
    Rest(&'a [u8]),
    /// As much is held as was wanted.
    Whole,
}

impl Screen {
    /// For packets up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            accepted: false,
            questions: HashMap::new(),
            from_broker: Held::default(),
            from_paho: Held::default(),
        }
    }

    /// Takes bytes of the broker, and appends what may pass to `out`.
    ///
    /// # Errors
    /// Nothing of the packet that broke the protocol is in `out`; what came before it is.
    pub(crate) fn admit(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Breach> {
        while let Some(taken) = self.from_broker.take(&mut bytes) {
            match taken {
                Taken::Rest(rest) if self.from_broker.passes => out.extend_from_slice(rest),
                Taken::Rest(_) => {}
                Taken::Whole => match self.judge()? {
                    Next::Hold(wanted) => self.from_broker.wanted = wanted,
                    Next::Skip(rest) => self.from_broker.judged(rest, false),
                    Next::Pass(rest) => {
                        out.extend_from_slice(&self.from_broker.bytes);
                        self.from_broker.judged(rest, true);
                    }
                },
            }
        }
        Ok(())
    }

    /// Notes what paho asks in bytes that it sends. It sends whole, valid packets.
    pub(crate) fn sent(&mut self, mut bytes: &[u8]) {
        while let Some(taken) = self.from_paho.take(&mut bytes) {
            let Taken::Whole = taken else { continue };
            let held = &mut self.from_paho;
            let Ok(Some((header, remaining))) = lengths(&held.bytes) else {
                held.wanted = held.bytes.len() + 1;
                continue;
            };
            let (kind, whole) = (held.bytes[0] >> 4, header + remaining);
            let asks = matches!(kind, SUBSCRIBE | UNSUBSCRIBE);
            if asks && held.bytes.len() < whole {
                held.wanted = whole;
                continue;
            }
            if asks && let Some((id, filters)) = held.bytes[header..].split_first_chunk() {
                let question = match kind {
                    SUBSCRIBE => Question::Subscribe {
                        filters: count(filters),
                    },
                    _ => Question::Unsubscribe,
                };
                self.questions.insert(u16::from_be_bytes(*id), question);
            }
            held.judged(whole - held.bytes.len(), true);
        }
    }

    fn judge(&mut self) -> Result<Next, Breach> {
        let held = &self.from_broker.bytes;
        let first = held[0];
        if !self.accepted && first != CONNACK << 4 {
            return Err(Breach::NoConnack);
        }
        let Some((header, remaining)) = lengths(held)? else {
            return Ok(Next::Hold(held.len() + 1));
        };
        let (size, limit) = (header + remaining, self.limit);
        if size > limit {
            return Err(Breach::TooLarge { size, limit });
        }
        if first >> 4 == PUBLISH {
            return publish(held, header, remaining);
        }
        let (flags, length, what) = match first >> 4 {
            CONNACK if self.accepted => return Err(Breach::Protocol("a second CONNACK")),
            CONNACK => (0, Some(2), "a malformed CONNACK"),
            PUBACK => (0, Some(2), "a malformed PUBACK"),
            PUBREC => (0, Some(2), "a malformed PUBREC"),
            PUBREL => (2, Some(2), "a malformed PUBREL"),
            PUBCOMP => (0, Some(2), "a malformed PUBCOMP"),
            SUBACK => (0, None, "a malformed SUBACK"),
            UNSUBACK => (0, Some(2), "a malformed UNSUBACK"),
            PINGRESP => (0, Some(0), "a malformed PINGRESP"),
            DISCONNECT => return Err(Breach::Protocol("DISCONNECT, which MQTT 3.1.1 brokers do not send")),
            0 | 15 => return Err(Breach::Protocol("a packet of a type that MQTT 3.1.1 does not have")),
            _ => return Err(Breach::Protocol("a packet that only clients send")),
        };
        if first & 0x0f != flags || length.is_some_and(|length| length != remaining) || remaining == 1 {
            return Err(Breach::Protocol(what));
        }
        // What it is about: a packet id, or CONNACK's flags and code.
        let body = &held[header..];
        if body.len() < 2.min(remaining) {
            return Ok(Next::Hold(header + 2));
        }
        match first >> 4 {
            CONNACK if body[0] > 1 => return Err(Breach::Protocol(what)),
            CONNACK => self.accepted = true,
            SUBACK => return self.suback(header, remaining),
            UNSUBACK => {
                let id = u16::from_be_bytes([body[0], body[1]]);
                if self.questions.get(&id) != Some(&Question::Unsubscribe) {
                    return Ok(Next::Skip(0));
                }
                self.questions.remove(&id);
            }
            _ => {}
        }
        Ok(Next::Pass(0))
    }

    fn suback(&mut self, header: usize, remaining: usize) -> Result<Next, Breach> {
        let held = &self.from_broker.bytes;
        let (Some((id, answers)), true) = (held[header..].split_first_chunk(), remaining > 2) else {
            return Err(Breach::Protocol("a malformed SUBACK"));
        };
        let id = u16::from_be_bytes(*id);
        match self.questions.get(&id) {
            Some(Question::Subscribe { filters }) if *filters != remaining - 2 => Err(Breach::Protocol(
                "a SUBACK with more or fewer answers than there were filters",
            )),
            Some(Question::Subscribe { .. }) if held.len() < header + remaining => Ok(Next::Hold(header + remaining)),
            Some(Question::Subscribe { .. }) => {
                if !answers.iter().all(|answer| matches!(answer, 0..=2 | 0x80)) {
                    return Err(Breach::Protocol(
                        "a SUBACK with an answer that MQTT 3.1.1 does not have",
                    ));
                }
                self.questions.remove(&id);
                Ok(Next::Pass(0))
            }
            _ => Ok(Next::Skip(header + remaining - held.len())),
        }
    }
}

/// A PUBLISH passes once its topic and its packet id are known to be good.
fn publish(held: &[u8], header: usize, remaining: usize) -> Result<Next, Breach> {
    const MALFORMED: Breach = Breach::Protocol("a malformed PUBLISH");
    let id = match held[0] >> 1 & 0b11 {
        0 => 0,
        1 | 2 => 2,
        _ => return Err(Breach::Protocol("a PUBLISH with QoS 3")),
    };
    if remaining < 2 {
        return Err(MALFORMED);
    }
    let Some((length, rest)) = held[header..].split_first_chunk() else {
        return Ok(Next::Hold(header + 2));
    };
    let length = usize::from(u16::from_be_bytes(*length));
    if 2 + length + id > remaining {
        return Err(MALFORMED);
    }
    if rest.len() < length + id {
        return Ok(Next::Hold(header + 2 + length + id));
    }
    let (topic, id) = rest.split_at(length);
    if !std::str::from_utf8(topic).is_ok_and(|topic| TopicName::new(topic).is_ok()) {
        return Err(Breach::BAD_TOPIC);
    }
    if id == [0, 0] {
        return Err(Breach::Protocol("a PUBLISH with packet id 0"));
    }
    Ok(Next::Pass(header + remaining - held.len()))
}

/// Length of the fixed header, and the remaining length; `None` as long as they have not come.
fn lengths(packet: &[u8]) -> Result<Option<(usize, usize)>, Breach> {
    let mut remaining = 0;
    for (at, byte) in packet[1..].iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((at + 2, remaining)));
        }
    }
    if packet.len() > 4 {
        return Err(Breach::Protocol("a remaining length of more than four bytes"));
    }
    Ok(None)
}

/// How many filters stand in a SUBSCRIBE, behind its packet id.
fn count(mut filters: &[u8]) -> usize {
    let mut count = 0;
    while let Some((length, rest)) = filters.split_first_chunk() {
        // The filter, and the QoS.
        let length = usize::from(u16::from_be_bytes(*length)) + 1;
        filters = rest.get(length..).unwrap_or_default();
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use tars_testkit::scripted::packet;

    use super::*;

    const LIMIT: usize = 1_000;

    /// A screen behind CONNACK.
    fn accepted() -> Screen {
        let mut screen = Screen::new(LIMIT);
        assert_eq!(fed(&mut screen, &packet::connack(true, 0)), Ok(4));
        screen
    }

    /// How many bytes passed.
    fn fed(screen: &mut Screen, bytes: &[u8]) -> Result<usize, Breach> {
        let mut out = Vec::new();
        screen.admit(bytes, &mut out).map(|()| out.len())
    }

    fn breach(bytes: &[u8]) -> Breach {
        fed(&mut accepted(), bytes).expect_err("no packet of a broker's")
    }

    #[test]
    fn what_a_broker_sends_passes_as_it_is_however_it_is_cut() {
        let mut stream = packet::connack(false, 0);
        stream.extend(packet::suback(7, &[0, 0x80]));
        for size in [0, 1, 100, 900] {
            stream.extend(packet::publish("a/é", &vec![9; size], 0, None, true, false));
            stream.extend(packet::publish("a", &vec![9; size], 2, Some(3), false, true));
        }
        for ack in [
            packet::puback(1),
            packet::pubrec(2),
            packet::pubrel(2),
            packet::pubcomp(2),
        ] {
            stream.extend(ack);
        }
        stream.extend(packet::unsuback(8));
        stream.extend(packet::pingresp());
        let mut asked = packet::raw(0x10, &[7; 300]);
        asked.extend(packet::raw(0x82, b"\x00\x07\x00\x01a\x01\x00\x02b/\x00"));
        asked.extend(packet::raw(0xa2, b"\x00\x08\x00\x01a"));
        for size in [1, 2, 3, 7, 4_096] {
            let (mut screen, mut out) = (Screen::new(LIMIT), Vec::new());
            asked.chunks(size).for_each(|chunk| screen.sent(chunk));
            for chunk in stream.chunks(size) {
                screen.admit(chunk, &mut out).expect("all of it may pass");
            }
            assert_eq!(out, stream, "in pieces of {size}");
            assert!(screen.questions.is_empty());
        }
    }

    #[test]
    fn connack_comes_first_and_once() {
        for other in [&b"HTTP/1.1"[..], b"\x90", b"\xd0\x00", b"\x00\x00", b"\x21"] {
            assert_eq!(
                fed(&mut Screen::new(LIMIT), &[other, b"\x00"].concat()),
                Err(Breach::NoConnack)
            );
        }
        for malformed in [
            &b"\x20\x01\x00"[..],
            b"\x20\x00",
            b"\x20\x02\x02\x00",
            b"\x20\x03\x00\x00",
        ] {
            assert!(matches!(
                fed(&mut Screen::new(LIMIT), malformed),
                Err(Breach::Protocol(_))
            ));
        }
        assert_eq!(breach(&packet::connack(false, 0)), Breach::Protocol("a second CONNACK"));
    }

    #[test]
    fn what_no_broker_sends_ends_the_link() {
        for bad in [
            packet::raw(0x10, &[0; 12]),
            packet::raw(0x82, &[0, 1, 0, 1, b'a', 0]),
            packet::raw(0xa2, &[0, 1, 0, 1, b'a']),
            packet::raw(0xc0, &[]),
            packet::raw(0xe0, &[]),
            packet::raw(0x00, &[]),
            packet::raw(0xf0, &[]),
            packet::raw(0x40, &[]),
            packet::raw(0x40, &[0]),
            packet::raw(0x40, &[0, 1, 0]),
            packet::raw(0x41, &[0, 1]),
            packet::raw(0x60, &[0, 1]),
            packet::raw(0x90, &[]),
            packet::raw(0x90, &[0, 1]),
            packet::raw(0xb0, &[0, 1, 0]),
            packet::raw(0xd0, &[0]),
            packet::raw(0x30, &[]),
            packet::raw(0x30, &[0]),
            packet::raw(0x30, &[0, 9, b'a']),
            packet::raw(0x32, &[0, 1, b'a', 0]),
            packet::publish("", b"", 0, None, false, false),
            packet::publish("a/#", b"", 0, None, false, false),
            packet::publish("a\0", b"", 1, Some(1), false, false),
            packet::publish("a", b"", 3, Some(1), false, false),
            packet::publish("a", b"", 1, Some(0), false, false),
            packet::raw(0x30, &[0, 2, 0xc3, 0x28]),
            vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            assert!(matches!(breach(&bad), Breach::Protocol(_)), "{bad:?}");
        }
    }

    #[test]
    fn a_claim_above_the_limit_is_refused_by_its_header() {
        let exact = packet::publish("a", &[0; LIMIT - 6], 0, None, false, false);
        assert_eq!(fed(&mut accepted(), &exact), Ok(LIMIT));
        for (claim, size) in [(&[0xe6, 0x07][..], LIMIT + 1), (&[0xff, 0xff, 0xff, 0x7f], 268_435_460)] {
            let header = [&[0x30], claim].concat();
            assert_eq!(breach(&header), Breach::TooLarge { size, limit: LIMIT });
        }
    }

    #[test]
    fn answers_are_for_questions() {
        let mut screen = accepted();
        screen.sent(&packet::raw(0x82, b"\x00\x07\x00\x01a\x01\x00\x02b/\x00"));
        // Of another connection perhaps: left out, and what follows is not.
        for stale in [
            packet::suback(8, &[0; 500]),
            packet::unsuback(7),
            packet::suback(0, &[9]),
        ] {
            assert_eq!(fed(&mut screen, &[stale, packet::pingresp()].concat()), Ok(2));
        }
        for answers in [&[0][..], &[0, 0, 0], &[0, 3]] {
            let mut screen = accepted();
            screen.sent(&packet::raw(0x82, b"\x00\x07\x00\x01a\x01\x00\x02b/\x00"));
            assert!(fed(&mut screen, &packet::suback(7, answers)).is_err(), "{answers:?}");
        }
        assert_eq!(fed(&mut screen, &packet::suback(7, &[1, 0x80])), Ok(6));
        assert_eq!(fed(&mut screen, &packet::suback(7, &[1, 0x80])), Ok(0), "once");
    }

    #[test]
    fn little_is_held_back() {
        let mut screen = accepted();
        let longest = packet::publish(&"t".repeat(65_535), b"x", 1, Some(1), false, false);
        screen.limit = usize::MAX;
        assert_eq!(fed(&mut screen, &longest[..65_000]), Ok(0));
        assert_eq!(fed(&mut screen, &longest[65_000..]), Ok(longest.len()));
        assert!(screen.from_broker.bytes.capacity() < 1_000);
    }
}
