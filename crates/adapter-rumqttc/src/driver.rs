//! The one task of a connection: it owns the socket and all protocol state.
//!
//! Each round first does everything that needs no waiting, then waits for the
//! socket, a timer or a wake-up. One wait both reads and writes as far as either
//! is possible, so neither can starve the other, and nothing that is dropped
//! half-way carries bytes with it. Between waits nothing is awaited; handlers and
//! callers are never waited for.

mod end;
mod packets;
mod transfer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rumqttc::mqttbytes::v4::PubRel;
use tars_net::Stream;
use tars_ports::{Acknowledgement, ConnectOptions, EndReason, Ended, Error, OutboundQos2, Receipt};
use tokio::time::Instant;

use crate::flows::{Flow, Flows};
use crate::gather::Gather;
use crate::handshake::Accepted;
use crate::keepalive::{Action, Keepalive};
use crate::outbox::{Queued, Stage};
use crate::read_buffer::ReadBuffer;
use crate::shared::Shared;
use crate::write_buffer::WriteBuffer;
use crate::{convert, error};

use end::Farewell;
use transfer::transfer;

/// At so many unwritten bytes no further publish or subscription is begun.
const HIGH_WATER: usize = 256 * 1024;
/// Answers to what was read may fill so much more before reading stops too.
const REPLIES: usize = 1024 * 1024;

pub(crate) struct Driver {
    stream: Stream,
    /// All that was written has left the layers over the socket.
    flushed: bool,
    shared: Arc<Shared>,
    input: ReadBuffer,
    output: WriteBuffer,
    flows: Flows,
    keepalive: Keepalive,
    gather: Gather,
    /// What comes gathers in the socket until then.
    resting: Option<Instant>,
    /// Reading is paused at the inbound budget.
    paused: bool,
    limit: usize,
    timeout: Duration,
    farewell: Option<Farewell>,
    /// Scratch for publishes and acknowledgements; empty between rounds.
    batch: Vec<Queued>,
    acknowledgements: Vec<Acknowledgement>,
    ended: bool,
}

impl Driver {
    pub(crate) fn new(
        accepted: Accepted,
        shared: Arc<Shared>,
        options: &ConnectOptions,
        limit: usize,
        keepalive: Keepalive,
    ) -> Self {
        Self {
            stream: accepted.stream,
            flushed: true,
            shared,
            input: accepted.input,
            output: WriteBuffer::default(),
            flows: Flows::new(options.max_inflight, options.max_inflight_qos2),
            keepalive,
            gather: Gather::new(Instant::now()),
            resting: None,
            paused: false,
            limit,
            timeout: options.timeout,
            farewell: None,
            batch: Vec::new(),
            acknowledgements: Vec::new(),
            ended: false,
        }
    }

    /// Goes on with the QoS 2 publishes of an earlier connection, before anything else is sent.
    pub(crate) fn resume(&mut self, outbound: Vec<OutboundQos2>) -> Result<Vec<(u64, Receipt)>, Error> {
        let mut resumed = Vec::with_capacity(outbound.len());
        for OutboundQos2 {
            packet_id,
            released,
            message,
            ..
        } in outbound
        {
            let (settler, receipt) = Receipt::pair();
            let key = message.key;
            let publish = convert::publish(&message, packet_id, true);
            let flow = Flow::Qos2 {
                settler,
                message,
                released,
                end: None,
            };
            if !self.flows.insert(packet_id, flow) {
                tracing::debug!(packet_id, "a session names a packet id twice; the second is forgotten");
                continue;
            }
            if released {
                self.append(|bytes| PubRel::new(packet_id).write(bytes))?;
            } else {
                self.append(|bytes| publish.write(bytes))?;
            }
            resumed.push((key, receipt));
        }
        Ok(resumed)
    }

    /// Serves the connection to its end.
    pub(crate) async fn run(mut self) -> Ended {
        let reason = self.serve().await.unwrap_or_else(EndReason::Lost);
        self.end(reason)
    }

