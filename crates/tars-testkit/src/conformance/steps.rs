//! The steps that behaviours are made of. Each is bounded and fails with a sentence.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tars_contracts::{TopicFilter, TopicName};
use tars_ports::{
    AckOutcome, ConnectOptions, Connected, Connection, Delivery, EndReason, Ended, Error, Inbound, Incoming, Message,
    PublisherExt, QoS, Receipt, SessionState, Subscriber, TryPublishError,
};
use tokio::time::{sleep, timeout};

use super::{Failure, OrFail, PATIENCE, Setup, ensure};

/// What ends a listener's collecting.
const MARKER: &str = "suite/marker";

/// What every listener is subscribed to.
pub(super) const ALL: &str = "suite/#";

pub(super) async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> Result<T, Failure> {
    match timeout(PATIENCE, wait).await {
        Ok(value) => Ok(value),
        Err(_) => Err(Failure::new(format!("waited {PATIENCE:?} in vain: {what}"))),
    }
}

/// Looks again until it holds; for what has no event of its own.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failure> {
    let look = async {
        while !holds() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    soon(what, look).await
}

/// Polls a future up to so many times, each time when it asked for it, and drops it.
/// `None` where it had not resolved by then, or asked for nothing for a while.
pub(super) async fn polled<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = times;
    let polling = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    timeout(Duration::from_millis(300), polling).await.ok().flatten()
}

pub(super) fn topic(text: &str) -> Result<TopicName, Failure> {
    TopicName::new(format!("suite/{text}")).or_fail("the suite's own topic")
}

pub(super) fn filter(text: &str) -> Result<TopicFilter, Failure> {
    TopicFilter::new(text).or_fail("the suite's own filter")
}

pub(super) fn message(text: &str, payload: impl Into<Bytes>, qos: QoS) -> Result<Message, Failure> {
    Ok(Message::new(topic(text)?, payload).with_qos(qos))
}

/// A message whose payload is a number.
pub(super) fn numbered(text: &str, number: u32, qos: QoS) -> Result<Message, Failure> {
    message(text, number.to_be_bytes().to_vec(), qos)
}

pub(super) fn number(delivery: &Delivery) -> Result<u32, Failure> {
    let bytes = delivery.payload.as_ref().try_into();
    Ok(u32::from_be_bytes(bytes.or_fail("a payload is not what was sent")?))
}

/// A connection under test.
pub(super) struct Client {
    pub(super) connection: Arc<dyn Connection>,
    /// The lock is never waited for: it makes a stream that is not `Sync` part of a
    /// client that is.
    pub(super) inbound: Mutex<Inbound>,
    pub(super) session_present: bool,
    pub(super) resumed: Vec<(u64, Receipt)>,
}

impl From<Connected> for Client {
    fn from(connected: Connected) -> Self {
        Self {
            connection: connected.connection,
            inbound: Mutex::new(connected.inbound),
            session_present: connected.session_present,
            resumed: connected.resumed,
        }
    }
}

impl Client {
    /// With a clean session and no faults.
    pub(super) async fn connect(setup: &Setup, client_id: &str) -> Result<Self, Failure> {
        Self::connect_with(setup, &setup.options(client_id), SessionState::new()).await
    }

    /// As [`connect`](Self::connect), subscribed to everything.
    pub(super) async fn listen(setup: &Setup, client_id: &str, qos: QoS) -> Result<Self, Failure> {
        let client = Self::connect(setup, client_id).await?;
        client.subscribe(ALL, qos).await?;
        Ok(client)
    }

    /// With a session that is kept.
    pub(super) async fn keep(setup: &Setup, options: &ConnectOptions, session: SessionState) -> Result<Self, Failure> {
        let mut options = options.clone();
        options.clean_session = false;
        Self::connect_with(setup, &options, session).await
    }

    pub(super) async fn connect_with(
        setup: &Setup,
        options: &ConnectOptions,
        session: SessionState,
    ) -> Result<Self, Failure> {
        let connected = soon("connecting", setup.connector.connect(options, session)).await?;
        Ok(connected
            .or_fail(format!("{} was not connected", options.client_id))?
            .into())
    }

    pub(super) async fn subscribe(&self, text: &str, qos: QoS) -> Result<(), Failure> {
        let filters = [(filter(text)?, qos)];
        let answer = soon("SUBACK", self.connection.subscribe(&filters)).await?;
        let answer = answer.or_fail(format!("subscribing to {text}"))?;
        ensure!(answer == [Ok(qos)], "asked for {text} at QoS {qos}, got {answer:?}");
        Ok(())
    }

    pub(super) async fn publish(&self, message: Message) -> Result<Receipt, Failure> {
        let topic = message.topic.clone();
        let taken = soon("room for a publish", self.connection.publish(message)).await?;
        taken.or_fail(format!("publishing to {}", topic.as_str()))
    }

    /// Publishes, and waits for the receipt.
    pub(super) async fn publish_settled(&self, message: Message) -> Result<(), Failure> {
        let receipt = self.publish(message).await?;
        settled(receipt).await
    }

