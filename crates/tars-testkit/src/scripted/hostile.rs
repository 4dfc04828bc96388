//! A broker that misbehaves: what it can do to a client, one [`Attack`] at a time, and what a
//! client owes to each. For every adapter, and for what stands above one.
//!
//! Each attack ends in a connection that is over with a reason, or in one that works as before.
//! In between nothing may panic, hang, or grow with what the broker claims.

use std::sync::Arc;
use std::time::Duration;

use tars_ports::{ConnectOptions, Connected, Connector, EndReason, ErrorKind, Inbound, Incoming, SessionState};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{PATIENCE, ScriptedBroker, ScriptedPeer, packet};

/// The packet limit that the attacks are made for, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// The time for an attempt that the attacks are made for.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How many attacks go on at one time.
const AT_ONCE: usize = 4;

/// One way to misbehave.
#[derive(Debug, Clone)]
pub struct Attack {
    /// What the broker does, in a few words.
    pub name: &'static str,
    /// In place of CONNACK; else on a connection that it accepted.
    pub in_place_of_connack: bool,
    /// What the client owes to it.
    pub outcome: Outcome,
    steps: Vec<Step>,
}

/// What has to become of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The attempt, or the connection, ends with an error of one of these kinds.
    Ends(&'static [ErrorKind]),
    /// Nothing: the connection works on.
    LivesOn,
}

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    Close,
    Reset,
}

const PROTOCOL: Outcome = Outcome::Ends(&[ErrorKind::Protocol]);
const TOO_LARGE: Outcome = Outcome::Ends(&[ErrorKind::TooLarge]);
const LOST: Outcome = Outcome::Ends(&[ErrorKind::ConnectionLost]);
const TIMEOUT: Outcome = Outcome::Ends(&[ErrorKind::Timeout]);
/// Bytes that mean nothing may look like the beginning of something.
const SOMEHOW: Outcome = Outcome::Ends(&[ErrorKind::Protocol, ErrorKind::TooLarge, ErrorKind::ConnectionLost]);

impl Attack {
    fn new(name: &'static str, outcome: Outcome, steps: Vec<Step>) -> Self {
        Self {
            name,
            in_place_of_connack: false,
            outcome,
            steps,
        }
    }

    fn in_place_of_connack(mut self) -> Self {
        self.in_place_of_connack = true;
        self
    }

    /// Does it to a client: to one whose CONNECT was read, or that was accepted. Returns the
    /// connection, unless it was closed.
    pub async fn perform(&self, mut peer: ScriptedPeer) -> Option<ScriptedPeer> {
        for step in &self.steps {
            match step {
                Step::Send(bytes) => {
                    // The client may be gone: that is what it is about.
                    if !peer.try_send(bytes).await {
                        break;
                    }
                }
                Step::Wait(time) => sleep(*time).await,
                Step::Close => return None,
                Step::Reset => {
                    peer.reset();
                    return None;
                }
            }
        }
        Some(peer)
    }
}

/// All of them.
#[must_use]
pub fn attacks() -> Vec<Attack> {
    let mut attacks = before_connack();
    attacks.extend(malformed());
    attacks.extend(out_of_place());
    attacks.extend(cut_short());
    attacks
}

fn send(name: &'static str, outcome: Outcome, bytes: impl Into<Vec<u8>>) -> Attack {
    Attack::new(name, outcome, vec![Step::Send(bytes.into())])
}

fn before_connack() -> Vec<Attack> {
    let slowly = packet::connack(false, 0).into_iter();
    let slowly = slowly.flat_map(|byte| [Step::Send(vec![byte]), Step::Wait(CONNECT_TIMEOUT / 2)]);
    let attacks = vec![
        send("HTTP for CONNACK", PROTOCOL, &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]),
        send(
            "a TLS alert for CONNACK",
            PROTOCOL,
            &b"\x15\x03\x01\x00\x02\x02\x46"[..],
        ),
        send("another packet for CONNACK", PROTOCOL, packet::suback(1, &[0])),
        send("a CONNACK without a code", PROTOCOL, packet::raw(packet::CONNACK, &[0])),
        send("a CONNACK that claims 256 MiB", PROTOCOL, &b"\x20\xff\xff\xff\x7f"[..]),
        send(
            "a CONNACK of malformed length",
            PROTOCOL,
            &b"\x20\xff\xff\xff\xff\x01"[..],
        ),
        send("silence after half a CONNACK", TIMEOUT, &packet::connack(false, 0)[..3]),
        Attack::new("silence for CONNACK", TIMEOUT, Vec::new()),
        Attack::new("a CONNACK byte by byte, too slow", TIMEOUT, slowly.collect()),
        Attack::new("an end for CONNACK", LOST, vec![Step::Close]),
        Attack::new("a reset for CONNACK", LOST, vec![Step::Reset]),
        Attack::new(
            "an end inside CONNACK",
            LOST,
            vec![Step::Send(packet::connack(false, 0)[..3].to_vec()), Step::Close],
        ),
    ];
    attacks.into_iter().map(Attack::in_place_of_connack).collect()
}

