//! A tap on the line between a client and its broker: what goes over the wire, packet by packet,
//! seen by nobody's word but the bytes' own.

use tars_testkit::mosquitto::Mosquitto;
use tars_testkit::scripted::packet::{self, Published, leading_id, parse_publish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A packet that has to do with acknowledging what the client receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    /// To the client.
    Publish(Published),
    /// From the client, as are those below but PUBREL.
    Puback(u16),
    Pubrec(u16),
    /// To the client.
    Pubrel(u16),
    Pubcomp(u16),
}

/// Passes the bytes of any number of connections on, and tells each packet.
pub(crate) struct Tap {
    url: String,
    _tasks: JoinSet<()>,
}

impl Tap {
    /// `tell` is called before a packet is passed on.
    pub(crate) async fn start(broker: &Mosquitto, tell: impl Fn(Packet) + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap());
        let port = broker.port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut links = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let broker = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                client.set_nodelay(true).unwrap();
                broker.set_nodelay(true).unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_broker, to_broker) = broker.into_split();
                let out = tell.clone();
                links.spawn(pass(from_client, to_broker, move |first, body| {
                    match first & 0xf0 {
                        packet::PUBACK => out(Packet::Puback(leading_id(body))),
                        packet::PUBREC => out(Packet::Pubrec(leading_id(body))),
                        packet::PUBCOMP => out(Packet::Pubcomp(leading_id(body))),
                        _ => {}
                    };
                }));
                let back = tell.clone();
                links.spawn(pass(from_broker, to_client, move |first, body| {
                    match first & 0xf0 {
                        packet::PUBLISH => back(Packet::Publish(parse_publish(first, body))),
                        packet::PUBREL => back(Packet::Pubrel(leading_id(body))),
                        _ => {}
                    };
                }));
            }
        });
        Self { url, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Passes on whole packets until the end. Whoever is at the other end may go first.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, tell: impl Fn(u8, &[u8])) {
    let mut bytes = Vec::new();
    while let Ok(1..) = from.read_buf(&mut bytes).await {
        let mut passed = 0;
        while let Some((head, length)) = frame(&bytes[passed..]) {
            let body = passed + head;
            tell(bytes[passed], &bytes[body..body + length]);
            passed = body + length;
        }
        if to.write_all(&bytes[..passed]).await.is_err() {
            return;
        }
        bytes.drain(..passed);
    }
}

/// The lengths of the fixed header and of what follows it, of a packet that is there as a whole
/// (MQTT 3.1.1 section 2.2.3).
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return (bytes.len() > at + length).then_some((at + 1, length));
        }
    }
    None
}

#[test]
fn only_whole_packets_pass() {
    let bytes = packet::publish("t", &[0; 200], 0, None, false, false);
    assert_eq!(frame(&bytes), Some((3, 203)));
    assert_eq!((frame(&bytes[..2]), frame(&bytes[..205])), (None, None));
    assert_eq!(frame(&packet::pingresp()), Some((2, 0)));
}