    /// The link works: a QoS 1 message goes out and is confirmed. No listener gets it.
    pub(super) async fn works(&self, when: &str) -> Result<(), Failure> {
        let topic = TopicName::new("suite-alive").or_fail("the suite's own topic")?;
        let sent = self
            .publish_settled(Message::new(topic, "yes").with_qos(QoS::AtLeastOnce))
            .await;
        sent.map_err(|failure| Failure::new(format!("{when} the connection does not work: {failure}")))
    }

    /// Publishes until no room is left, without letting anything else run in between.
    pub(super) fn fill(
        &self,
        bound: usize,
        mut message: impl FnMut() -> Result<Message, Failure>,
    ) -> Result<Vec<Receipt>, Failure> {
        let mut receipts = Vec::new();
        while receipts.len() < bound {
            match self.connection.try_publish(message()?) {
                Ok(receipt) => receipts.push(receipt),
                Err(TryPublishError::Full(_)) => return Ok(receipts),
                Err(error) => return Err(Failure::new(format!("publishing failed with {error:?}"))),
            }
        }
        Err(Failure::new(format!(
            "{bound} messages were taken over and none was Full"
        )))
    }

    pub(super) async fn next(&mut self, what: &str) -> Result<Option<Incoming>, Failure> {
        soon(what, next(&mut self.inbound)).await
    }

    pub(super) async fn delivery(&mut self) -> Result<Delivery, Failure> {
        match self.next("a delivery").await? {
            Some(Incoming::Delivery(delivery)) => Ok(delivery),
            other => Err(Failure::new(format!("awaited a delivery, got {other:?}"))),
        }
    }

    /// The next delivery, acknowledged.
    pub(super) async fn take(&mut self) -> Result<Delivery, Failure> {
        let delivery = self.delivery().await?;
        self.ack(&delivery);
        Ok(delivery)
    }

    pub(super) async fn deliveries(&mut self, count: usize) -> Result<Vec<Delivery>, Failure> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let delivery = self.delivery().await;
            all.push(delivery.map_err(|failure| {
                Failure::new(format!("{} of {count} deliveries came; then {failure}", all.len()))
            })?);
        }
        Ok(all)
    }

    pub(super) fn ack(&self, delivery: &Delivery) {
        if let Some(token) = delivery.token {
            self.connection.ack(token, AckOutcome::Done);
        }
    }

    /// Everything that comes to this listener before what is published now: where a
    /// message is not among it, it will not come. All of it is acknowledged.
    pub(super) async fn rest(&mut self, setup: &Setup) -> Result<Vec<Delivery>, Failure> {
        let sender = Self::connect(setup, "marker").await?;
        let mark = Message::new(TopicName::new(MARKER).or_fail("the marker's topic")?, "").with_qos(QoS::AtLeastOnce);
        sender.publish_settled(mark).await?;
        let mut rest = Vec::new();
        loop {
            let delivery = self.take().await?;
            if delivery.topic.as_str() == MARKER {
                break;
            }
            rest.push(delivery);
        }
        sender.disconnect().await?;
        Ok(rest)
    }

    /// The end, which nothing may follow. Deliveries before it are skipped.
    pub(super) async fn ended(&mut self) -> Result<Ended, Failure> {
        let ended = loop {
            match self.next("the end of the connection").await? {
                Some(Incoming::Delivery(_)) => {}
                Some(Incoming::Ended(ended)) => break ended,
                other => return Err(Failure::new(format!("awaited Ended, got {other:?}"))),
            }
        };
        let after = self.next("the end of the stream").await?;
        ensure!(after.is_none(), "after Ended came {after:?}");
        Ok(ended)
    }

    /// The end, which must be a loss.
    pub(super) async fn lost(&mut self) -> Result<Error, Failure> {
        match self.ended().await?.reason {
            EndReason::Lost(error) => Ok(error),
            other => Err(Failure::new(format!("awaited a lost connection, got {other:?}"))),
        }
    }

    /// A clean end.
    pub(super) async fn disconnect(mut self) -> Result<(), Failure> {
        let done = soon("disconnect", self.connection.disconnect()).await?;
        done.or_fail("a clean disconnect")?;
        let reason = self.ended().await?.reason;
        ensure!(
            matches!(reason, EndReason::Disconnected),
            "disconnected, and Ended says {reason:?}"
        );
        Ok(())
    }
}

pub(super) async fn next(inbound: &mut Mutex<Inbound>) -> Option<Incoming> {
    let inbound = inbound.get_mut().unwrap_or_else(PoisonError::into_inner);
    poll_fn(|cx| inbound.as_mut().poll_next(cx)).await
}

/// The receipt says that the broker has the message.
pub(super) async fn settled(receipt: Receipt) -> Result<(), Failure> {
    let outcome = soon("a receipt that settles", receipt).await?;
    outcome.or_fail("a publish was not confirmed")?;
    Ok(())
}