fn malformed() -> Vec<Attack> {
    let publish = |topic: &str, qos, id| packet::publish(topic, b"x", qos, id, false, false);
    let random = {
        let mut random = fastrand::Rng::with_seed(6);
        (0..LIMIT).map(|_| random.u8(..)).collect()
    };
    vec![
        send("zeros", PROTOCOL, [0; 64]),
        Attack::new("random bytes", SOMEHOW, vec![Step::Send(random), Step::Close]),
        send(
            "a remaining length of five bytes",
            PROTOCOL,
            &b"\x30\xff\xff\xff\xff\x01"[..],
        ),
        send("a packet that claims 256 MiB", TOO_LARGE, &b"\x30\xff\xff\xff\x7f"[..]),
        send(
            "a PUBLISH above the limit",
            TOO_LARGE,
            packet::publish("a", &[0; LIMIT], 1, Some(1), false, false),
        ),
        send("a PUBLISH to a wildcard", PROTOCOL, publish("a/#", 0, None)),
        send("a PUBLISH to no topic", PROTOCOL, publish("", 0, None)),
        send("a PUBLISH to a topic with U+0000", PROTOCOL, publish("a\0", 1, Some(1))),
        send(
            "a PUBLISH to a topic that is not UTF-8",
            PROTOCOL,
            packet::raw(0x30, &[0, 2, 0xc3, 0x28]),
        ),
        send(
            "a PUBLISH shorter than its topic",
            PROTOCOL,
            packet::raw(0x30, &[0, 9, b'a']),
        ),
        send("a PUBLISH with QoS 3", PROTOCOL, publish("a", 3, Some(1))),
        send("a PUBLISH with packet id 0", PROTOCOL, publish("a", 1, Some(0))),
        send(
            "a PUBLISH without its packet id",
            PROTOCOL,
            packet::raw(0x32, &[0, 1, b'a', 0]),
        ),
        send("a PUBACK without an id", PROTOCOL, packet::raw(packet::PUBACK, &[])),
        send("a packet of type 0", PROTOCOL, [0x00, 0x00]),
        send("a packet of type 15", PROTOCOL, [0xf0, 0x00]),
    ]
}

fn out_of_place() -> Vec<Attack> {
    let acks = |id| {
        let acks = [
            packet::puback(id),
            packet::pubrec(id),
            packet::pubrel(id),
            packet::pubcomp(id),
            packet::suback(id, &[1, 0x80]),
            packet::unsuback(id),
        ];
        acks.concat()
    };
    let slowly = packet::publish("slow", b"byte by byte", 0, None, false, false).into_iter();
    let slowly = slowly.flat_map(|byte| [Step::Send(vec![byte]), Step::Wait(Duration::from_millis(5))]);
    vec![
        send("a second CONNACK", PROTOCOL, packet::connack(false, 0)),
        send(
            "a CONNECT",
            PROTOCOL,
            packet::raw(packet::CONNECT, b"\0\x04MQTT\x04\x02\0\x3c\0\x01c"),
        ),
        send(
            "a SUBSCRIBE",
            PROTOCOL,
            packet::raw(packet::SUBSCRIBE | 2, &[0, 1, 0, 1, b'a', 0]),
        ),
        send(
            "an UNSUBSCRIBE",
            PROTOCOL,
            packet::raw(packet::UNSUBSCRIBE | 2, &[0, 1, 0, 1, b'a']),
        ),
        send("a PINGREQ", PROTOCOL, packet::raw(packet::PINGREQ, &[])),
        send("a DISCONNECT", PROTOCOL, packet::raw(packet::DISCONNECT, &[])),
        send("answers to nothing", Outcome::LivesOn, acks(7)),
        send("answers to nothing, with packet id 0", Outcome::LivesOn, acks(0)),
        send(
            "a SUBACK to nothing with 60,000 codes",
            Outcome::LivesOn,
            packet::suback(9, &[0; 60_000]),
        ),
        send("30,000 answers to nothing", Outcome::LivesOn, acks(7).repeat(5_000)),
        send("10,000 PINGRESP", Outcome::LivesOn, packet::pingresp().repeat(10_000)),
        Attack::new("a packet byte by byte", Outcome::LivesOn, slowly.collect()),
    ]
}

