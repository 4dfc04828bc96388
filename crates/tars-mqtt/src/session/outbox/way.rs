//! The way of a message to the live connection, and back to who waits for it.
//!
//! Whoever takes a message in hands it over himself, if nothing stands before it: no task in
//! between. One at a time does so, and takes along what others took in meanwhile; so the
//! order stays that of the numbers, and no lock is held while the connection works. What a
//! message came to is told inside of the connection's own work, which must not be called
//! back from there: if the window has opened, the session goes on.

use std::sync::Arc;

use tars_ports::{Connection, Error, ErrorKind, Message, QoS, Receipt, Settled, TryPublishError};

use super::{Outbox, State};

/// Unsettled QoS 2 publishes at one time; nothing passes them at the bound. See
/// [`ConnectOptions::max_inflight_qos2`](tars_ports::ConnectOptions): a Mosquitto with a
/// full window loses what comes next.
pub(crate) const MAX_INFLIGHT_QOS2: u16 = 10;

/// The way to one connection.
#[derive(Default)]
pub(super) struct Way {
    /// Counts the connections: what a former one still says changes nothing here.
    number: u64,
    /// Where to, while messages may go.
    connection: Option<Arc<dyn Connection>>,
    in_flight: usize,
    in_flight_qos2: usize,
    /// The connection had no room for a message of this QoS.
    blocked: Option<QoS>,
}

/// A message on its way.
#[derive(Clone, Copy)]
struct Flight {
    way: u64,
    sequence: u64,
    qos: QoS,
}

impl Way {
    fn next(&self) -> Self {
        Self {
            number: self.number + 1,
            ..Self::default()
        }
    }

    /// Where to, if one more may go now.
    fn open(&self, window: usize) -> Option<&Arc<dyn Connection>> {
        let free = self.in_flight < window && self.in_flight_qos2 < usize::from(MAX_INFLIGHT_QOS2);
        self.connection.as_ref().filter(|_| free && self.blocked.is_none())
    }

    fn took_off(&mut self, qos: QoS) {
        self.in_flight += 1;
        self.in_flight_qos2 += usize::from(qos == QoS::ExactlyOnce);
    }

    fn landed(&mut self, flight: Flight) {
        if self.number == flight.way {
            self.in_flight -= 1;
            self.in_flight_qos2 -= usize::from(flight.qos == QoS::ExactlyOnce);
        }
    }

    /// Nothing more goes this way. The connection is to be dropped without the lock: it may settle
    /// what it has.
    pub(super) fn close(&mut self) -> Option<Arc<dyn Connection>> {
        self.connection.take()
    }
}

impl State {
    /// The next message to hand over, which is in flight from now on.
    fn take_off(&mut self, window: usize) -> Option<(Arc<dyn Connection>, Message, Flight)> {
        if self.busy {
            return None;
        }
        let connection = self.way.open(window)?.clone();
        let Some((sequence, entry)) = self.entries.from(self.next).find(|(_, entry)| !entry.in_flight) else {
            self.next = self.sequence;
            return None;
        };
        entry.in_flight = true;
        // From now on it may arrive.
        entry.tries += 1;
        let message = entry.message.clone();
        self.next = sequence + 1;
        let flight = Flight {
            way: self.way.number,
            sequence,
            qos: message.qos,
        };
        self.way.took_off(message.qos);
        self.busy = true;
        Some((connection, message, flight))
    }

    /// The connection did not take it over: it is the next again.
    fn put_back(&mut self, flight: Flight) {
        self.way.landed(flight);
        if let Some(entry) = self.entries.get_mut(flight.sequence)
            && self.way.number == flight.way
        {
            entry.in_flight = false;
            entry.tries -= 1;
            self.next = self.next.min(flight.sequence);
        }
    }
}

/// Handed over one after the other before somebody else goes on with it.
const TURN: usize = 64;

/// Somebody hands over, until this is dropped. Over the end of a connection too: what a former one
/// took over is followed before the next gets anything, or it could go twice.
struct Busy<'a> {
    outbox: &'a Outbox,
    /// What became of it is not known yet.
    flight: Option<Flight>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut state = self.outbox.lock();
        state.busy = false;
        if let Some(flight) = self.flight {
            // The connection panicked: the message may have arrived, and its deadline will tell.
            state.way.landed(flight);
            drop(state);
            self.outbox.changed.notify_one();
        }
    }
}

