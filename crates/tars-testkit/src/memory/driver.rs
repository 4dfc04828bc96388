//! The task of one connection: writes what the handle put in, makes the broker look at
//! it, reads what came, and keeps the connection alive.
//!
//! Invariants: it never waits for whoever reads the stream (a full stream pauses
//! reading and nothing else), and however it goes away, [`Inner::end`](super::core)
//! has run and the broker knows.

use std::sync::Arc;

use tars_ports::{Delivery, EndReason, Ended, Error, ErrorKind, Message, QoS, Settled};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::core::{Core, Wish};
use super::packet::Packet;

pub(super) struct Driver {
    shared: Arc<Shared>,
    link: u64,
    core: Arc<Core>,
    deliveries: mpsc::Sender<Delivery>,
    last_write: Instant,
    last_read: Instant,
    last_ping: Instant,
    /// Since when a PINGREQ waits for any answer.
    unanswered: Option<Instant>,
    /// Reading stopped because the stream had no room. Kept from that moment on: asked
    /// again later, the answer could be "no" although nothing was read.
    stream_full: bool,
    finished: bool,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, link: u64, core: Arc<Core>, deliveries: mpsc::Sender<Delivery>) -> Self {
        let now = Instant::now();
        Self {
            shared,
            link,
            core,
            deliveries,
            last_write: now,
            last_read: now,
            last_ping: now,
            unanswered: None,
            stream_full: false,
            finished: false,
        }
    }

    pub(super) async fn run(mut self) -> Ended {
        loop {
            if let Err(reason) = self.step() {
                return self.finish(reason);
            }
            let deadline = self.next_deadline();
            tokio::select! {
                // In a fixed order, so that a test runs the same way each time.
                biased;
                () = self.core.wake.notified() => {}
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
                // Room in the stream; the permit itself is not needed.
                _ = self.deliveries.reserve(), if self.stream_full => {}
                // The stream was dropped: the next step ends the connection.
                () = self.deliveries.closed() => {}
            }
        }
    }

    /// All that can be done without waiting.
    fn step(&mut self) -> Result<(), EndReason> {
        loop {
            let now = Instant::now();
            let wrote = self.write(now)?;
            // What the broker took makes room for what could not be written.
            let took = self.shared.change(|state| state.pump(self.link, now));
            let read = self.read(now)?;
            if !wrote && !took && !read {
                return Ok(());
            }
        }
    }

    fn write(&mut self, now: Instant) -> Result<bool, EndReason> {
        let room = self
            .shared
            .look(|state| state.room(self.link))
            .map_err(EndReason::Lost)?;
        let mut inner = self.core.lock();
        let disconnect = match inner.wish {
            Wish::Close => return Err(EndReason::Closed),
            Wish::Stay if self.deliveries.is_closed() => return Err(EndReason::Closed),
            Wish::Stay => false,
            Wish::Disconnect { .. } => true,
        };
        let mut packets = inner.take_writes(room, &self.core.limits, disconnect);
        let last = disconnect && inner.all_written() && packets.len() < room;
        let late = matches!(inner.wish, Wish::Disconnect { deadline } if now >= deadline);
        drop(inner);
        if last {
            packets.push(Packet::Disconnect);
        } else if self.ping_due().is_some_and(|due| now >= due) && packets.len() < room {
            packets.push(Packet::Pingreq);
            self.last_ping = now;
            self.unanswered.get_or_insert(now);
        }
        let wrote = !packets.is_empty();
        if wrote {
            self.last_write = now;
            self.shared.change(|state| state.write(self.link, packets, now));
            self.core.progress.notify_waiters();
        }
        if last {
            return Err(EndReason::Disconnected);
        }
        if !wrote && disconnect && self.deliveries.is_closed() {
            // Nobody can see the end any more, and waiting for a dropped stream would spin.
            return Err(EndReason::Closed);
        }
        if late {
            let text = "the broker did not take everything in time";
            return Err(EndReason::Lost(Error::new(ErrorKind::Timeout, text)));
        }
        Ok(wrote)
    }

    /// Reads as long as budget and stream have room.
    fn read(&mut self, now: Instant) -> Result<bool, EndReason> {
        let mut any = false;
        loop {
            let paused = {
                let mut inner = self.core.lock();
                self.stream_full = self.deliveries.capacity() == 0;
                let paused = self.stream_full || self.core.limits.over_budget(&inner);
                inner.activity.reading_paused = paused;
                paused
            };
            if paused {
                // An answer that could not be read does not count as missing.
                self.unanswered = self.unanswered.map(|_| now);
                return Ok(any);
            }
            let Some(packet) = self.shared.change(|state| state.read(self.link, now)) else {
                break;
            };
            any = true;
            self.last_read = now;
            self.unanswered = None;
            self.handle(packet)?;
        }
        let silent = self
            .unanswered
            .is_some_and(|since| now >= since + self.core.limits.keep_alive);
        if silent && !any {
            let text = "the broker did not answer a PINGREQ within the keepalive";
            return Err(EndReason::Lost(Error::new(ErrorKind::ConnectionLost, text)));
        }
        Ok(any)
    }

    fn handle(&mut self, packet: Packet) -> Result<(), EndReason> {
        let mut inner = self.core.lock();
        inner.activity.packets_read += 1;
        match packet {
            Packet::Publish { id, dup, message } => {
                drop(inner);
                return self.deliver(id, dup, message);
            }
            Packet::Puback(id) | Packet::Pubcomp(id) => {
                let settler = inner.land(id);
                drop(inner);
                if let Some(settler) = settler {
                    settler.settle(Ok(Settled::default()));
                }
                // A receipt that settled makes room.
                self.core.progress.notify_waiters();
                return Ok(());
            }
            Packet::Pubrec(id) => inner.release(id),
            Packet::Pubrel(id) => inner.released(id),
            Packet::Suback { id, results } => inner.answered(id, results),
            Packet::Unsuback(id) => inner.answered(id, Vec::new()),
            // PINGRESP did its work by coming; the rest only a client sends.
            Packet::Pingresp
            | Packet::Pingreq
            | Packet::Subscribe { .. }
            | Packet::Unsubscribe { .. }
            | Packet::Disconnect => {}
        }
        Ok(())
    }

    fn deliver(&mut self, id: u16, dup: bool, message: Message) -> Result<(), EndReason> {
        let (size, limit) = (message.packet_size(), self.core.limits.max_packet_size);
        if size > limit {
            let text = format!(
                "a message of {size} bytes on {} came in, at most {limit} fit",
                message.topic.as_str()
            );
            return Err(EndReason::Lost(Error::new(ErrorKind::TooLarge, text)));
        }
        let mut inner = self.core.lock();
        if message.qos == QoS::ExactlyOnce && inner.is_repeated(id) {
            return Ok(());
        }
        let token = inner.sequencer.register(message.qos, id, message.payload.len());
        drop(inner);
        let mut delivery = Delivery::new(message.topic, message.payload, message.qos);
        delivery.retain = message.retain;
        delivery.dup = dup;
        delivery.token = token;
        // There is room: `read` looked, and nobody else sends. A dropped stream ends
        // the connection in the next step.
        let _ = self.deliveries.try_send(delivery);
        Ok(())
    }

    fn ping_due(&self) -> Option<Instant> {
        let keep_alive = self.core.limits.keep_alive;
        // Silence of either side asks for a PINGREQ, as long as none was just sent.
        let quiet_since = self.last_write.min(self.last_read.max(self.last_ping));
        (!keep_alive.is_zero()).then(|| quiet_since + keep_alive)
    }

    /// When there is something to do without anybody waking the task.
    fn next_deadline(&self) -> Option<Instant> {
        let inner = self.core.lock();
        let reading = !inner.activity.reading_paused;
        let disconnect = match inner.wish {
            Wish::Disconnect { deadline } => Some(deadline),
            _ => None,
        };
        drop(inner);
        let answer = self.unanswered.filter(|_| reading);
        let answer = answer.map(|since| since + self.core.limits.keep_alive);
        let arrival = self.shared.look(|state| state.next_arrival(self.link, reading));
        [arrival, self.ping_due(), answer, disconnect]
            .into_iter()
            .flatten()
            .min()
    }

    fn finish(&mut self, reason: EndReason) -> Ended {
        self.finished = true;
        let (ended, unsettled) = self.core.lock().end(reason);
        for (settler, why) in unsettled {
            settler.settle(Err(why));
        }
        self.shared.change(|state| state.client_gone(self.link));
        self.core.progress.notify_waiters();
        ended
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The runtime went away under the task: the same as a killed process.
        if !self.finished {
            self.finish(EndReason::Closed);
        }
    }
}
