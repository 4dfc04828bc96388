//! Packets of MQTT 3.1.1 built byte by byte, on purpose without an MQTT library: a
//! test that checks a codec must not use it. Nothing is validated, so that illegal
//! packets can be built too.

/// First byte of CONNECT, without flags, as are those below.
pub const CONNECT: u8 = 0x10;
/// First byte of CONNACK.
pub const CONNACK: u8 = 0x20;
/// First byte of PUBLISH, without DUP, QoS and RETAIN.
pub const PUBLISH: u8 = 0x30;
/// First byte of PUBACK.
pub const PUBACK: u8 = 0x40;
/// First byte of PUBREC.
pub const PUBREC: u8 = 0x50;
/// First byte of PUBREL, without its mandatory flags `0010`.
pub const PUBREL: u8 = 0x60;
/// First byte of PUBCOMP.
pub const PUBCOMP: u8 = 0x70;
/// First byte of SUBSCRIBE, without its mandatory flags `0010`.
pub const SUBSCRIBE: u8 = 0x80;
/// First byte of SUBACK.
pub const SUBACK: u8 = 0x90;
/// First byte of UNSUBSCRIBE, without its mandatory flags `0010`.
pub const UNSUBSCRIBE: u8 = 0xa0;
/// First byte of UNSUBACK.
pub const UNSUBACK: u8 = 0xb0;
/// First byte of PINGREQ.
pub const PINGREQ: u8 = 0xc0;
/// First byte of PINGRESP.
pub const PINGRESP: u8 = 0xd0;
/// First byte of DISCONNECT.
pub const DISCONNECT: u8 = 0xe0;

/// Any packet: first byte, remaining length, body.
#[must_use]
pub fn raw(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// CONNACK with this return code; 0 accepts, 1 to 5 refuse.
#[must_use]
pub fn connack(session_present: bool, code: u8) -> Vec<u8> {
    raw(CONNACK, &[u8::from(session_present), code])
}

/// SUBACK with one code per filter: 0, 1, 2, or 0x80 for a refusal.
#[must_use]
pub fn suback(id: u16, codes: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend_from_slice(codes);
    raw(SUBACK, &body)
}

/// UNSUBACK.
#[must_use]
pub fn unsuback(id: u16) -> Vec<u8> {
    raw(UNSUBACK, &id.to_be_bytes())
}

/// PUBACK.
#[must_use]
pub fn puback(id: u16) -> Vec<u8> {
    raw(PUBACK, &id.to_be_bytes())
}

/// PUBREC.
#[must_use]
pub fn pubrec(id: u16) -> Vec<u8> {
    raw(PUBREC, &id.to_be_bytes())
}

/// PUBREL, with its mandatory flags.
#[must_use]
pub fn pubrel(id: u16) -> Vec<u8> {
    raw(PUBREL | 0x02, &id.to_be_bytes())
}

/// PUBCOMP.
#[must_use]
pub fn pubcomp(id: u16) -> Vec<u8> {
    raw(PUBCOMP, &id.to_be_bytes())
}

/// PINGRESP.
#[must_use]
pub fn pingresp() -> Vec<u8> {
    raw(PINGRESP, &[])
}

/// PUBLISH. `id` is written where given, whatever the QoS says.
#[must_use]
pub fn publish(topic: &str, payload: &[u8], qos: u8, id: Option<u16>, retain: bool, dup: bool) -> Vec<u8> {
    let first = PUBLISH | u8::from(dup) << 3 | qos << 1 | u8::from(retain);
    let mut body = text(topic);
    if let Some(id) = id {
        body.extend(id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    raw(first, &body)
}

/// A string with its length in front (section 1.5.3), cut at 65,535 bytes.
#[must_use]
pub fn text(value: &str) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&value.as_bytes()[..usize::from(length)]);
    bytes
}

/// The packet id at the start of a body: all packets that have one but PUBLISH.
///
/// # Panics
/// When the body is shorter than two bytes.
#[must_use]
pub fn leading_id(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

/// A PUBLISH taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The topic name.
    pub topic: String,
    /// The bytes.
    pub payload: Vec<u8>,
    /// 0, 1 or 2 (or the illegal 3).
    pub qos: u8,
    /// For QoS above 0.
    pub id: Option<u16>,
    /// The RETAIN flag.
    pub retain: bool,
    /// The DUP flag.
    pub dup: bool,
}

/// Takes a PUBLISH apart that [`read_packet`](super::ScriptedPeer::read_packet) returned.
///
/// # Panics
/// When it is none, or cut short.
#[must_use]
pub fn parse_publish(first: u8, body: &[u8]) -> Published {
    assert_eq!(first & 0xf0, PUBLISH, "awaited a PUBLISH, got {first:#04x}");
    let qos = (first >> 1) & 0x03;
    let topic_end = 2 + usize::from(leading_id(body));
    let id = (qos > 0).then(|| leading_id(&body[topic_end..]));
    let payload_start = topic_end + if qos > 0 { 2 } else { 0 };
    Published {
        topic: String::from_utf8_lossy(&body[2..topic_end]).into_owned(),
        payload: body[payload_start..].to_vec(),
        qos,
        id,
        retain: first & 0x01 != 0,
        dup: first & 0x08 != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_look_as_the_standard_says() {
        assert_eq!(connack(true, 0), [0x20, 2, 1, 0]);
        assert_eq!(suback(0x0102, &[1, 0x80]), [0x90, 4, 1, 2, 1, 0x80]);
        assert_eq!(pubrel(5), [0x62, 2, 0, 5]);
        assert_eq!(
            publish("a/b", b"x", 1, Some(10), true, true),
            [0x3b, 8, 0, 3, b'a', b'/', b'b', 0, 10, b'x']
        );
        assert_eq!(raw(0x30, &[0; 321])[..3], [0x30, 0xc1, 0x02]);
    }

    #[test]
    fn a_publish_is_taken_apart_again() {
        let bytes = publish("a/b", b"x", 2, Some(10), false, true);
        let publish = parse_publish(bytes[0], &bytes[2..]);
        assert_eq!((publish.topic.as_str(), publish.payload.as_slice()), ("a/b", &b"x"[..]));
        assert_eq!(
            (publish.qos, publish.id, publish.dup, publish.retain),
            (2, Some(10), true, false)
        );
    }
}