fn cut_short() -> Vec<Attack> {
    let large = packet::publish("topic", &[0; LIMIT / 2], 1, Some(1), false, false);
    // First byte, length, length of the topic, topic, packet id, payload.
    let cut = |name, at: usize, step| Attack::new(name, LOST, vec![Step::Send(large[..at].to_vec()), step]);
    vec![
        Attack::new("an end", LOST, vec![Step::Close]),
        Attack::new("a reset", LOST, vec![Step::Reset]),
        cut("an end behind the first byte", 1, Step::Close),
        cut("an end inside the remaining length", 2, Step::Close),
        cut("an end inside the topic", 8, Step::Close),
        cut("an end inside the packet id", 12, Step::Close),
        cut("an end inside the payload", 1_000, Step::Close),
        cut("a reset inside the payload", 20_000, Step::Reset),
        cut("silence inside a packet", 20_000, Step::Wait(Duration::ZERO)),
    ]
}

/// Does one attack to a client of this connector, and checks that it has the outcome that it
/// must. Returns what the client said, or that it lived on.
///
/// # Errors
/// What happened instead.
///
/// # Panics
/// When something takes longer than [`PATIENCE`].
pub async fn check(connector: &dyn Connector, attack: &Attack) -> Result<String, String> {
    let broker = ScriptedBroker::start().await;
    let mut options = ConnectOptions::new("127.0.0.1", broker.port(), "client");
    options.timeout = CONNECT_TIMEOUT;
    options.keep_alive = Duration::from_secs(1);
    options.max_packet_size = LIMIT;
    let attacked = async {
        let mut peer = broker.accept().await;
        if attack.in_place_of_connack {
            peer.expect(packet::CONNECT).await;
        } else {
            peer.expect_connect_and_accept(false).await;
        }
        attack.perform(peer).await
    };
    let client = async {
        let connected = connector.connect(&options, SessionState::new()).await;
        match (connected, attack.in_place_of_connack) {
            (Err(error), true) => Err((error.kind(), error.to_string())),
            (Err(error), false) => Err((ErrorKind::Internal, format!("it did not connect: {error}"))),
            (Ok(_), true) => Ok("it connected".to_owned()),
            (Ok(connected), false) => end_or_life(connected).await,
        }
    };
    let watched = async {
        let peer = attacked.await;
        // Proves that the connection is good, where it is.
        if let Some(mut peer) = peer {
            if attack.outcome == Outcome::LivesOn {
                peer.try_send(&packet::publish(ALIVE, b"", 0, None, false, false)).await;
            }
            while peer.next_packet().await.is_some() {}
        }
    };
    let (seen, ()) = tokio::join!(
        async {
            timeout(PATIENCE, client)
                .await
                .unwrap_or_else(|_| panic!("{}: nothing came of it", attack.name))
        },
        watched
    );
    match (attack.outcome, seen) {
        (Outcome::Ends(kinds), Err((kind, text))) if kinds.contains(&kind) => Ok(text),
        (Outcome::LivesOn, Ok(text)) => Ok(text),
        (expected, seen) => Err(format!("{}: awaited {expected:?}, got {seen:?}", attack.name)),
    }
}

/// The topic of the message that shows that a connection works.
const ALIVE: &str = "alive";

async fn end_or_life(mut connected: Connected) -> Result<String, (ErrorKind, String)> {
    loop {
        match next(&mut connected.inbound).await {
            Some(Incoming::Delivery(delivery)) if delivery.topic.as_str() == ALIVE => {
                return Ok("nothing: it works on".to_owned());
            }
            Some(Incoming::Ended(ended)) => {
                return Err(match ended.reason {
                    EndReason::Lost(error) => (error.kind(), error.to_string()),
                    other => (ErrorKind::Internal, format!("it ended as {other:?}")),
                });
            }
            Some(_) => {}
            None => return Err((ErrorKind::Internal, "the stream ended without an end".to_owned())),
        }
    }
}

async fn next(inbound: &mut Inbound) -> Option<Incoming> {
    std::future::poll_fn(|cx| inbound.as_mut().poll_next(cx)).await
}

/// Does every attack, each to a connection of its own, and prints what became of it.
///
/// # Panics
/// When one has not the outcome that it must, with all that have not.
pub async fn check_all(connector: Arc<dyn Connector>) {
    let mut wrong = Vec::new();
    for some in attacks().chunks(AT_ONCE) {
        let mut checks = JoinSet::new();
        for attack in some {
            let (connector, attack) = (Arc::clone(&connector), attack.clone());
            checks.spawn(async move { (attack.name, check(&*connector, &attack).await) });
        }
        for (name, outcome) in checks.join_all().await {
            match outcome {
                Ok(text) => println!("| {name} | {text} |"),
                Err(problem) => wrong.push(problem),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
