//! The driver's packets: what each one that arrives means, and what is sent.

use std::sync::atomic::Ordering;

use bytes::BytesMut;
use rumqttc::mqttbytes::Error as CodecError;
use rumqttc::mqttbytes::v4::{
    Disconnect, Packet, PingReq, PubAck, PubComp, PubRec, PubRel, Publish, SubAck, Subscribe, Unsubscribe,
};
use tars_contracts::TopicName;
use tars_ports::{Delivery, Error, QoS};
use tokio::time::Instant;

use super::{Driver, HIGH_WATER};
use crate::flows::{Flow, OnPubrec};
use crate::outbox::{Command, Queued};
use crate::read_buffer::ReadError;
use crate::{convert, error};

const PUBLISH: u8 = 3;

impl Driver {
    /// Works through the packets that have come, as far as the inbound budget goes.
    /// What is no PUBLISH costs no budget.
    pub(super) fn receive(&mut self) -> Result<(), Error> {
        while !self.is_choked() {
            let is_publish = self.input.first_byte().is_some_and(|byte| byte >> 4 == PUBLISH);
            if is_publish && !self.shared.inbox().is_open(self.flows.is_waiting()) {
                self.set_paused(true);
                return Ok(());
            }
            match self.input.next_packet() {
                Ok(Some(packet)) => {
                    self.shared.packets_read.fetch_add(1, Ordering::Relaxed);
                    self.on_packet(packet)?;
                }
                Ok(None) => break,
                Err(ReadError::TooLarge { size }) => {
                    return Err(error::incoming_too_large(&self.shared.address, size, self.limit));
                }
                Err(ReadError::Malformed(cause)) => return Err(error::malformed(&self.shared.address, cause)),
            }
        }
        // Nothing but the beginning of a packet is left: its kind does not matter,
        // the next bytes are read only if a message may come.
        let open = self.shared.inbox().is_open(self.flows.is_waiting());
        self.set_paused(!open);
        Ok(())
    }

    fn set_paused(&mut self, paused: bool) {
        if self.paused != paused {
            tracing::trace!(paused, "reading");
            self.paused = paused;
            self.shared.reading_paused.store(paused, Ordering::Relaxed);
            self.keepalive.set_reading(!paused, Instant::now());
        }
    }

    fn on_packet(&mut self, packet: Packet) -> Result<(), Error> {
        match packet {
            Packet::Publish(publish) => self.on_publish(publish)?,
            Packet::PubAck(PubAck { pkid }) => {
                tracing::trace!(packet_id = pkid, "PUBACK received");
                if !self.flows.puback(pkid) {
                    stale("PUBACK", pkid);
                }
            }
            Packet::PubRec(PubRec { pkid }) => {
                tracing::trace!(packet_id = pkid, "PUBREC received");
                match self.flows.pubrec(pkid) {
                    OnPubrec::Release { known } => {
                        if !known {
                            stale("PUBREC", pkid);
                        }
                        self.reply(|bytes| PubRel::new(pkid).write(bytes))?;
                    }
                    OnPubrec::Ignore => stale("PUBREC", pkid),
                }
            }
            Packet::PubRel(PubRel { pkid }) => {
                tracing::trace!(packet_id = pkid, "PUBREL received");
                if !self.shared.inbox().release(pkid) {
                    stale("PUBREL", pkid);
                }
                // Also for an unknown id: only PUBCOMP lets the broker get rid of it.
                self.reply(|bytes| PubComp::new(pkid).write(bytes))?;
            }
            Packet::PubComp(PubComp { pkid }) => {
                tracing::trace!(packet_id = pkid, "PUBCOMP received");
                if !self.flows.pubcomp(pkid) {
                    stale("PUBCOMP", pkid);
                }
            }
            Packet::SubAck(suback) => self.on_suback(suback)?,
            Packet::UnsubAck(unsuback) => {
                tracing::trace!(packet_id = unsuback.pkid, "UNSUBACK received");
                match self.flows.unsuback(unsuback.pkid) {
                    // A caller that no longer waits is no failure.
                    Some(reply) => drop(reply.send(Ok(()))),
                    None => stale("UNSUBACK", unsuback.pkid),
                }
            }
            Packet::PingResp => tracing::trace!("PINGRESP received"),
            Packet::ConnAck(_) => return Err(self.unexpected("a second CONNACK")),
            Packet::Disconnect => return Err(self.unexpected("DISCONNECT, which MQTT 3.1.1 brokers do not send")),
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq => {
                return Err(self.unexpected("a packet that only clients send"));
            }
        }
        Ok(())
    }

    fn unexpected(&self, what: &str) -> Error {
        error::unexpected(&self.shared.address, what)
    }

    fn on_publish(&mut self, publish: Publish) -> Result<(), Error> {
        tracing::trace!(?publish, "PUBLISH received");
        let topic = TopicName::new(&publish.topic)
            .map_err(|cause| self.unexpected("a PUBLISH with an invalid topic").with_source(cause))?;
        let mut delivery = Delivery::new(topic, publish.payload, convert::from_wire(publish.qos));
        delivery.retain = publish.retain;
        delivery.dup = publish.dup;
        let consumer = self.shared.inbox().deliver(publish.pkid, delivery);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        Ok(())
    }

