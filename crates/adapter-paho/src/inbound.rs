//! The stream of what arrives. It owns the driver task: the end is handed out only
//! when that task is gone, whatever ended it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use paho_mqtt::Message;
use tars_ports::{Delivery, EndReason, Ended, Incoming};
use tokio::task::JoinHandle;

use crate::arrivals::Arrived;
use crate::shared::{Shared, Verdict};
use crate::{convert, error};

pub(crate) struct InboundStream {
    shared: Arc<Shared>,
    arrived: Arrived,
    /// Largest packet.
    limit: usize,
    /// Something came that is not let through; nothing behind it is either.
    broken: bool,
    /// `None` once it has ended.
    driver: Option<JoinHandle<Ended>>,
    ended: Option<Ended>,
}

impl InboundStream {
    pub(crate) fn new(shared: Arc<Shared>, arrived: Arrived, limit: usize, driver: JoinHandle<Ended>) -> Self {
        Self {
            shared,
            arrived,
            limit,
            broken: false,
            driver: Some(driver),
            ended: None,
        }
    }

    fn accept(&mut self, message: Message) -> Option<Delivery> {
        self.arrived.taken(&message);
        if self.broken {
            return None;
        }
        let Some(delivery) = convert::delivery(message) else {
            return self.refuse(Verdict::BadTopic);
        };
        let mut packet = tars_ports::Message::new(delivery.topic.clone(), delivery.payload.clone());
        packet.qos = delivery.qos;
        let size = packet.packet_size();
        if size > self.limit {
            return self.refuse(Verdict::TooLarge {
                size,
                limit: self.limit,
            });
        }
        Some(delivery)
    }

    fn refuse(&mut self, verdict: Verdict) -> Option<Delivery> {
        self.broken = true;
        self.shared.judge(verdict);
        None
    }
}

impl Stream for InboundStream {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let this = self.get_mut();
        loop {
            let message = if this.driver.is_some() {
                match this.arrived.queue.poll_recv(cx) {
                    Poll::Ready(message) => message,
                    Poll::Pending => None,
                }
            } else {
                // `poll_recv` may say "pending" for the scheduler's sake, and be wrong.
                this.arrived.queue.try_recv().ok()
            };
            if let Some(message) = message {
                match this.accept(message) {
                    Some(delivery) => return Poll::Ready(Some(Incoming::Delivery(delivery))),
                    None => continue,
                }
            }
            let Some(driver) = &mut this.driver else {
                return Poll::Ready(this.ended.take().map(Incoming::Ended));
            };
            let Poll::Ready(ended) = Pin::new(driver).poll(cx) else {
                return Poll::Pending;
            };
            this.driver = None;
            this.ended = Some(ended.unwrap_or_else(|failure| {
                Ended::new(EndReason::Lost(
                    error::internal("the connection's task was cut off").with_source(failure),
                ))
            }));
            // Something may have come between the look and the end: look again.
        }
    }
}

impl Drop for InboundStream {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}
