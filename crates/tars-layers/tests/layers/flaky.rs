//! A publisher that does what it is told, or what chance says, and remembers what arrived.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tars_ports::{Error, ErrorKind, Fate, Message, Publisher, QoS, Receipt, Settled, TryPublishError};
use tokio::sync::Notify;
use tokio::time::sleep;

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Arrived, and the receipt says so.
    Arrives,
    /// Not taken over: there is no connection.
    NotConnected,
    /// Not taken over, for good.
    TooLarge,
    /// Taken over and certainly not sent.
    NotSent,
    /// The connection ended; it had arrived.
    LostButArrived,
    /// The connection ended; it had not arrived.
    Lost,
    /// Never settled.
    Held,
}

#[derive(Default)]
struct State {
    script: VecDeque<Outcome>,
    otherwise: Option<(fastrand::Rng, u8)>,
    arrived: Vec<Message>,
    attempts: usize,
    unsettled: usize,
    most_unsettled: usize,
}

/// Clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct Flaky {
    state: Arc<Mutex<State>>,
    progress: Arc<Notify>,
    room: usize,
}

impl Flaky {
    /// The outcomes of the first messages; of all others, that they arrive.
    pub(crate) fn new(script: impl IntoIterator<Item = Outcome>) -> Self {
        let state = State {
            script: script.into_iter().collect(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            progress: Arc::default(),
            room: 8,
        }
    }

    /// Of 100 messages so many fail, each in a way of its own.
    pub(crate) fn random(seed: u64, percent: u8) -> Self {
        let flaky = Self::new([]);
        flaky.state.lock().unwrap().otherwise = Some((fastrand::Rng::with_seed(seed), percent));
        flaky
    }

    pub(crate) fn arrived(&self) -> Vec<Message> {
        self.state.lock().unwrap().arrived.clone()
    }

    pub(crate) fn payloads(&self) -> Vec<String> {
        let text = |message: Message| String::from_utf8(message.payload.to_vec()).unwrap();
        self.arrived().into_iter().map(text).collect()
    }

    pub(crate) fn attempts(&self) -> usize {
        self.state.lock().unwrap().attempts
    }

    pub(crate) fn most_unsettled(&self) -> usize {
        self.state.lock().unwrap().most_unsettled
    }

    fn next_outcome(state: &mut State) -> Outcome {
        use Outcome::*;
        if let Some(outcome) = state.script.pop_front() {
            return outcome;
        }
        let Some((random, percent)) = &mut state.otherwise else {
            return Arrives;
        };
        if random.u8(0..100) >= *percent {
            return Arrives;
        }
        [NotConnected, NotSent, LostButArrived, Lost][random.usize(0..4)]
    }

    fn settle(&self, message: Message, outcome: Outcome) -> Result<Settled, Error> {
        let mut state = self.state.lock().unwrap();
        if matches!(outcome, Outcome::Arrives | Outcome::LostButArrived | Outcome::Held) {
            state.arrived.push(message);
        }
        drop(state);
        let lost = |fate| Err(Error::new(ErrorKind::ConnectionLost, "the link was cut").with_fate(fate));
        match outcome {
            Outcome::Arrives | Outcome::Held => Ok(Settled::default()),
            Outcome::NotSent => lost(Fate::NotSent),
            _ => lost(Fate::Unknown),
        }
    }
}

#[async_trait]
impl Publisher for Flaky {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        let mut state = self.state.lock().unwrap();
        if state.unsettled >= self.room {
            return Err(TryPublishError::Full(message));
        }
        state.attempts += 1;
        let outcome = Self::next_outcome(&mut state);
        let failed = |kind, text: &'static str| Err(TryPublishError::Failed(Error::new(kind, text)));
        match outcome {
            Outcome::NotConnected => return failed(ErrorKind::NotConnected, "there is no connection"),
            Outcome::TooLarge => return failed(ErrorKind::TooLarge, "it does not fit"),
            Outcome::Arrives if message.qos == QoS::AtMostOnce => {
                state.arrived.push(message);
                return Ok(Receipt::settled());
            }
            _ => {}
        }
        state.unsettled += 1;
        state.most_unsettled = state.most_unsettled.max(state.unsettled);
        drop(state);
        let (settler, receipt) = Receipt::pair();
        let flaky = self.clone();
        tokio::spawn(async move {
            match outcome {
                Outcome::Held => std::future::pending().await,
                _ => sleep(Duration::from_millis(20)).await,
            }
            let result = flaky.settle(message, outcome);
            flaky.state.lock().unwrap().unsettled -= 1;
            settler.settle(result);
            flaky.progress.notify_waiters();
        });
        Ok(receipt)
    }

    async fn ready(&self, _qos: QoS) -> Result<(), Error> {
        loop {
            let progress = self.progress.notified();
            if self.state.lock().unwrap().unsettled < self.room {
                return Ok(());
            }
            progress.await;
        }
    }
}
