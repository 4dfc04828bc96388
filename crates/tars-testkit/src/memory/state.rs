//! Everything the broker knows, behind one lock, and the life of its links: connect,
//! look at what came, end. How packets pass is in `passage`, what they mean in
//! `protocol`, who gets what in `routing`.
//!
//! A link is a pair of queues. The client's task puts packets in and takes packets
//! out; it also is what makes the broker look at its packets (`pump`), so that the
//! broker needs no task of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tars_contracts::TopicFilter;
use tars_ports::{ConnectOptions, Error, ErrorKind, Message, QoS, Refusal};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::observe::Arrived;
use super::packet::{Packet, PacketKind, Way};
use super::passage::by_kind;
use super::script::{Effect, Moment, Script};
use super::session::Session;
use super::{Logged, OverlapMode};

/// Packets a client can write before the broker looks at them: the socket buffers.
const SOCKET_BUFFER: usize = 4096;

#[derive(Debug)]
pub(super) struct Config {
    pub(super) overlap: OverlapMode,
    pub(super) latency: Duration,
    pub(super) window: u16,
    pub(super) credentials: Option<(String, String)>,
    pub(super) record_packets: bool,
}

/// What tests can look at afterwards.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) log: VecDeque<Logged>,
    pub(super) attempts: BTreeMap<String, usize>,
    pub(super) connects: BTreeMap<String, usize>,
    pub(super) subscribes: BTreeMap<String, Vec<Vec<(TopicFilter, QoS)>>>,
    pub(super) dropped: u64,
    pub(super) arrived: VecDeque<Arrived>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) config: Config,
    pub(super) stopped: bool,
    pub(super) frozen: bool,
    pub(super) refuse_connects: Option<Refusal>,
    pub(super) refused_filters: BTreeSet<String>,
    pub(super) accept_then_drop: bool,
    pub(super) script: Script,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) links: BTreeMap<u64, Link>,
    pub(super) retained: BTreeMap<String, Message>,
    pub(super) share_turns: BTreeMap<String, usize>,
    pub(super) record: Record,
    last_link: u64,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) client_id: String,
    pub(super) will: Option<Message>,
    /// Wakes the client's task.
    pub(super) wake: Arc<Notify>,
    pub(super) to_broker: VecDeque<(Instant, Packet)>,
    pub(super) to_client: VecDeque<(Instant, Packet)>,
    /// QoS 0 messages in `to_client`.
    pub(super) qos0_waiting: usize,
    /// The client's end is closed; the broker has yet to see it.
    gone: bool,
    /// The broker's end is closed, or the link was cut; the client has yet to see it.
    lost: Option<Error>,
}

