//! The items of a stream, put in order: bounded, with a limit for what is missing.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tars_contracts::Envelope;
use tars_ports::{Error, ErrorKind};
use tokio::sync::mpsc;
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::error_reply::ErrorReply;
use super::request::{Ready, read};
use super::stream::{Limits, too_late};
use crate::stats::count;

#[derive(Deserialize, Default)]
struct Place {
    #[serde(default)]
    data: PlaceData,
}

#[derive(Deserialize, Default)]
struct PlaceData {
    #[serde(default)]
    seq: serde_json::Value,
    #[serde(default)]
    done: serde_json::Value,
}

/// An item's `seq`, if it has one, and whether it is the last.
fn place(payload: &[u8]) -> (Option<u64>, bool) {
    let Place { data } = serde_json::from_slice(payload).unwrap_or_default();
    (data.seq.as_u64(), data.done.as_bool() == Some(true))
}

/// What ends a stream from outside: sending failed, or the client ended.
type Ending = BoxFuture<'static, Error>;

/// See the module. The order of fields is that of dropping: who sends goes first.
pub(super) struct InOrder<R> {
    /// Until the first item came: then the request has arrived and is not sent again.
    sending: Option<Ending>,
    ended: Ending,
    ready: Arc<Ready>,
    items: mpsc::Receiver<Bytes>,
    limits: Limits,
    next: u64,
    early: BTreeMap<u64, Bytes>,
    /// Since when the next one is missing.
    missing_since: Option<Instant>,
    last_came: Instant,
    over: bool,
    item: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned + Send + 'static> InOrder<R> {
    /// Hands the request over.
    pub(super) fn begin(ready: Ready, items: mpsc::Receiver<Bytes>, limits: Limits) -> Result<Self, Error> {
        let ready = Arc::new(ready);
        let (sending, ending) = (ready.clone(), ready.clone());
        let mut sending: Ending = Box::pin(async move { sending.sent().await });
        // Unconstrained: at the end of tokio's budget for one turn nothing would be handed over.
        if let Some(error) = unconstrained(&mut sending).now_or_never() {
            return Err(error);
        }
        Ok(Self {
            sending: Some(sending),
            ended: Box::pin(async move { ending.ended().await }),
            ready,
            items,
            next: limits.first_seq,
            limits,
            early: BTreeMap::new(),
            missing_since: None,
            last_came: Instant::now(),
            over: false,
            item: PhantomData,
        })
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Envelope<R>, Error>> + Send {
        unfold(self, |mut items| async move {
            let item = items.next().await?;
            if item.is_err() {
                items.over = true;
            }
            let what = &items.ready.what;
            Some((item.map_err(|error| error.while_doing(what)), items))
        })
    }

    async fn next(&mut self) -> Option<Result<Envelope<R>, Error>> {
        loop {
            if self.over {
                return None;
            }
            if let Some(payload) = self.early.remove(&self.next) {
                self.next += 1;
                // What is still missing, if anything, is another one: it has time of its own.
                self.missing_since = (!self.early.is_empty()).then(Instant::now);
                let (_, done) = place(&payload);
                return self.give(&payload, done);
            }
            let payload = match self.arrival().await {
                Ok(payload) => payload,
                Err(error) => return Some(Err(error)),
            };
            let (seq, done) = place(&payload);
            match seq {
                None if done && !self.early.is_empty() => return Some(Err(self.gap())),
                None => return self.give(&payload, done),
                Some(seq) if seq < self.next => count(&self.ready.shared.stats.replies_ignored),
                Some(seq) => {
                    self.early.insert(seq, payload);
                    if seq != self.next {
                        self.missing_since.get_or_insert_with(Instant::now);
                    }
                    // The one that is wanted next waits for nothing.
                    if self.early.len() > self.limits.buffer && !self.early.contains_key(&self.next) {
                        return Some(Err(self.gap()));
                    }
                }
            }
        }
    }

    /// The next payload that comes, or why none does.
    async fn arrival(&mut self) -> Result<Bytes, Error> {
        let idle = self.limits.idle.unwrap_or_default();
        let gap_at = self.missing_since.and_then(|since| since.checked_add(self.limits.gap));
        let idle_at = self.last_came.checked_add(idle);
        let came = tokio::select! {
            biased;
            item = self.items.recv() => item.ok_or_else(|| {
                let what = "the items came faster than they were read: read faster, or raise `buffer`";
                Error::new(ErrorKind::Full, what)
            }),
            error = &mut self.ended => Err(error),
            error = failed(&mut self.sending) => Err(error),
            () = at(gap_at) => Err(self.gap()),
            () = at(idle_at) => Err(too_late(idle)),
        };
        if came.is_ok() {
            self.last_came = Instant::now();
            self.sending = None;
        }
        came
    }

    fn give(&mut self, payload: &[u8], done: bool) -> Option<Result<Envelope<R>, Error>> {
        self.over = done;
        // The last one may carry nothing but that it is the last.
        let says_nothing = || Envelope::<R>::from_bytes(payload).is_err() && ErrorReply::read(payload).is_none();
        if done && says_nothing() {
            return None;
        }
        Some(read(payload, &self.ready.shared))
    }

    fn gap(&self) -> Error {
        let (missing, later) = (self.next, self.early.len());
        let what = format!("item {missing} of the stream is missing, while {later} later ones are there");
        Error::new(ErrorKind::Gap, what)
    }
}

async fn failed(sending: &mut Option<Ending>) -> Error {
    match sending {
        Some(sending) => Pin::new(sending).await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
