//! The thread that owns paho's client, from its creation to its destruction. Nothing
//! else calls paho.
//!
//! Any call may wait for the lock that all clients of the process share, and the
//! destructor may take a second; so this is a blocking thread. The order that keeps
//! the library from deadlocking:
//!
//! 1. connect, and **await the token**, however long that takes: it holds the client,
//!    and a client that it drops on paho's thread locks itself out;
//! 2. `is_connected()`: it takes paho's lock, so the callback has let go of the token;
//! 3. only then drop, here.
//!
//! Nobody can cancel it. It ends when nobody awaits the connection, when its
//! connection has reached the end, or when the driver is gone.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use log::LevelFilter;
use paho_mqtt::{AsyncClient, ConnectOptions, CreateOptions, Error, Token};
use tars_contracts::TopicFilter;
use tars_ports::{Message, QoS};
use tokio::sync::oneshot;

use crate::arrivals::Arrivals;
use crate::outbox::Stage;
use crate::relay::Dialling;
use crate::shared::Shared;
use crate::{convert, logs};

/// Paho gives an attempt up by itself, checking every 3 s. So much longer, and it never will.
const OVERTIME: Duration = Duration::from_secs(30);

/// What the driver asks for. A token that is never sent: paho was not asked.
pub(crate) enum Call {
    Publish {
        message: Message,
        token: oneshot::Sender<Result<Token, Error>>,
    },
    Subscribe {
        filters: Vec<(TopicFilter, QoS)>,
        token: oneshot::Sender<Token>,
    },
    Unsubscribe {
        filters: Vec<TopicFilter>,
        token: oneshot::Sender<Token>,
    },
    Disconnect {
        patience: Duration,
        done: oneshot::Sender<Result<(), Error>>,
    },
}

/// One attempt to connect.
pub(crate) struct Attempt {
    pub(crate) create: CreateOptions,
    pub(crate) connect: ConnectOptions,
    /// After which paho gives it up, if nobody did before.
    pub(crate) timeout: Duration,
    pub(crate) shared: Arc<Shared>,
    pub(crate) arrivals: Arrivals,
    pub(crate) dialling: Dialling,
}

/// Connects, tells whether the broker had kept the session, and serves calls to the end.
pub(crate) fn run(attempt: Attempt, accepted: oneshot::Sender<Result<bool, Error>>, calls: &Receiver<Call>) {
    let Attempt {
        create,
        connect,
        timeout,
        shared,
        arrivals,
        dialling,
    } = attempt;
    logs::keep_c_trace_off();
    let client = match AsyncClient::new(create) {
        Ok(client) => client,
        Err(error) => return drop(accepted.send(Err(error))),
    };
    listen(&client, arrivals);
    let token = logs::capped(LevelFilter::Info, || client.connect(connect));
    let outcome = token.wait_for(timeout + OVERTIME);
    if matches!(outcome, Err(Error::Timeout)) {
        tracing::error!(
            address = shared.address,
            "paho never answered a connect; its client is left behind, because dropping it could stop the process"
        );
        std::mem::forget(client);
        return drop(accepted.send(outcome.map(|_| false)));
    }
    // The barrier.
    client.is_connected();
    drop(dialling);
    let outcome = outcome.map(|answer| {
        answer
            .connect_response()
            .is_some_and(|response| response.session_present)
    });
    let refused = outcome.is_err();
    if accepted.send(outcome).is_err() || refused {
        return;
    }
    serve(&client, &shared, calls);
    // The destructor sends DISCONNECT where it can.
}

fn listen(client: &AsyncClient, arrivals: Arrivals) {
    let arrivals = Arc::new(arrivals);
    let lost = Arc::clone(&arrivals);
    client.set_connection_lost_callback(move |_| lost.lost());
    client.set_message_callback(move |_, message| {
        // `None` stands for an end, which has a callback of its own.
        if let Some(message) = message {
            arrivals.message(message);
        }
    });
}

fn serve(client: &AsyncClient, shared: &Shared, calls: &Receiver<Call>) {
    // Whoever awaits a token may be gone; the call is made all the same.
    while let Ok(call) = calls.recv() {
        if shared.outbox.stage() >= Stage::Closing {
            return;
        }
        match call {
            Call::Publish { message, token } => {
                let publish = client.try_publish(convert::publish(&message));
                drop(token.send(publish.map(Token::from)));
            }
            Call::Subscribe { filters, token } => {
                let names: Vec<_> = filters.iter().map(|(filter, _)| filter.as_str()).collect();
                let qos: Vec<_> = filters.iter().map(|(_, qos)| convert::to_paho(*qos)).collect();
                drop(token.send(client.subscribe_many(&names, &qos)));
            }
            Call::Unsubscribe { filters, token } => {
                let names: Vec<_> = filters.iter().map(TopicFilter::as_str).collect();
                drop(token.send(client.unsubscribe_many(&names)));
            }
            Call::Disconnect { patience, done } => {
                let outcome = client.disconnect(None).wait_for(patience);
                client.is_connected();
                drop(done.send(outcome.map(drop)));
                return;
            }
        }
    }
}