impl Link {
    /// Neither end is closed.
    pub(super) fn is_live(&self) -> bool {
        !self.gone && self.lost.is_none()
    }
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            config: Config {
                overlap: OverlapMode::OneCopy,
                latency: Duration::ZERO,
                window: 20,
                credentials: None,
                record_packets: false,
            },
            stopped: false,
            frozen: false,
            refuse_connects: None,
            refused_filters: BTreeSet::new(),
            accept_then_drop: false,
            script: Script::default(),
            sessions: BTreeMap::new(),
            links: BTreeMap::new(),
            retained: BTreeMap::new(),
            share_turns: BTreeMap::new(),
            record: Record::default(),
            last_link: 0,
        }
    }

    /// CONNECT to CONNACK: the link's number, and whether the session was there.
    pub(super) fn connect(
        &mut self,
        options: &ConnectOptions,
        credentials: Option<(&str, &str)>,
        wake: Arc<Notify>,
    ) -> Result<(u64, bool), Error> {
        let cut_short = || Err(Error::new(ErrorKind::ConnectionLost, "the link was cut before CONNACK"));
        let client_id = options.client_id.as_str();
        let connect = by_kind(client_id, PacketKind::Connect);
        let unanswered = match self.script.take(Moment::Arrives, &connect) {
            Some(Effect::CutBefore) => return cut_short(),
            cut => cut.is_some(),
        };
        self.note(client_id, Way::ToBroker, PacketKind::Connect, None);
        let scripted = match self.script.take(Moment::Judged, &connect) {
            Some(Effect::Refuse(refusal)) => Some(refusal),
            _ => self.refuse_connects,
        };
        let refusal = scripted.or_else(|| {
            if options.client_id.is_empty() {
                return Some(Refusal::ClientId);
            }
            let (user, password) = self.config.credentials.as_ref()?;
            (credentials != Some((user.as_str(), password.as_str()))).then_some(Refusal::BadCredentials)
        });
        if let Some(refusal) = refusal {
            let text = format!(
                "the in-memory broker refused client {:?}: {refusal:?}",
                options.client_id
            );
            return Err(Error::new(ErrorKind::Refused(refusal), text));
        }

        // The older connection of this client id goes first (section 3.1.4), and its
        // will speaks before the new one receives anything.
        if let Some(older) = self.sessions.get(&options.client_id).and_then(|session| session.link) {
            self.end_link(older, "another client took the client id over", true);
        }
        if options.clean_session {
            self.sessions.remove(&options.client_id);
        }
        let session_present = self.sessions.contains_key(&options.client_id);
        *self.record.connects.entry(options.client_id.clone()).or_default() += 1;

        self.last_link += 1;
        let link = self.last_link;
        self.links.insert(
            link,
            Link {
                client_id: options.client_id.clone(),
                will: options.last_will.clone(),
                wake,
                to_broker: VecDeque::new(),
                to_client: VecDeque::new(),
                qos0_waiting: 0,
                gone: false,
                lost: None,
            },
        );
        let session = self
            .sessions
            .entry(options.client_id.clone())
            .or_insert_with(|| Session::new(options.clean_session));
        session.clean = options.clean_session;
        session.link = Some(link);
        let mut packets = session.resend();
        packets.extend(session.fill(self.config.window));
        for packet in packets {
            self.send(link, packet);
        }
        let connack = match unanswered {
            true => Some(Effect::CutBefore),
            false => self
                .script
                .take(Moment::Arrives, &by_kind(client_id, PacketKind::Connack)),
        };
        if connack == Some(Effect::CutBefore) {
            self.end_link(link, "the link was cut before CONNACK", true);
            self.links.remove(&link);
            return cut_short();
        }
        self.note(client_id, Way::ToClient, PacketKind::Connack, None);
        if self.accept_then_drop || connack.is_some() {
            self.end_link(link, "the broker accepted the connection and dropped it", true);
        }
        Ok((link, session_present))
    }

    /// Packets the client may still write, or why the link is no more.
    pub(super) fn room(&self, link: u64) -> Result<usize, Error> {
        match self.links.get(&link) {
            Some(Link { lost: Some(error), .. }) => Err(error.clone()),
            Some(link) => Ok(SOCKET_BUFFER.saturating_sub(link.to_broker.len())),
            None => Err(Error::new(
                ErrorKind::Internal,
                "the in-memory broker does not know the link",
            )),
        }
    }

    /// The broker works on what has arrived from the client. Returns whether there was anything.
    pub(super) fn pump(&mut self, link: u64, now: Instant) -> bool {
        let mut any = false;
        while !self.frozen && !self.stopped {
            let Some(queue) = self.links.get_mut(&link).map(|link| &mut link.to_broker) else {
                break;
            };
            if queue.front().is_none_or(|(due, _)| *due > now) {
                break;
            }
            let Some((_, packet)) = queue.pop_front() else { break };
            any = true;
            self.take_in(link, packet);
        }
        any
    }

    /// When the next packet of the link arrives, at either end.
    pub(super) fn next_arrival(&self, link: u64, reading: bool) -> Option<Instant> {
        // A thaw wakes the client's task; until then nothing arrives.
        let link = self.links.get(&link).filter(|_| !self.frozen)?;
        let to_broker = link.to_broker.front();
        let to_client = link.to_client.front().filter(|_| reading);
        to_broker.into_iter().chain(to_client).map(|(due, _)| *due).min()
    }

    /// The client closed its end. What it wrote before still counts, as over TCP.
    pub(super) fn client_gone(&mut self, link: u64) {
        let Some(entry) = self.links.get_mut(&link) else { return };
        entry.gone = true;
        entry.to_client.clear();
        if entry.lost.is_some() {
            self.links.remove(&link);
        } else if !self.frozen {
            self.bury(link);
        }
    }

    /// After a thaw: what clients did meanwhile, those that left included.
    pub(super) fn catch_up(&mut self) {
        let gone: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.gone)
            .map(|(id, _)| *id)
            .collect();
        for link in gone {
            self.bury(link);
        }
        for link in self.links.values() {
            link.wake.notify_one();
        }
    }

    fn bury(&mut self, link: u64) {
        while let Some((_, packet)) = self.links.get_mut(&link).and_then(|link| link.to_broker.pop_front()) {
            self.take_in(link, packet);
        }
        self.end_link(link, "the client closed the connection", true);
        self.links.remove(&link);
    }

    /// The broker's end closes: what was under way is gone, and where DISCONNECT did
    /// not come before, the will speaks (section 3.1.2.5).
    pub(super) fn end_link(&mut self, link: u64, why: &'static str, will_speaks: bool) {
        let Some(entry) = self.links.get_mut(&link).filter(|link| link.lost.is_none()) else {
            return;
        };
        entry.lost = Some(Error::new(ErrorKind::ConnectionLost, why));
        entry.to_broker.clear();
        entry.to_client.clear();
        entry.qos0_waiting = 0;
        entry.wake.notify_one();
        let will = entry.will.take().filter(|_| will_speaks);
        let client_id = entry.client_id.clone();
        if let Some(session) = self.sessions.get_mut(&client_id) {
            session.link = None;
            if session.clean {
                self.sessions.remove(&client_id);
            }
        }
        if let Some(will) = will {
            self.publish(Some(&client_id), will);
        }
    }

    /// The broker goes away at once: no will speaks, sessions stay for a new start.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.frozen = false;
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.end_link(link, "the broker went away", false);
        }
        self.links.retain(|_, link| !link.gone);
    }
}