    async fn serve(&mut self) -> Result<EndReason, Error> {
        let mut timer = std::pin::pin!(tokio::time::sleep_until(Instant::now()));
        let mut armed: Option<Instant> = None;
        loop {
            match self.shared.outbox.stage() {
                Stage::Open => {}
                Stage::Disconnecting => self.begin_farewell(),
                Stage::Closing | Stage::Ended => return Ok(EndReason::Closed),
            }
            self.receive()?;
            self.send()?;
            if self.paused && self.shared.inbox().is_open(self.flows.is_waiting()) {
                // What was sent waits for an answer, which may lie in what is already here.
                continue;
            }
            let now = Instant::now();
            self.resting = self.resting.filter(|until| *until > now);
            let next = self.on_time(now)?.into_iter().chain(self.resting).min();
            if self.output.is_empty() && self.flushed && self.has_said_farewell() {
                self.leave().await;
                return Ok(EndReason::Disconnected);
            }
            // Traffic only moves deadlines away: the timer is set again when it
            // fires, not with every packet.
            if let Some(next) = next
                && armed.is_none_or(|armed| next < armed)
            {
                timer.as_mut().reset(next);
                armed = Some(next);
            }
            let reading = !self.paused && !self.is_choked() && self.resting.is_none();
            let room = reading.then(|| self.input.room());
            tokio::select! {
                // The socket first: after a long sleep of the machine the answer is
                // there, and must be seen before the timer gives the peer up.
                biased;
                (read, written) = transfer(&mut self.stream, room, self.output.pending(), &mut self.flushed) => {
                    self.on_written(written).await?;
                    self.on_read(read)?;
                }
                () = &mut timer, if armed.is_some() => armed = None,
                () = self.shared.wake.notified() => {}
            }
        }
    }

    /// So many answers wait for a peer that does not read that no more may be caused.
    fn is_choked(&self) -> bool {
        self.output.len() > HIGH_WATER + self.limit + REPLIES
    }

    fn on_read(&mut self, read: Option<std::io::Result<usize>>) -> Result<(), Error> {
        match read {
            None => Ok(()),
            Some(Ok(0)) => Err(error::closed_by_broker(&self.shared.address)),
            Some(Ok(_)) => {
                let now = Instant::now();
                self.keepalive.read(now);
                self.rest(now)
            }
            Some(Err(cause)) => Err(error::lost(&self.shared.address, cause)),
        }
    }

    /// Leaves the next packets in the socket for a while, where that is good for both sides.
    fn rest(&mut self, now: Instant) -> Result<(), Error> {
        let packets = self.shared.packets_read.load(Ordering::Relaxed);
        if let Some(until) = self.gather.read(packets, now)
            && !self.input.is_full()
            && self
                .stream
                .rest()
                .map_err(|cause| error::lost(&self.shared.address, cause))?
        {
            self.resting = Some(until);
        }
        Ok(())
    }

    async fn on_written(&mut self, written: Option<std::io::Result<usize>>) -> Result<(), Error> {
        match written {
            None => Ok(()),
            Some(Ok(n)) if n > 0 => {
                self.output.advance(n);
                self.keepalive.sent(Instant::now());
                Ok(())
            }
            Some(Ok(_)) => Err(error::closed_by_broker(&self.shared.address)),
            Some(Err(cause)) => {
                // The broker is gone, but what it confirmed before may lie unread.
                while !self.paused
                    && let (Some(Ok(1..)), _) = transfer::now(&mut self.stream, self.input.room()).await
                {
                    self.receive()?;
                }
                Err(error::lost(&self.shared.address, cause))
            }
        }
    }

    /// Sends what is due by the clock and says when to look again.
    fn on_time(&mut self, now: Instant) -> Result<Option<Instant>, Error> {
        let mut farewell_due = None;
        if let Some(farewell) = &mut self.farewell {
            if now >= farewell.deadline {
                return Err(error::disconnect_timeout(&self.shared.address, self.timeout));
            }
            farewell_due = Some(farewell.deadline);
            if !farewell.given_up {
                if now >= farewell.patience {
                    farewell.given_up = true;
                    self.give_up();
                    self.send()?;
                } else {
                    farewell_due = Some(farewell.patience);
                }
            }
        }
        loop {
            match self.keepalive.check(now) {
                Action::Wait(next) => {
                    return Ok(match (next, farewell_due) {
                        (Some(one), Some(other)) => Some(one.min(other)),
                        (one, other) => one.or(other),
                    });
                }
                Action::Ping => self.ping()?,
                Action::Dead => return Err(error::silent(&self.shared.address, self.keepalive.patience())),
            }
        }
    }
}
