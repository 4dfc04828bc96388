//! What a test does to the broker and to its links: at once, or (`script`) at a packet.

use tars_ports::{Message, Refusal};

use super::MemoryBroker;
use super::script::Fault;
use super::state::State;

impl MemoryBroker {
    /// The broker goes away, as if killed: all links end with
    /// [`ConnectionLost`](tars_ports::ErrorKind::ConnectionLost), no will speaks,
    /// connecting fails with [`Unreachable`](tars_ports::ErrorKind::Unreachable).
    /// Persistent sessions and retained messages are kept for [`start`](Self::start).
    pub fn stop(&self) {
        self.shared.change(State::stop);
    }

    /// The broker comes back. Without [`stop`](Self::stop) before, nothing changes.
    pub fn start(&self) {
        self.shared.change(|state| state.stopped = false);
    }

    /// Stops and starts. With `keep_sessions` as a broker with persistence; without,
    /// sessions and retained messages are gone.
    pub fn restart(&self, keep_sessions: bool) {
        self.shared.change(|state| {
            state.stop();
            if !keep_sessions {
                state.sessions.clear();
                state.retained.clear();
                state.share_turns.clear();
            }
            state.stopped = false;
        });
    }

    /// Cuts the link of this client: what was under way is lost, the will speaks.
    /// `false` where there is no such client.
    pub fn cut(&self, client_id: &str) -> bool {
        self.shared.change(|state| {
            let link = state.sessions.get(client_id).and_then(|session| session.link);
            if let Some(link) = link {
                state.end_link(link, "the link was cut", true);
            }
            link.is_some()
        })
    }

    /// The broker hangs: it takes bytes (up to some 4,000 packets a client) and
    /// answers nothing, delivers nothing, accepts nobody. A connection attempt ends by
    /// its timeout, and a connection by its keepalive.
    pub fn freeze(&self) {
        self.shared.change(|state| state.frozen = true);
    }

    /// The broker goes on, with all that was sent to it meanwhile.
    pub fn thaw(&self) {
        self.shared.change(|state| {
            state.frozen = false;
            state.catch_up();
        });
    }

    /// Refuses everybody who connects, or (`None`) nobody any more.
    pub fn refuse_connects(&self, refusal: impl Into<Option<Refusal>>) {
        let refusal = refusal.into();
        self.shared.change(|state| state.refuse_connects = refusal);
    }

    /// Answers SUBSCRIBE to exactly this filter with 0x80.
    pub fn refuse_filter(&self, filter: impl AsRef<str>) {
        let filter = filter.as_ref().to_owned();
        self.shared.change(|state| state.refused_filters.insert(filter));
    }

    /// Grants a filter again that was refused.
    pub fn allow_filter(&self, filter: impl AsRef<str>) {
        self.shared
            .change(|state| state.refused_filters.remove(filter.as_ref()));
    }

    /// Accepts every connection and drops it at once, as a broker behind a broken load
    /// balancer does.
    pub fn accept_then_drop(&self, on: bool) {
        self.shared.change(|state| state.accept_then_drop = on);
    }

    /// Lets this go wrong, once, with the packet that the [`Fault`] waits for. Those that
    /// wait at the same time do not know of each other.
    ///
    /// ```
    /// use tars_testkit::memory::{Fault, Faults, MemoryBroker, PacketKind, Way};
    ///
    /// let broker = MemoryBroker::new();
    /// // The broker has the message, and the publisher never hears of it.
    /// broker.inject(Fault::cut_before(PacketKind::Puback).of("stt").on_way(Way::ToClient).nth(3));
    /// // Whatever comes, the same each time.
    /// Faults::seeded(7).take(5).for_each(|fault| broker.inject(fault));
    /// assert_eq!(broker.waiting_faults(), 6);
    /// ```
    pub fn inject(&self, fault: Fault) {
        self.shared.change(|state| state.script.add(fault));
    }

    /// Faults that have not happened yet.
    #[must_use]
    pub fn waiting_faults(&self) -> usize {
        self.shared.look(|state| state.script.len())
    }

    /// Takes back those that have not happened yet.
    pub fn clear_faults(&self) {
        self.shared.change(|state| state.script.clear());
    }

    /// Publishes as the broker itself.
    pub fn publish(&self, message: Message) {
        self.shared.change(|state| state.publish(None, message));
    }
}
