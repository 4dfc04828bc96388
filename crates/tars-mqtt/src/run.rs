//! A client for the length of a scope, and waiting for the signal to stop.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt;
use tars_ports::{Error, ErrorKind};

use crate::client::Client;
use crate::config::Config;
use crate::lifecycle::State;

/// Tells the session to shut down when the scope is cancelled: Rust has no async
/// drop, so the session does it by itself.
struct Guard(Option<Client>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            client.shutdown_soon();
        }
    }
}

impl Client {
    /// Connects, runs `service`, and shuts down in good order: when it returns, when
    /// it fails, and when it panics. This is the context manager of the original.
    ///
    /// If the future is dropped, the session is told to shut down and does so by
    /// itself; if the runtime ends first, the last will speaks.
    ///
    /// # Errors
    /// The error of the first connect, or that of `service`; with `MQTT_RECONNECT`
    /// off, the reason of the end of the connection.
    pub async fn run<F, Running, T, E>(config: Config, service: F) -> Result<T, E>
    where
        F: FnOnce(Client) -> Running,
        Running: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        Self::new(config)?.run_until(service).await
    }

    /// As [`run`](Self::run), with a client of a [`builder`](Self::builder).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_until<F, Running, T, E>(self, service: F) -> Result<T, E>
    where
        F: FnOnce(Client) -> Running,
        Running: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let mut guard = Guard(Some(self.clone()));
        self.connect().await?;
        let service = AssertUnwindSafe(service(self.clone())).catch_unwind();
        let result = tokio::select! {
            biased;
            result = service => result,
            reason = self.ended() => Ok(Err(reason.into())),
        };
        self.shutdown().await;
        guard.0 = None;
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Resolves if the client ends without having been asked to, with the reason.
    async fn ended(&self) -> Error {
        let mut state = self.state();
        loop {
            state.until(State::Disconnected).await;
            if let Some(reason) = self.shared().end_reason.get() {
                return reason.clone();
            }
            // Ended on request: whoever asked knows, and may connect again.
            if state.changed().await.is_none() {
                return std::future::pending().await;
            }
        }
    }

    /// Resolves when the process is asked to stop: SIGINT (Ctrl-C), and on Unix SIGTERM.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub async fn until_signal(&self) -> Result<(), Error> {
        let listening = |error| Error::new(ErrorKind::Internal, "signals cannot be listened to").with_source(error);
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate()).map_err(listening)?;
            tokio::select! {
                result = tokio::signal::ctrl_c() => result.map_err(listening),
                _ = terminate.recv() => Ok(()),
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await.map_err(listening)
    }
}
