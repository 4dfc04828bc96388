//! The handle to a live connection. It only puts things into [`Core`] and waits for
//! answers; the driver does the work.

use std::sync::Arc;

use async_trait::async_trait;
use tars_contracts::TopicFilter;
use tars_ports::{
    AckOutcome, AckToken, Activity, Connection, EndReason, Error, ErrorKind, Fate, Message, Publisher, QoS, Receipt,
    Refused, Subscriber, TryPublishError,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::core::{Core, Request, Wish};
use super::packet::{REQUEST_OVERHEAD, filter_size};

pub(super) struct MemoryConnection {
    core: Arc<Core>,
}

impl MemoryConnection {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Puts requests in, and waits for the answers to all of them.
    async fn ask<A>(
        &self,
        what: &str,
        requests: impl Iterator<Item = (Request, oneshot::Receiver<A>)>,
    ) -> Result<Vec<A>, Error> {
        let deadline = Instant::now() + self.core.limits.timeout;
        let mut waiting = Vec::new();
        {
            let mut inner = self.core.lock();
            inner.check()?;
            for (request, answer) in requests {
                inner.ask(request);
                waiting.push(answer);
            }
        }
        self.core.wake.notify_one();
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            let answer = timeout_at(deadline, answer).await.map_err(|_| {
                let text = format!("the broker did not answer the {what} in time");
                Error::new(ErrorKind::Timeout, text)
            })?;
            answers.push(answer.map_err(|_| {
                let text = format!("the connection ended before the broker answered the {what}");
                Error::new(ErrorKind::ConnectionLost, text)
            })?);
        }
        Ok(answers)
    }

    /// Cuts filters into as few packets as the packet limit allows.
    fn batches<F: Clone>(&self, filters: &[F], name: impl Fn(&F) -> &TopicFilter) -> Result<Vec<Vec<F>>, Error> {
        let limit = self.core.limits.max_packet_size.saturating_sub(REQUEST_OVERHEAD);
        let mut batches: Vec<Vec<F>> = Vec::new();
        let mut used = 0;
        for filter in filters {
            let size = filter_size(name(filter));
            if size > limit {
                let text = format!("the filter {} does not fit into a packet", name(filter).as_str());
                return Err(Error::new(ErrorKind::TooLarge, text));
            }
            match batches.last_mut() {
                Some(batch) if used + size <= limit => batch.push(filter.clone()),
                _ => {
                    batches.push(vec![filter.clone()]);
                    used = 0;
                }
            }
            used += size;
        }
        Ok(batches)
    }
}

#[async_trait]
impl Publisher for MemoryConnection {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        let (size, limit) = (message.packet_size(), self.core.limits.max_packet_size);
        let mut inner = self.core.lock();
        if let Err(error) = inner.check() {
            return Err(TryPublishError::Failed(error.with_fate(Fate::NotSent)));
        }
        if size > limit {
            let text = format!(
                "publish to {}: {size} bytes, at most {limit} fit",
                message.topic.as_str()
            );
            let error = Error::new(ErrorKind::TooLarge, text).with_fate(Fate::NotSent);
            return Err(TryPublishError::Failed(error));
        }
        if !self.core.limits.has_room(&inner, message.qos) {
            return Err(TryPublishError::Full(message));
        }
        let receipt = inner.push(message);
        drop(inner);
        self.core.wake.notify_one();
        Ok(receipt)
    }

    async fn ready(&self, qos: QoS) -> Result<(), Error> {
        loop {
            let progress = self.core.progress.notified();
            {
                let inner = self.core.lock();
                inner.check()?;
                if self.core.limits.has_room(&inner, qos) {
                    return Ok(());
                }
            }
            progress.await;
        }
    }
}

#[async_trait]
impl Subscriber for MemoryConnection {
    async fn subscribe(&self, filters: &[(TopicFilter, QoS)]) -> Result<Vec<Result<QoS, Refused>>, Error> {
        let batches = self.batches(filters, |(filter, _)| filter)?;
        let requests = batches.into_iter().map(|batch| {
            let (sender, answer) = oneshot::channel();
            (Request::Subscribe(batch, sender), answer)
        });
        Ok(self.ask("SUBSCRIBE", requests).await?.concat())
    }

    async fn unsubscribe(&self, filters: &[TopicFilter]) -> Result<(), Error> {
        let batches = self.batches(filters, |filter| filter)?;
        let requests = batches.into_iter().map(|batch| {
            let (sender, answer) = oneshot::channel();
            (Request::Unsubscribe(batch, sender), answer)
        });
        self.ask("UNSUBSCRIBE", requests).await?;
        Ok(())
    }
}

#[async_trait]
impl Connection for MemoryConnection {
    fn ack(&self, token: AckToken, _outcome: AckOutcome) {
        let mut inner = self.core.lock();
        if inner.ended.is_some() {
            return;
        }
        let mut sent = Vec::new();
        inner.sequencer.complete(token, |ack| sent.push(ack));
        for ack in sent {
            inner.acknowledge(ack.packet_id, ack.qos);
        }
        drop(inner);
        self.core.wake.notify_one();
    }

    fn activity(&self) -> Activity {
        self.core.lock().activity
    }

    async fn disconnect(&self) -> Result<(), Error> {
        {
            let mut inner = self.core.lock();
            match inner.ended {
                Some(EndReason::Disconnected) => return Ok(()),
                // It was over before anybody asked.
                Some(_) => return Err(Error::new(ErrorKind::NotConnected, "the connection has ended")),
                None if inner.wish == Wish::Stay => {
                    let deadline = Instant::now() + self.core.limits.timeout;
                    inner.wish = Wish::Disconnect { deadline };
                }
                None => {}
            }
        }
        self.core.wake.notify_one();
        loop {
            let progress = self.core.progress.notified();
            let ended = self.core.lock().ended.clone();
            match ended {
                Some(EndReason::Disconnected) => return Ok(()),
                Some(EndReason::Lost(error)) => return Err(error.while_doing("sending DISCONNECT")),
                Some(_) => {
                    let text = "the connection was closed without DISCONNECT";
                    return Err(Error::new(ErrorKind::NotConnected, text));
                }
                None => progress.await,
            }
        }
    }

    fn close(&self) {
        self.core.lock().wish = Wish::Close;
        self.core.wake.notify_one();
        self.core.progress.notify_waiters();
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        let mut inner = self.core.lock();
        // A disconnect whose caller went away goes on by itself.
        if inner.wish == Wish::Stay {
            inner.wish = Wish::Close;
        }
        drop(inner);
        self.core.wake.notify_one();
    }
}
