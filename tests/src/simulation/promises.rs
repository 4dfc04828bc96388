//! What must hold after a schedule, and what each of its steps takes from that.
//!
//! | promise | holds |
//! |---|---|
//! | a publish that returned `Ok` is at the broker | always |
//! | one that says it was not sent is not | always |
//! | a QoS 2 publish is there once | by a publisher that lives on, with a session that is kept and not forgotten |
//! | what is at the broker is handled by every subscription | with sessions that are kept: but for what a broker forgot ([`Step::Forget`]). On a clean session: if no link ends |
//! | what came to `sub` is handled by every subscription, QoS 0 too | on a clean session, and on a kept one that no broker forgets: since the present process began, or came back ([`Step::PauseSubscriber`]) |
//! | the last publish, after everything, is handled | always: so subscriptions are restored |
//! | once | without deduplication: if no link ends; with it: by a process that lives on |
//! | once in a connection: what waited when a link ended is left to come again | where the broker sends one copy, and took the message in once; a run began with its first try |
//! | publishes of one QoS in their order | with one worker for each subscription |
//! | an orderly end cuts nothing off before its deadline | always |
//! | bounds: workers, the broker's window, the outbox | always |
//! | nothing is left unacknowledged or unsettled, and no task | always |
//! | the last health is `shutdown` | always |
//! | no two waits before a reconnect are the same | always: else a fleet returns as one |
//!
//! [`Step::Forget`]: super::Step::Forget
//! [`Step::PauseSubscriber`]: super::Step::PauseSubscriber

use std::collections::{BTreeMap, BTreeSet};

use tars_mqtt::{LifecycleEvent, QoS};
use tars_testkit::memory::{PacketKind, Way};
use tokio::time::Instant;

use super::clients::{SUBSCRIPTIONS, number};
use super::world::{Outcome, World};

impl World<'_> {
    /// What every subscription has to have handled in the end.
    pub(super) fn due(&self, outcome: &Outcome) -> BTreeSet<u64> {
        let mut due = BTreeSet::new();
        let forgets = self.forgotten > 0;
        if !self.schedule.clean || self.schedule.is_quiet() {
            let kept = self.broker.published().into_iter().skip(self.forgotten);
            let kept = kept.filter_map(|message| number(&message));
            due.extend(kept.filter(|n| outcome.accepted.contains(n)));
        }
        if self.schedule.clean || !forgets {
            let packets = self.broker.packets().into_iter().skip(self.since);
            let came = packets.filter(|packet| packet.way == Way::ToClient && packet.kind == PacketKind::Publish);
            due.extend(came.filter_map(|packet| number(&packet.message?)));
        }
        due
    }

    pub(super) fn check(&mut self, outcome: &Outcome, due: &BTreeSet<u64>) {
        let sent: BTreeMap<u64, QoS> = self
            .broker
            .published()
            .iter()
            .filter_map(|message| Some((number(message)?, message.qos)))
            .collect();
        if let Some(n) = outcome.accepted.iter().find(|n| !sent.contains_key(n)) {
            self.problem(format!("publish {n} returned Ok and never reached the broker"));
        }
        if let Some(n) = outcome.not_sent.iter().find(|n| sent.contains_key(n)) {
            self.problem(format!("publish {n} was not sent, it said, and reached the broker"));
        }
        let once = self.schedule.is_quiet() || self.schedule.dedupe && !self.schedule.renews_subscriber();
        for name in SUBSCRIPTIONS {
            let counts = self.ledger.counts(name);
            if let Some(n) = due.iter().find(|n| !counts.contains_key(n)) {
                self.problem(format!("{n} was never handled by {name}"));
            }
            if once && let Some((n, times)) = counts.iter().find(|(_, times)| **times > 1) {
                self.problem(format!("{n} was handled {times} times by {name}"));
            }
            let most = self.ledger.most_at_once(name);
            if most > self.schedule.concurrency {
                self.problem(format!("{name} ran {most} at once"));
            }
            if self.schedule.concurrency == 1 {
                self.check_order(name, &sent);
            }
        }
        self.check_connections();
        self.check_exactly_once();
        let backlog = self.broker.backlog("sub");
        if backlog != (0, 0) {
            self.problem(format!("{backlog:?} messages were left unacknowledged"));
        }
    }

    fn check_order(&mut self, name: &str, sent: &BTreeMap<u64, QoS>) {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut order = self.ledger.order(name);
            order.retain(|n| sent.get(n) == Some(&qos));
            if !order.is_sorted() {
                self.problem(format!("{name} handled QoS {qos} in the order {order:?}"));
            }
        }
    }

    /// How often the broker took each number in, of one QoS or of all.
    fn times_sent(&self, qos: Option<QoS>) -> BTreeMap<u64, usize> {
        let mut times = BTreeMap::new();
        let published = self.broker.published();
        let wanted = published
            .iter()
            .filter(|message| qos.is_none_or(|qos| message.qos == qos));
        for n in wanted.filter_map(number) {
            *times.entry(n).or_default() += 1;
        }
        times
    }

    fn check_exactly_once(&mut self) {
        if self.schedule.clean || self.schedule.renews_publisher() || self.forgotten > 0 {
            return;
        }
        let times = self.times_sent(Some(QoS::ExactlyOnce));
        if let Some((n, times)) = times.into_iter().find(|(_, times)| *times > 1) {
            self.problem(format!("{n}, of QoS 2, came to the broker {times} times"));
        }
    }

    /// Between two runs for one message there is a new connection of `sub`.
    fn check_connections(&mut self) {
        if !self.schedule.sends_once() {
            return;
        }
        let times = self.times_sent(None);
        let packets = self.broker.packets().into_iter();
        let connections = packets.filter(|packet| packet.kind == PacketKind::Connack && packet.client_id == "sub");
        let began: Vec<_> = connections.map(|packet| packet.at).collect();
        for name in SUBSCRIPTIONS {
            let mut runs = self.ledger.runs(name);
            runs.retain(|n, _| times.get(n) == Some(&1));
            let twice = runs.into_iter().find(|(_, runs)| {
                let same = |pair: &[Instant]| !began.iter().any(|at| (pair[0]..=pair[1]).contains(at));
                runs.windows(2).any(same)
            });
            if let Some((n, _)) = twice {
                self.problem(format!("{n} was handled twice by {name} in one connection"));
            }
        }
    }

    /// Two clients never wait for the same time: chance sees to that.
    pub(super) fn check_delays(&mut self) {
        let delays = self.events.iter().filter_map(|(_, event)| match event {
            LifecycleEvent::ReconnectScheduled { delay, .. } => Some(*delay),
            _ => None,
        });
        let mut delays: Vec<_> = delays.collect();
        delays.sort();
        if let Some(same) = delays.windows(2).find(|pair| pair[0] == pair[1]) {
            self.problem(format!("two reconnects waited for {:?}", same[0]));
        }
    }

    fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }
}