    fn on_suback(&mut self, suback: SubAck) -> Result<(), Error> {
        tracing::trace!(packet_id = suback.pkid, "SUBACK received");
        let Some((filters, reply)) = self.flows.suback(suback.pkid) else {
            stale("SUBACK", suback.pkid);
            return Ok(());
        };
        if filters != suback.return_codes.len() {
            let answers = suback.return_codes.len();
            let error = self.unexpected(&format!("a SUBACK with {answers} answers to {filters} filters"));
            drop(reply.send(Err(error.clone())));
            return Err(error);
        }
        // A caller that no longer waits is no failure.
        let _ = reply.send(Ok(suback.return_codes.into_iter().map(convert::granted).collect()));
        Ok(())
    }

    /// Puts into the output whatever may go. Acknowledgements first, and always:
    /// they never wait for the window or behind publishes.
    pub(super) fn send(&mut self) -> Result<(), Error> {
        if self.has_said_farewell() {
            return Ok(());
        }
        self.send_acknowledgements()?;
        while self.output.len() < HIGH_WATER
            && let Some(command) = self.shared.outbox.take_command()
        {
            self.begin_command(command)?;
        }
        let room = HIGH_WATER.saturating_sub(self.output.len());
        self.shared
            .outbox
            .take_publishes(&mut self.batch, self.flows.room(), room);
        let mut batch = std::mem::take(&mut self.batch);
        for queued in batch.drain(..) {
            self.begin_publish(queued)?;
        }
        self.batch = batch;
        if let Some(farewell) = &mut self.farewell
            && self.shared.outbox.is_drained()
        {
            farewell.sent = true;
            self.append(|bytes| Disconnect.write(bytes))?;
        }
        Ok(())
    }

    fn send_acknowledgements(&mut self) -> Result<(), Error> {
        let mut batch = std::mem::take(&mut self.acknowledgements);
        self.shared.inbox().take_ready(&mut batch);
        for acknowledgement in batch.drain(..) {
            let id = acknowledgement.packet_id;
            tracing::trace!(packet_id = id, qos = %acknowledgement.qos, "acknowledging");
            match acknowledgement.qos {
                QoS::ExactlyOnce => self.append(|bytes| PubRec::new(id).write(bytes))?,
                _ => self.append(|bytes| PubAck::new(id).write(bytes))?,
            };
        }
        self.acknowledgements = batch;
        Ok(())
    }

    fn begin_command(&mut self, command: Command) -> Result<(), Error> {
        let id = self.flows.free_id();
        match (command, id) {
            (Command::Subscribe { filters, reply }, Some(pkid)) => {
                tracing::trace!(packet_id = pkid, filters = filters.len(), "SUBSCRIBE");
                let count = filters.len();
                self.append(|bytes| Subscribe { pkid, filters }.write(bytes))?;
                self.flows.insert(pkid, Flow::Suback { filters: count, reply });
            }
            (Command::Unsubscribe { filters: topics, reply }, Some(pkid)) => {
                tracing::trace!(packet_id = pkid, filters = topics.len(), "UNSUBSCRIBE");
                self.append(|bytes| Unsubscribe { pkid, topics }.write(bytes))?;
                self.flows.insert(pkid, Flow::Unsuback { reply });
            }
            // A caller that no longer waits is no failure.
            (Command::Subscribe { reply, .. }, None) => {
                drop(reply.send(Err(error::ids_exhausted(&self.shared.address))));
            }
            (Command::Unsubscribe { reply, .. }, None) => {
                drop(reply.send(Err(error::ids_exhausted(&self.shared.address))));
            }
        }
        Ok(())
    }

    fn begin_publish(&mut self, Queued { message, settler }: Queued) -> Result<(), Error> {
        let Some(settler) = settler else {
            let publish = convert::publish(&message, 0, false);
            tracing::trace!(?publish, "PUBLISH");
            return self.output.append_qos0(|bytes| publish.write(bytes)).map_err(encoding);
        };
        let Some(id) = self.flows.free_id() else {
            super::end::not_sent(settler, &error::ids_exhausted(&self.shared.address));
            return Ok(());
        };
        let publish = convert::publish(&message, id, false);
        tracing::trace!(?publish, "PUBLISH");
        let end = self.append(|bytes| publish.write(bytes))?;
        let flow = match message.qos {
            QoS::ExactlyOnce => Flow::Qos2 {
                settler,
                message,
                released: false,
                end: Some(end),
            },
            _ => Flow::Puback { settler, end },
        };
        self.flows.insert(id, flow);
        Ok(())
    }

    pub(super) fn ping(&mut self) -> Result<(), Error> {
        tracing::trace!("PINGREQ");
        self.reply(|bytes| PingReq.write(bytes))
    }

    /// Appends, unless DISCONNECT already stands at the end.
    fn reply(&mut self, encode: impl FnOnce(&mut BytesMut) -> Result<usize, CodecError>) -> Result<(), Error> {
        if self.has_said_farewell() {
            return Ok(());
        }
        self.append(encode).map(drop)
    }

    pub(super) fn append(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> Result<usize, CodecError>,
    ) -> Result<u64, Error> {
        self.output.append(encode).map_err(encoding)
    }
}

/// The handles let nothing through that cannot be encoded.
fn encoding(cause: CodecError) -> Error {
    error::internal("a packet could not be encoded").with_source(cause)
}

/// An answer to nothing: brokers send them after a lost session, and a healthy
/// link must not end for it.
fn stale(packet: &str, packet_id: u16) {
    tracing::debug!(packet_id, "{packet} for a packet id that does not wait for it");
}
