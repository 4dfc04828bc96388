//! What the handles ask for and the driver has not begun: publishes,
//! subscriptions, the end.
//!
//! One lock decides between "taken over" and "ended", so nothing is taken over
//! that the end does not account for. Waiting for room holds nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tars_contracts::TopicFilter;
use tars_ports::{Error, Message, QoS, Receipt, Refused, Settler};
use tokio::sync::{Notify, oneshot};

/// A broker's answer to each filter.
pub(crate) type Granted = Vec<Result<QoS, Refused>>;

/// Publishes that wait at one time.
const MAX_PUBLISHES: usize = 128;
/// SUBSCRIBE and UNSUBSCRIBE packets that wait at one time.
const MAX_COMMANDS: usize = 32;

pub(crate) struct Queued {
    pub(crate) message: Message,
    /// `None` for QoS 0, whose receipt has settled.
    pub(crate) settler: Option<Settler>,
}

pub(crate) enum Command {
    Subscribe {
        filters: Vec<(TopicFilter, QoS)>,
        reply: oneshot::Sender<Result<Granted, Error>>,
    },
    Unsubscribe {
        filters: Vec<TopicFilter>,
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

/// How far the end has come. Stages only go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Open,
    /// Write out what was taken over, then DISCONNECT.
    Disconnecting,
    /// End at once.
    Closing,
    Ended,
}

/// Why something was not taken over.
pub(crate) enum Rejected<T> {
    Full(T),
    Ended,
}

struct State {
    publishes: VecDeque<Queued>,
    commands: VecDeque<Command>,
    stage: Stage,
}

pub(crate) struct Outbox {
    state: Mutex<State>,
    room: Notify,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                publishes: VecDeque::with_capacity(MAX_PUBLISHES),
                commands: VecDeque::new(),
                stage: Stage::Open,
            }),
            room: Notify::new(),
        }
    }

    /// Takes a publish over. The flag: the driver may be asleep and must be woken.
    pub(crate) fn push(&self, message: Message) -> Result<(Receipt, bool), Rejected<Message>> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Err(Rejected::Ended);
        }
        if state.publishes.len() >= MAX_PUBLISHES {
            return Err(Rejected::Full(message));
        }
        let (settler, receipt) = match message.qos {
            QoS::AtMostOnce => (None, Receipt::settled()),
            _ => {
                let (settler, receipt) = Receipt::pair();
                (Some(settler), receipt)
            }
        };
        // What it left in the queue waits for the socket or the window, and
        // either wakes the driver.
        let wake = state.publishes.is_empty();
        state.publishes.push_back(Queued { message, settler });
        Ok((receipt, wake))
    }

    /// Takes a SUBSCRIBE or UNSUBSCRIBE over.
    pub(crate) fn command(&self, command: Command) -> Result<(), Rejected<Command>> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Err(Rejected::Ended);
        }
        if state.commands.len() >= MAX_COMMANDS {
            return Err(Rejected::Full(command));
        }
        state.commands.push_back(command);
        Ok(())
    }

    /// Resolves when there may be room; `false` when there will be none any more.
    pub(crate) async fn publish_room(&self) -> bool {
        self.wait(|state| state.publishes.len() < MAX_PUBLISHES).await
    }

    pub(crate) async fn command_room(&self) -> bool {
        self.wait(|state| state.commands.len() < MAX_COMMANDS).await
    }

    async fn wait(&self, has_room: impl Fn(&State) -> bool) -> bool {
        loop {
            let mut notified = std::pin::pin!(self.room.notified());
            // Before the look, or a wake-up between look and wait is lost.
            notified.as_mut().enable();
            {
                let state = self.lock();
                if state.stage != Stage::Open {
                    return false;
                }
                if has_room(&state) {
                    return true;
                }
            }
            notified.await;
        }
    }

    /// The next publish, if `admit` lets it go. It keeps its place if not, and those behind it theirs.
    pub(crate) fn take_publish(&self, admit: impl FnOnce(&Message) -> bool) -> Option<Queued> {
        let mut state = self.lock();
        if !admit(&state.publishes.front()?.message) {
            return None;
        }
        let was_full = state.publishes.len() >= MAX_PUBLISHES;
        let next = state.publishes.pop_front();
        drop(state);
        if was_full {
            self.room.notify_waiters();
        }
        next
    }

    pub(crate) fn take_command(&self) -> Option<Command> {
        let mut state = self.lock();
        let was_full = state.commands.len() >= MAX_COMMANDS;
        let command = state.commands.pop_front();
        drop(state);
        if was_full {
            self.room.notify_waiters();
        }
        command
    }

    /// Takes out the QoS 1 and 2 publishes that the window holds back.
    pub(crate) fn take_acknowledged(&self) -> Vec<Queued> {
        let mut state = self.lock();
        let (held, unacknowledged): (VecDeque<_>, VecDeque<_>) =
            state.publishes.drain(..).partition(|queued| queued.settler.is_some());
        state.publishes = unacknowledged;
        held.into()
    }

    pub(crate) fn is_drained(&self) -> bool {
        let state = self.lock();
        state.publishes.is_empty() && state.commands.is_empty()
    }

    pub(crate) fn stage(&self) -> Stage {
        self.lock().stage
    }

    /// Goes forward to `stage`, if it is further on.
    pub(crate) fn advance(&self, stage: Stage) {
        self.advance_if(stage, |_| true);
    }

    /// Ends at once, unless the end has begun: nobody is left who could ask for more.
    pub(crate) fn abandon(&self) {
        self.advance_if(Stage::Closing, |stage| stage == Stage::Open);
    }

    fn advance_if(&self, stage: Stage, allowed: impl FnOnce(Stage) -> bool) {
        let mut state = self.lock();
        if stage > state.stage && allowed(state.stage) {
            state.stage = stage;
            drop(state);
            self.room.notify_waiters();
        }
    }

    /// The end: nothing is taken over from here on. Returns what was.
    pub(crate) fn end(&self) -> (VecDeque<Queued>, VecDeque<Command>) {
        let mut state = self.lock();
        state.stage = Stage::Ended;
        let rest = (
            std::mem::take(&mut state.publishes),
            std::mem::take(&mut state.commands),
        );
        drop(state);
        self.room.notify_waiters();
        rest
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and if it did the queues are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