impl Outbox {
    /// A new connection: everything unsettled is to be sent again, in its old order, but for
    /// the flows that the connection itself goes on with. It begins when the way is opened.
    pub(crate) fn rewind(self: &Arc<Self>, resumed: Vec<(u64, Receipt)>) {
        let mut state = self.lock();
        state.refusing.take_if(|kind| *kind == ErrorKind::NotConnected);
        state.next = 0;
        let next = state.way.next();
        let _former = std::mem::replace(&mut state.way, next);
        for (_, entry) in state.entries.from(0) {
            entry.in_flight = false;
        }
        let way = state.way.number;
        let flights: Vec<_> = resumed
            .into_iter()
            .map(|(sequence, receipt)| {
                let qos = QoS::ExactlyOnce;
                state.way.took_off(qos);
                if let Some(entry) = state.entries.get_mut(sequence) {
                    entry.in_flight = true;
                }
                (Flight { way, sequence, qos }, receipt)
            })
            .collect();
        drop(state);
        for (flight, receipt) in flights {
            self.follow(flight, receipt);
        }
    }

    /// From now on messages go to this connection, those that wait before all others.
    pub(crate) fn open(self: &Arc<Self>, connection: Arc<dyn Connection>) {
        let mut state = self.lock();
        state.way.blocked = None;
        let _former = state.way.connection.replace(connection);
        drop(state);
        self.hand_over();
    }

    /// Nothing goes out any more, until the next connection.
    pub(crate) fn shut(&self) {
        let _former = self.lock().way.close();
    }

    /// The connection has no room for a message of this QoS, and is to be asked when it has.
    pub(crate) fn waits_for_room(&self) -> Option<QoS> {
        self.lock().way.blocked
    }

    /// Something else is to go first, as soon as the connection has room for this QoS.
    pub(crate) fn hold_back(&self, qos: QoS) {
        self.lock().way.blocked = Some(qos);
    }

    /// The connection may have room, or the window.
    pub(crate) fn go_on(self: &Arc<Self>) {
        self.lock().way.blocked = None;
        self.hand_over();
    }

    /// Hands over what may go.
    pub(super) fn hand_over(self: &Arc<Self>) {
        for _ in 0..TURN {
            let next = self.lock().take_off(self.window);
            let Some((connection, message, flight)) = next else {
                return;
            };
            let mut busy = Busy {
                outbox: self,
                flight: Some(flight),
            };
            let taken = connection.try_publish(message);
            busy.flight = None;
            match taken {
                Ok(receipt) => self.follow(flight, receipt),
                Err(refused) => self.refused(flight, refused),
            }
        }
        self.changed.notify_one();
    }

    fn refused(&self, flight: Flight, refused: TryPublishError) {
        match refused {
            TryPublishError::Failed(error) if error.kind() != ErrorKind::NotConnected => {
                return self.settled(flight, Err(error));
            }
            TryPublishError::Failed(_) => {
                // Its end is on its way.
                let mut state = self.lock();
                state.put_back(flight);
                if state.way.number == flight.way {
                    // Whoever hands over still has it: this is not the last one.
                    state.way.close();
                }
            }
            _ => {
                let mut state = self.lock();
                state.put_back(flight);
                if state.way.number == flight.way {
                    state.way.blocked = Some(flight.qos);
                }
            }
        }
        self.changed.notify_one();
    }

    fn follow(self: &Arc<Self>, flight: Flight, receipt: Receipt) {
        let outbox = self.clone();
        receipt.then(move |result| outbox.settled(flight, result));
    }

    /// What became of a message in flight. The end of a connection keeps it for the next
    /// one; anything else is final. What was confirmed is so, however late that is heard.
    fn settled(&self, flight: Flight, result: Result<Settled, Error>) {
        let mut state = self.lock();
        let of_this_way = state.way.number == flight.way;
        state.way.landed(flight);
        let is_final = match &result {
            Ok(_) => true,
            Err(error) => of_this_way && !matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::NotConnected),
        };
        let gone = if is_final { state.remove(flight.sequence) } else { None };
        let tell = state.watched || state.entries.last().is_some_and(|last| last >= state.next);
        drop(state);
        if let Some(gone) = gone {
            self.tell_outcome(gone, result);
        }
        if tell {
            self.changed.notify_one();
        }
    }
}
