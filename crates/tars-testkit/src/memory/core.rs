//! The client's half of a connection, as plain state behind a lock: what was taken
//! over, what is in flight, what is to be acknowledged. The handle puts things in, the
//! driver takes them out; neither holds the lock across an await.
//!
//! Invariant: a message that was taken over is in `outbox` or in `inflight` until its
//! receipt settles, and [`Inner::end`] empties both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tars_contracts::TopicFilter;
use tars_ports::{
    AckSequencer, Activity, ConnectOptions, EndReason, Ended, Error, ErrorKind, Fate, Message, OutboundQos2, QoS,
    Receipt, Refused, SessionState, Settler,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::packet::Packet;

/// QoS 0 messages that were taken over and not written.
const QOS0_OUTBOX: usize = 1024;

pub(super) struct Core {
    inner: Mutex<Inner>,
    /// Wakes the driver: something was put in, or something came over the link.
    pub(super) wake: Arc<Notify>,
    /// Wakes those who wait on the handle: there is room, or the end.
    pub(super) progress: Notify,
    pub(super) limits: Limits,
}

/// What of the connect options holds on during the connection.
pub(super) struct Limits {
    pub(super) timeout: Duration,
    pub(super) keep_alive: Duration,
    pub(super) max_packet_size: usize,
    max_inflight: usize,
    max_inflight_qos2: usize,
    inbound_messages: usize,
    inbound_bytes: usize,
}

/// How the user wants the connection to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Stay,
    Disconnect { deadline: Instant },
    Close,
}

pub(super) struct Inner {
    pub(super) wish: Wish,
    pub(super) ended: Option<EndReason>,
    pub(super) sequencer: AckSequencer,
    pub(super) activity: Activity,
    /// Acknowledgements and the like: they overtake waiting publishes.
    pub(super) control: VecDeque<Packet>,
    answers: BTreeMap<u16, Answer>,
    /// In the order of the calls, so that a SUBSCRIBE does not overtake a publish.
    outbox: VecDeque<Outgoing>,
    /// Messages in `outbox`: QoS 0, and QoS 1/2.
    waiting: [usize; 2],
    inflight: VecDeque<Inflight>,
    /// QoS 2 messages that were acknowledged with PUBREC and not released.
    received: BTreeSet<u16>,
    last_id: u16,
}

pub(super) enum Request {
    Subscribe(Vec<(TopicFilter, QoS)>, oneshot::Sender<Vec<Result<QoS, Refused>>>),
    Unsubscribe(Vec<TopicFilter>, oneshot::Sender<()>),
}

enum Answer {
    Subscribed(oneshot::Sender<Vec<Result<QoS, Refused>>>),
    Unsubscribed(oneshot::Sender<()>),
}

enum Outgoing {
    /// QoS 0, which has settled already.
    Unacknowledged(Message),
    Acknowledged(Message, Settler),
    Request(Request),
}

struct Inflight {
    id: u16,
    released: bool,
    message: Message,
    settler: Settler,
}

