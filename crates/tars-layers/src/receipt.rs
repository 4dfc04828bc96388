//! Receipts that are looked at without waiting.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tars_ports::{Error, Receipt, Settled};

/// What a receipt says at this moment; one that has not settled comes back.
pub(crate) fn peek(mut receipt: Receipt) -> Result<Result<Settled, Error>, Receipt> {
    match Pin::new(&mut receipt).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Ok(result),
        Poll::Pending => Err(receipt),
    }
}

/// A receipt that has settled so.
pub(crate) fn settled(result: Result<Settled, Error>) -> Receipt {
    if result.is_ok() {
        return Receipt::settled();
    }
    let (settler, receipt) = Receipt::pair();
    settler.settle(result);
    receipt
}
