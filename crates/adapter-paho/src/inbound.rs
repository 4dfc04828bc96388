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
use crate::screen::Breach;
use crate::shared::{Shared, Verdict};
use crate::{convert, error};

pub(crate) struct InboundStream {
    shared: Arc<Shared>,
    arrived: Arrived,
    /// Something came that is not let through; nothing behind it is either.
    broken: bool,
    /// `None` once it has ended.
    driver: Option<JoinHandle<Ended>>,
    ended: Option<Ended>,
}

impl InboundStream {
    pub(crate) fn new(shared: Arc<Shared>, arrived: Arrived, driver: JoinHandle<Ended>) -> Self {
        Self {
            shared,
            arrived,
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
        let delivery = convert::delivery(message);
        if delivery.is_none() {
            // The screen lets none through.
            self.broken = true;
            self.shared.judge(Verdict::Breach(Breach::BAD_TOPIC));
        }
        delivery
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
