//! The handle to a live connection: it asks, the driver does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tars_contracts::TopicFilter;
use tars_ports::{
    AckOutcome, AckToken, Activity, Connection, Error, Message, Publisher, QoS, Receipt, Refused, Subscriber,
    TryPublishError,
};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error;
use crate::outbox::{Command, Rejected, Stage};
use crate::shared::Shared;

/// Filters in one packet. Several packets are under way at once, so more would
/// save nothing.
const MAX_FILTERS: usize = 100;
/// Fixed header and packet id of SUBSCRIBE and UNSUBSCRIBE, at most.
const HEADER: usize = 7;

pub(crate) struct Handle {
    shared: Arc<Shared>,
    /// Largest packet.
    limit: usize,
    /// For each exchange.
    timeout: Duration,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, limit: usize, timeout: Duration) -> Self {
        Self { shared, limit, timeout }
    }

    fn not_connected(&self) -> Error {
        error::not_connected(&self.shared.address)
    }

    async fn command(&self, mut command: Command) -> Result<(), Error> {
        loop {
            match self.shared.outbox.command(command) {
                Ok(()) => {
                    self.shared.wake.notify_one();
                    return Ok(());
                }
                Err(Rejected::Ended) => return Err(self.not_connected()),
                Err(Rejected::Full(back)) => command = back,
            }
            if !self.shared.outbox.command_room().await {
                return Err(self.not_connected());
            }
        }
    }

    /// Sends all packets, then waits for all answers: one round trip, not one each.
    async fn exchange<T>(
        &self,
        name: &str,
        packets: impl Iterator<Item = (Command, oneshot::Receiver<Result<T, Error>>)> + Send,
    ) -> Result<Vec<T>, Error> {
        let no_answer = |_| error::no_answer(&self.shared.address, name, self.timeout);
        let mut waiting = Vec::new();
        for (command, answer) in packets {
            timeout(self.timeout, self.command(command))
                .await
                .map_err(no_answer)??;
            waiting.push(answer);
        }
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            let answer = timeout(self.timeout, answer).await.map_err(no_answer)?;
            answers.push(answer.unwrap_or_else(|_| Err(error::unanswered(&self.shared.address)))?);
        }
        Ok(answers)
    }

    /// Cuts a list of filters into lists that fit a packet each.
    fn split<'a, T>(&self, mut filters: &'a [T], size: impl Fn(&T) -> usize) -> Result<Vec<&'a [T]>, usize> {
        let mut packets = Vec::new();
        while !filters.is_empty() {
            let mut room = self.limit.saturating_sub(HEADER);
            let fits = filters.iter().take(MAX_FILTERS).take_while(|filter| {
                let size = size(filter);
                let fits = size <= room;
                room = room.saturating_sub(size);
                fits
            });
            let (packet, rest) = filters.split_at(fits.count());
            if packet.is_empty() {
                return Err(packets.iter().map(|packet: &&[T]| packet.len()).sum());
            }
            packets.push(packet);
            filters = rest;
        }
        Ok(packets)
    }
}

#[async_trait]
impl Publisher for Handle {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        if message.packet_size() > self.limit {
            return Err(TryPublishError::Failed(error::outgoing_too_large(&message, self.limit)));
        }
        match self.shared.outbox.push(message) {
            Ok((receipt, wake)) => {
                if wake {
                    self.shared.wake.notify_one();
                }
                Ok(receipt)
            }
            Err(Rejected::Full(message)) => Err(TryPublishError::Full(message)),
            Err(Rejected::Ended) => Err(TryPublishError::Failed(
                self.not_connected().with_fate(tars_ports::Fate::NotSent),
            )),
        }
    }

    /// One queue for every QoS: the order of the calls is that on the wire.
    async fn ready(&self, _qos: QoS) -> Result<(), Error> {
        if self.shared.outbox.publish_room().await {
            Ok(())
        } else {
            Err(self.not_connected())
        }
    }
}

#[async_trait]
impl Subscriber for Handle {
    async fn subscribe(&self, filters: &[(TopicFilter, QoS)]) -> Result<Vec<Result<QoS, Refused>>, Error> {
        let packets = self
            .split(filters, |(filter, _)| 3 + filter.as_str().len())
            .map_err(|at| error::filter_too_large(filters[at].0.as_str(), self.limit))?;
        let packets = packets.into_iter().map(|filters| {
            let (reply, answer) = oneshot::channel();
            let filters = filters.to_vec();
            (Command::Subscribe { filters, reply }, answer)
        });
        Ok(self.exchange("SUBSCRIBE", packets).await?.concat())
    }

    async fn unsubscribe(&self, filters: &[TopicFilter]) -> Result<(), Error> {
        let packets = self
            .split(filters, |filter| 2 + filter.as_str().len())
            .map_err(|at| error::filter_too_large(filters[at].as_str(), self.limit))?;
        let packets = packets.into_iter().map(|filters| {
            let (reply, answer) = oneshot::channel();
            let filters = filters.to_vec();
            (Command::Unsubscribe { filters, reply }, answer)
        });
        self.exchange("UNSUBSCRIBE", packets).await.map(drop)
    }
}

#[async_trait]
impl Connection for Handle {
    /// Nothing to do: paho has acknowledged it, and no delivery carries a token.
    fn ack(&self, _token: AckToken, _outcome: AckOutcome) {}

    fn activity(&self) -> Activity {
        Activity::new(self.shared.packets_read.load(Ordering::Relaxed), false)
    }

    async fn disconnect(&self) -> Result<(), Error> {
        let mut end = self.shared.end.subscribe();
        if let Some(end) = &*end.borrow() {
            return end.clone().map_err(|_| self.not_connected());
        }
        self.shared.advance(Stage::Disconnecting);
        // The driver reports even when its task is cut off, and keeps to the timeout.
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(Ok(())),
            Err(_) => Err(self.not_connected()),
        }
    }

    fn close(&self) {
        self.shared.advance(Stage::Closing);
    }
}

impl Drop for Handle {
    /// Nobody can ask for anything any more. A disconnect that was asked for goes on.
    fn drop(&mut self) {
        self.shared.abandon();
    }
}
