//! Patterns over publish and subscribe: requests and their answers.

mod answers;
mod error_reply;
pub(crate) mod replies;
pub(crate) mod request;
pub(crate) mod respond;

pub use error_reply::ErrorReply;
