//! User name and password for the next connection: asked for anew each time, so that a
//! rotated secret or a fresh token is taken over.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tars_ports::{Credentials, Error, ErrorKind};
use tokio::time::timeout;

use crate::config::Config;

/// Asked before each attempt to connect.
pub(crate) type Provider = Arc<dyn Fn() -> BoxFuture<'static, Result<Credentials, Error>> + Send + Sync>;

/// Those of the provider if there is one, else those of the configuration.
pub(crate) async fn current(config: &Config, provider: Option<&Provider>) -> Result<Option<Credentials>, Error> {
    if let Some(provider) = provider {
        return ask(config, provider).await.map(Some);
    }
    if config.password_file.is_none() {
        return Ok(config.credentials.clone());
    }
    // On a thread where waiting for a disk harms nobody.
    let config = config.clone();
    let read = tokio::task::spawn_blocking(move || config.current_credentials());
    read.await
        .map_err(|error| Error::new(ErrorKind::Internal, "reading the password file failed").with_source(error))?
}

async fn ask(config: &Config, provider: &Provider) -> Result<Credentials, Error> {
    // Also a panic of the call itself is the provider's, and not the session's end.
    let answer = AssertUnwindSafe(async { provider().await }).catch_unwind();
    let failed = match timeout(config.connect_timeout, answer).await {
        Ok(Ok(answer)) => return answer.map_err(|error| error.while_doing("asking for credentials")),
        Ok(Err(_)) => Error::new(ErrorKind::Internal, "the callback for credentials panicked"),
        Err(_) => Error::new(
            ErrorKind::Timeout,
            format!(
                "the callback for credentials did not answer within {:?}",
                config.connect_timeout
            ),
        ),
    };
    Err(failed)
}
