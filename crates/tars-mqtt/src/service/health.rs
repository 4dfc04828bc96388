//! The health status of this service: one value, of which the broker shall have the
//! newest. Statuses that follow each other quickly may overtake each other; whoever
//! waits for an older one is content with a newer.

use std::collections::VecDeque;

use bytes::Bytes;
use tars_contracts::{
    HEALTH_EVENT_TYPE, HealthStatus, TopicError, TopicName, fresh_id, health_topic, unix_now, write_envelope,
};
use tars_ports::{Error, Message, QoS, Receipt, Settled};
use tokio::sync::oneshot;

use crate::config::Config;

type Waiter = oneshot::Sender<Result<(), Error>>;

/// See the module.
pub(crate) struct Health {
    topic: TopicName,
    /// The newest status, published or not.
    last: HealthStatus,
    /// `last` is not with the broker, nor on its way.
    due: bool,
    /// A service set `last` while there was no connection.
    set_offline: bool,
    waiters: VecDeque<Waiter>,
    in_flight: Option<(Receipt, VecDeque<Waiter>)>,
}

impl Health {
    pub(crate) fn new(config: &Config) -> Result<Self, TopicError> {
        Ok(Self {
            topic: health_topic(&config.client_id)?,
            last: HealthStatus::new(true).with_event("connected"),
            due: false,
            set_offline: false,
            waiters: VecDeque::new(),
            in_flight: None,
        })
    }

    /// A new status, from the service or from the end of the session.
    pub(crate) fn set(&mut self, status: HealthStatus, online: bool, waiter: Option<Waiter>) {
        self.last = status;
        self.due = true;
        self.set_offline = !online;
        // During an outage nobody is answered for long: who gave up leaves nothing behind.
        self.waiters.retain(|waiter| !waiter.is_closed());
        self.waiters.extend(waiter);
    }

    /// A connection begins: the broker may have published the last will meanwhile.
    pub(crate) fn connection_began(&mut self, reconnected: bool, ending: bool) {
        let event = match (ending, reconnected) {
            (true, _) => "shutdown",
            (false, true) => "reconnected",
            (false, false) => "connected",
        };
        if !std::mem::take(&mut self.set_offline) || self.last.event.is_none() {
            let mut status = HealthStatus::new(self.last.ok).with_event(event);
            status.error = self.last.error.take();
            self.last = status;
        }
        self.due = true;
    }

    /// The service starts anew: after `disconnect()`, and `connect()` again.
    pub(crate) fn start_over(&mut self) {
        self.last = HealthStatus::new(true).with_event("connected");
        self.set_offline = false;
    }

    /// The same status once more.
    pub(crate) fn repeat(&mut self) {
        self.due = true;
    }

    /// The connection ended: what was on its way is due again.
    pub(crate) fn connection_ended(&mut self) {
        if let Some((_, mut waiters)) = self.in_flight.take() {
            waiters.append(&mut self.waiters);
            self.waiters = waiters;
            self.due = true;
        }
    }

    /// The message to publish now, if there is one and nothing is on its way.
    pub(crate) fn next(&self, config: &Config) -> Option<Message> {
        (self.due && self.in_flight.is_none()).then(|| self.message(&self.last, config))
    }

    /// A status as it goes out.
    pub(crate) fn message(&self, status: &HealthStatus, config: &Config) -> Message {
        message(&self.topic, status, config)
    }

    /// The connection can never take it over.
    pub(crate) fn rejected(&mut self, error: &Error) {
        tracing::error!(%error, "the health status cannot be published");
        self.fail_waiters(error);
    }

    /// The connection took it over.
    pub(crate) fn sent(&mut self, receipt: Receipt) {
        self.due = false;
        self.in_flight = Some((receipt, std::mem::take(&mut self.waiters)));
    }

    pub(crate) fn receipt(&mut self) -> Option<&mut Receipt> {
        self.in_flight.as_mut().map(|(receipt, _)| receipt)
    }

    /// What became of the one on its way.
    pub(crate) fn settled(&mut self, result: Result<Settled, Error>) {
        match result {
            Ok(_) => {
                if let Some((_, waiters)) = self.in_flight.take() {
                    for waiter in waiters {
                        let _ = waiter.send(Ok(()));
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the health status did not arrive; it is sent again");
                self.connection_ended();
            }
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        !self.due && self.in_flight.is_none()
    }

    /// Fails who still waits.
    pub(crate) fn fail_waiters(&mut self, error: &Error) {
        self.connection_ended();
        self.due = false;
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(Err(error.clone()));
        }
    }
}

/// What the broker publishes if this client vanishes (SPEC 3).
pub(crate) fn last_will(config: &Config) -> Result<Message, TopicError> {
    let status = HealthStatus::new(false)
        .with_event("offline")
        .with_error("connection lost");
    Ok(message(&health_topic(&config.client_id)?, &status, config))
}

fn message(topic: &TopicName, status: &HealthStatus, config: &Config) -> Message {
    let mut payload = Vec::with_capacity(256);
    let data = status.in_format(config.health_format);
    write_envelope(
        &mut payload,
        &fresh_id(),
        HEALTH_EVENT_TYPE,
        unix_now(),
        &config.source_name,
        &data,
    )
    .expect("a health status is a JSON object");
    Message::new(topic.clone(), Bytes::from(payload))
        .with_qos(QoS::AtLeastOnce)
        .with_retain(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gave_up_waiting_leaves_nothing_behind() {
        let config = Config::builder().url("mqtt://memory").client_id("svc").build().unwrap();
        let mut health = Health::new(&config).unwrap();
        for _ in 0..100 {
            let (waiter, _) = oneshot::channel();
            health.set(HealthStatus::new(true), false, Some(waiter));
        }
        assert_eq!(health.waiters.len(), 1);
    }
}
