//! One message, sent until it has settled or trying again makes no sense.

use std::time::Duration;

use tars_ports::{Error, ErrorKind, Fate, Message, Publisher, PublisherExt, QoS, Receipt, Settled};
use tokio::time::sleep;

use crate::retry::Policy;
use crate::tasks::Tasks;

/// Whether sending again can help and does no harm: what was certainly not sent, and at
/// QoS 1 (at least once) also what may have arrived.
pub(crate) fn may_retry(error: &Error, qos: QoS) -> bool {
    error.is_transient() && (error.fate() == Some(Fate::NotSent) || qos == QoS::AtLeastOnce)
}

/// Sends `message` as often as the policy says; `first` is an attempt that was made already.
/// At the end of a closing layer's patience it gives up.
///
/// The error's fate is that of all attempts together: `NotSent` only if none of them may
/// have arrived.
pub(crate) async fn deliver<P: Publisher>(
    inner: &P,
    message: &Message,
    first: Option<Result<Receipt, Error>>,
    policy: &Policy,
    tasks: &Tasks,
) -> Result<Settled, Error> {
    let mut uncertain = false;
    let result = {
        let attempts = attempts(inner, message, first, policy, tasks, &mut uncertain);
        tokio::select! {
            biased;
            result = attempts => result,
            () = tasks.overdue() => {
                Err(Error::new(ErrorKind::Timeout, "the layer was shut down before the message settled"))
            }
        }
    };
    let fate = if uncertain { Fate::Unknown } else { Fate::NotSent };
    result.map_err(|error| error.with_fate(fate))
}

async fn attempts<P: Publisher>(
    inner: &P,
    message: &Message,
    first: Option<Result<Receipt, Error>>,
    policy: &Policy,
    tasks: &Tasks,
    uncertain: &mut bool,
) -> Result<Settled, Error> {
    let mut attempt = match first {
        Some(attempt) => attempt,
        None => inner.publish(message.clone()).await,
    };
    for number in 1u32.. {
        let before = *uncertain;
        let error = match attempt {
            Ok(receipt) => {
                // Under way: whoever gives up now does not know.
                *uncertain = true;
                match receipt.await {
                    Ok(settled) => return Ok(settled),
                    Err(error) => error,
                }
            }
            // Not taken over, so not sent.
            Err(error) => error.with_fate(Fate::NotSent),
        };
        *uncertain = before || error.fate() != Some(Fate::NotSent);
        if number >= policy.attempts || !may_retry(&error, message.qos) {
            return Err(match number {
                1 => error,
                _ => error.while_doing(format_args!("attempt {number} for {}", message.topic)),
            });
        }
        pause(policy.delay(number), policy.min, tasks).await;
        attempt = inner.publish(message.clone()).await;
    }
    unreachable!("as many attempts as there are numbers")
}

/// A closing layer does not sit out a long delay, nor does it hurry without any.
async fn pause(delay: Duration, least: Duration, tasks: &Tasks) {
    if !tasks.is_closing() {
        tokio::select! {
            () = sleep(delay) => return,
            () = tasks.closing() => {}
        }
    }
    sleep(least.min(delay)).await;
}