impl Core {
    /// The state at CONNACK. With `resume`, its QoS 2 flows go on before anything else
    /// is sent; their keys and receipts come back.
    pub(super) fn new(
        link: u64,
        options: &ConnectOptions,
        wake: Arc<Notify>,
        resume: Option<SessionState>,
    ) -> (Self, Vec<(u64, Receipt)>) {
        let resume = resume.unwrap_or_default();
        let mut inflight = VecDeque::new();
        let mut control = VecDeque::new();
        let mut receipts = Vec::new();
        for OutboundQos2 {
            packet_id,
            released,
            message,
            ..
        } in resume.outbound
        {
            control.push_back(match released {
                true => Packet::Pubrel(packet_id),
                false => Packet::Publish {
                    id: packet_id,
                    dup: true,
                    message: message.clone(),
                },
            });
            let (settler, receipt) = Receipt::pair();
            receipts.push((message.key, receipt));
            inflight.push_back(Inflight {
                id: packet_id,
                released,
                message,
                settler,
            });
        }
        let inner = Inner {
            wish: Wish::Stay,
            ended: None,
            sequencer: AckSequencer::new(link),
            activity: Activity::default(),
            control,
            answers: BTreeMap::new(),
            outbox: VecDeque::new(),
            waiting: [0, 0],
            inflight,
            received: resume.inbound.into_iter().collect(),
            last_id: 0,
        };
        let core = Self {
            inner: Mutex::new(inner),
            wake,
            progress: Notify::new(),
            limits: Limits {
                timeout: options.timeout,
                keep_alive: options.keep_alive,
                max_packet_size: options.max_packet_size,
                max_inflight: usize::from(options.max_inflight.max(1)),
                max_inflight_qos2: usize::from(options.max_inflight_qos2.max(1)),
                inbound_messages: options.inbound_messages.max(1),
                inbound_bytes: options.inbound_bytes,
            },
        };
        (core, receipts)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code of a caller runs under the lock, and the state is never left half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limits {
    /// Whether one more message of this QoS may be taken over.
    pub(super) fn has_room(&self, inner: &Inner, qos: QoS) -> bool {
        match qos {
            QoS::AtMostOnce => inner.waiting[0] < QOS0_OUTBOX,
            _ => inner.inflight.len() + inner.waiting[1] < self.max_inflight,
        }
    }

    /// Whether the inbound budget is used up.
    pub(super) fn over_budget(&self, inner: &Inner) -> bool {
        let messages = inner.sequencer.unacknowledged();
        // One message always fits, however large.
        messages >= self.inbound_messages
            || messages > 0 && inner.sequencer.unacknowledged_bytes() >= self.inbound_bytes
    }
}

impl Inner {
    /// Why no call succeeds any more, if so.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.wish == Wish::Stay && self.ended.is_none() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotConnected, "the connection has ended"))
    }

    pub(super) fn push(&mut self, message: Message) -> Receipt {
        if message.qos == QoS::AtMostOnce {
            self.waiting[0] += 1;
            self.outbox.push_back(Outgoing::Unacknowledged(message));
            return Receipt::settled();
        }
        let (settler, receipt) = Receipt::pair();
        self.waiting[1] += 1;
        self.outbox.push_back(Outgoing::Acknowledged(message, settler));
        receipt
    }

    pub(super) fn ask(&mut self, request: Request) {
        self.outbox.push_back(Outgoing::Request(request));
    }

    /// At most `room` packets to write, in the order in which they may leave. With
    /// `all`, the QoS 2 window does not hold back: the end waits for no answer.
    pub(super) fn take_writes(&mut self, room: usize, limits: &Limits, all: bool) -> Vec<Packet> {
        let mut packets = Vec::new();
        while packets.len() < room {
            let Some(packet) = self.control.pop_front() else { break };
            packets.push(packet);
        }
        let mut qos2 = self.inflight_qos2();
        let mut held_back = VecDeque::new();
        while packets.len() < room {
            let Some(outgoing) = self.outbox.pop_front() else { break };
            match outgoing {
                Outgoing::Acknowledged(message, settler) if message.qos == QoS::ExactlyOnce => {
                    // Held back, it does not hold others back: order counts within a QoS.
                    if qos2 >= limits.max_inflight_qos2 && !all {
                        held_back.push_back(Outgoing::Acknowledged(message, settler));
                    } else {
                        qos2 += 1;
                        packets.push(self.take_off(message, settler));
                    }
                }
                Outgoing::Acknowledged(message, settler) => packets.push(self.take_off(message, settler)),
                Outgoing::Unacknowledged(message) => {
                    self.waiting[0] -= 1;
                    packets.push(Packet::Publish {
                        id: 0,
                        dup: false,
                        message,
                    });
                }
                Outgoing::Request(request) => packets.push(self.send_off(request)),
            }
        }
        held_back.append(&mut self.outbox);
        self.outbox = held_back;
        packets
    }

    /// A QoS 1/2 message goes from the outbox into flight.
    fn take_off(&mut self, message: Message, settler: Settler) -> Packet {
        self.waiting[1] -= 1;
        let id = self.fresh_id();
        self.inflight.push_back(Inflight {
            id,
            released: false,
            message: message.clone(),
            settler,
        });
        Packet::Publish {
            id,
            dup: false,
            message,
        }
    }

    fn send_off(&mut self, request: Request) -> Packet {
        let id = self.fresh_id();
        match request {
            Request::Subscribe(filters, answer) => {
                self.answers.insert(id, Answer::Subscribed(answer));
                Packet::Subscribe { id, filters }
            }
            Request::Unsubscribe(filters, answer) => {
                self.answers.insert(id, Answer::Unsubscribed(answer));
                Packet::Unsubscribe { id, filters }
            }
        }
    }

    /// Nothing is left that [`take_writes`](Self::take_writes) with `all` would take.
    pub(super) fn all_written(&self) -> bool {
        self.control.is_empty() && self.outbox.is_empty()
    }

    /// PUBACK or PUBCOMP. What is to be settled, without the lock.
    pub(super) fn land(&mut self, id: u16) -> Option<Settler> {
        let at = self.inflight.iter().position(|flight| flight.id == id)?;
        Some(self.inflight.remove(at)?.settler)
    }

    /// PUBREC: answered with PUBREL, be the id known or not.
    pub(super) fn release(&mut self, id: u16) {
        if let Some(flight) = self.inflight.iter_mut().find(|flight| flight.id == id) {
            flight.released = true;
        }
        self.control.push_back(Packet::Pubrel(id));
    }

    /// A QoS 2 message came in: whether it is the one that was acknowledged before.
    pub(super) fn is_repeated(&mut self, id: u16) -> bool {
        let repeated = self.received.contains(&id);
        if repeated {
            self.control.push_back(Packet::Pubrec(id));
        }
        repeated
    }

    /// Acknowledges, and for QoS 2 remembers the id until PUBREL.
    pub(super) fn acknowledge(&mut self, id: u16, qos: QoS) {
        if qos == QoS::ExactlyOnce {
            self.received.insert(id);
            self.control.push_back(Packet::Pubrec(id));
        } else {
            self.control.push_back(Packet::Puback(id));
        }
    }

    /// PUBREL.
    pub(super) fn released(&mut self, id: u16) {
        self.received.remove(&id);
        self.control.push_back(Packet::Pubcomp(id));
    }

    pub(super) fn answered(&mut self, id: u16, results: Vec<Result<QoS, Refused>>) {
        // Who gave up waiting is no failure.
        match self.answers.remove(&id) {
            Some(Answer::Subscribed(answer)) => drop(answer.send(results)),
            Some(Answer::Unsubscribed(answer)) => drop(answer.send(())),
            None => {}
        }
    }

    /// The end: fails every request, and says what goes on, and what is to be settled without the lock.
    pub(super) fn end(&mut self, reason: EndReason) -> (Ended, Vec<(Settler, Error)>) {
        self.ended = Some(reason.clone());
        self.activity.reading_paused = false;
        let why = |fate| {
            let text = match &reason {
                EndReason::Lost(error) => error.to_string(),
                _ => "the connection was closed".to_owned(),
            };
            Error::new(ErrorKind::ConnectionLost, text).with_fate(fate)
        };
        let mut ended = Ended::new(reason.clone());
        let mut unsettled = Vec::new();
        for flight in self.inflight.drain(..) {
            unsettled.push((flight.settler, why(Fate::Unknown)));
            if flight.message.qos == QoS::ExactlyOnce {
                let outbound = OutboundQos2::new(flight.id, flight.released, flight.message);
                ended.session.outbound.push(outbound);
            }
        }
        for outgoing in self.outbox.drain(..) {
            match outgoing {
                Outgoing::Acknowledged(_, settler) => unsettled.push((settler, why(Fate::NotSent))),
                Outgoing::Unacknowledged(_) => ended.unsent += 1,
                // Dropping its sender tells the caller.
                Outgoing::Request(_) => {}
            }
        }
        self.waiting = [0, 0];
        ended.session.inbound = self.received.iter().copied().collect();
        self.answers.clear();
        self.control.clear();
        (ended, unsettled)
    }

    fn inflight_qos2(&self) -> usize {
        let qos2 = |flight: &&Inflight| flight.message.qos == QoS::ExactlyOnce;
        self.inflight.iter().filter(qos2).count()
    }

    fn fresh_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            if !self.answers.contains_key(&id) && self.inflight.iter().all(|flight| flight.id != id) {
                return id;
            }
        }
    }
}
