//! What waits for an answer: a publish for its confirmation, a question for its
//! SUBACK or UNSUBACK.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::Sender;

use paho_mqtt::{Error as PahoError, ServerResponse, Token};
use tars_ports::{Error, Fate, QoS, Refused, Settler};
use tokio::sync::oneshot;

use crate::client::Call;
use crate::outbox::{Command, Granted, Queued};
use crate::{convert, error};

/// Dropping one settles its receipt as "outcome unknown".
pub(super) type Flow = Pin<Box<dyn Future<Output = Outcome> + Send>>;

pub(super) enum Outcome {
    Published {
        qos: QoS,
        size: usize,
        settler: Option<Settler>,
        result: Result<(), Error>,
    },
    Answered,
    /// Nobody waits any more, or the link ended.
    Unanswered,
    /// The answer broke the protocol.
    Broken(Error),
}

pub(super) fn publish(calls: &Sender<Call>, queued: Queued, address: &str) -> Flow {
    let Queued { message, settler } = queued;
    let (qos, size) = (message.qos, message.payload.len());
    let (token, taken) = oneshot::channel();
    // A thread that is gone drops the call, and with it `token`.
    let _ = calls.send(Call::Publish { message, token });
    let address = address.to_owned();
    Box::pin(async move {
        let result = match taken.await {
            Err(_) => Err(error::unanswered(&address).with_fate(Fate::NotSent)),
            Ok(Err(cause)) => Err(error::not_taken(&address, cause)),
            Ok(Ok(token)) => match token.await {
                Ok(_) => Ok(()),
                Err(cause) => Err(error::unconfirmed(&address, cause)),
            },
        };
        Outcome::Published {
            qos,
            size,
            settler,
            result,
        }
    })
}

pub(super) fn ask(calls: &Sender<Call>, command: Command, address: &str) -> Flow {
    let (token, asked) = oneshot::channel();
    let address = address.to_owned();
    match command {
        Command::Subscribe { filters, reply } => {
            let count = filters.len();
            let _ = calls.send(Call::Subscribe { filters, token });
            Box::pin(answer(asked, reply, address, move |response, address| {
                granted(count, response, address)
            }))
        }
        Command::Unsubscribe { filters, reply } => {
            let _ = calls.send(Call::Unsubscribe { filters, token });
            Box::pin(answer(asked, reply, address, |response, address| {
                response.map(drop).map_err(|cause| failed(address, cause))
            }))
        }
    }
}

async fn answer<T>(
    asked: oneshot::Receiver<Token>,
    mut reply: oneshot::Sender<Result<T, Error>>,
    address: String,
    read: impl FnOnce(Result<ServerResponse, PahoError>, &str) -> Result<T, Error>,
) -> Outcome {
    let response = async {
        match asked.await {
            Ok(token) => token.await,
            Err(_) => Err(PahoError::Disconnected),
        }
    };
    let response = tokio::select! {
        response = response => response,
        // A question that paho never answers (it happens) must not stay for ever.
        () = reply.closed() => return Outcome::Unanswered,
    };
    let result = read(response, &address);
    let outcome = match &result {
        Ok(_) => Outcome::Answered,
        Err(error) if error.kind() == tars_ports::ErrorKind::Protocol => Outcome::Broken(error.clone()),
        Err(_) => Outcome::Unanswered,
    };
    // The caller may have given up at this moment.
    let _ = reply.send(result);
    outcome
}

/// With one filter a refusal is a failure without a reason; with several it is a code.
fn granted(count: usize, response: Result<ServerResponse, PahoError>, address: &str) -> Result<Granted, Error> {
    let response = match response {
        Ok(response) => response,
        Err(PahoError::Failure) if count == 1 => return Ok(vec![Err(Refused::default())]),
        Err(cause) => return Err(failed(address, cause)),
    };
    let codes = response.subscribe_many_response().unwrap_or_default();
    let granted: Option<Granted> = codes.iter().map(|code| convert::granted(*code)).collect();
    match granted {
        Some(granted) if granted.len() == count => Ok(granted),
        _ => Err(error::unexpected(
            address,
            format_args!("a SUBACK that does not fit its {count} filters"),
        )),
    }
}

fn failed(address: &str, cause: PahoError) -> Error {
    match cause {
        PahoError::Disconnected => error::not_connected(address),
        cause => error::unanswered(address).with_source(cause),
    }
}
