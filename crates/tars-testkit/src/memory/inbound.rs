//! The stream of what arrives: deliveries from a bounded channel, then the task's own
//! result as the end. So the end is the last item, comes once, and joins the task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tars_ports::{Delivery, EndReason, Ended, Error, ErrorKind, Incoming};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(super) struct MemoryInbound {
    deliveries: mpsc::Receiver<Delivery>,
    task: Option<JoinHandle<Ended>>,
}

impl MemoryInbound {
    pub(super) fn new(deliveries: mpsc::Receiver<Delivery>, task: JoinHandle<Ended>) -> Self {
        Self {
            deliveries,
            task: Some(task),
        }
    }
}

impl Stream for MemoryInbound {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        if let Some(delivery) = ready!(self.deliveries.poll_recv(cx)) {
            return Poll::Ready(Some(Incoming::Delivery(delivery)));
        }
        let Some(task) = &mut self.task else {
            return Poll::Ready(None);
        };
        let joined = ready!(Pin::new(task).poll(cx));
        self.task = None;
        let ended = joined.unwrap_or_else(|error| {
            let lost = Error::new(ErrorKind::Internal, "the task of an in-memory connection failed").with_source(error);
            Ended::new(EndReason::Lost(lost))
        });
        Poll::Ready(Some(Incoming::Ended(ended)))
    }
}
