//! Patterns over publish and subscribe: requests and their answers.

mod answers;
mod error_reply;
mod in_order;
mod listen;
pub(crate) mod replies;
pub(crate) mod request;
pub(crate) mod respond;
pub(crate) mod retained;
pub(crate) mod stream;
pub(crate) mod stream_reply;

pub use error_reply::ErrorReply;
