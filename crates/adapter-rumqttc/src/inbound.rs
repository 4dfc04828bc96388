//! The stream of what arrives. It owns the driver task: the end is handed out only
//! when that task is gone, whatever ended it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tars_ports::{EndReason, Ended, Incoming};
use tokio::task::JoinHandle;

use crate::error;
use crate::shared::Shared;

pub(crate) struct InboundStream {
    shared: Arc<Shared>,
    /// `None` once it has ended.
    driver: Option<JoinHandle<Ended>>,
    ended: Option<Ended>,
}

impl InboundStream {
    pub(crate) fn new(shared: Arc<Shared>, driver: JoinHandle<Ended>) -> Self {
        Self {
            shared,
            driver: Some(driver),
            ended: None,
        }
    }
}

impl Stream for InboundStream {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let this = self.get_mut();
        loop {
            let mut inbox = this.shared.inbox();
            if let Some((delivery, driver_waits)) = inbox.take() {
                drop(inbox);
                if driver_waits {
                    this.shared.wake.notify_one();
                }
                return Poll::Ready(Some(Incoming::Delivery(delivery)));
            }
            let Some(driver) = &mut this.driver else {
                // Acknowledgements given up to now count for the next connection,
                // even those that came too late to be sent.
                let session = inbox.session();
                drop(inbox);
                return Poll::Ready(this.ended.take().map(|mut ended| {
                    ended.session.inbound = session;
                    Incoming::Ended(ended)
                }));
            };
            inbox.wait(cx.waker());
            drop(inbox);
            let Poll::Ready(ended) = Pin::new(driver).poll(cx) else {
                return Poll::Pending;
            };
            this.driver = None;
            this.ended = Some(ended.unwrap_or_else(|failure| {
                Ended::new(EndReason::Lost(
                    error::internal("the connection's task was cut off").with_source(failure),
                ))
            }));
            // It may have delivered between the look and its end: look again.
        }
    }
}

impl Drop for InboundStream {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}
