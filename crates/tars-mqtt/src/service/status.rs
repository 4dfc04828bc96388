//! Publishing the health of this service.

use std::future::IntoFuture;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tars_contracts::HealthStatus;
use tars_ports::Error;

use crate::client::Client;
use crate::session::Command;

/// A health status that has not been published: add `event` or `error`, then `.await`.
#[must_use = "nothing is published until it is awaited"]
pub struct PublishHealth {
    pub(crate) client: Client,
    pub(crate) status: HealthStatus,
}

impl PublishHealth {
    /// What happened, such as `ready`.
    pub fn event(mut self, event: impl Into<String>) -> Self {
        self.status = self.status.with_event(event);
        self
    }

    /// What is wrong.
    pub fn error(mut self, error: impl Into<String>) -> Self {
        self.status = self.status.with_error(error);
        self
    }
}

impl IntoFuture for PublishHealth {
    type Output = Result<(), Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        async move {
            self.client.shared().check_open()?;
            if !self.client.config().health {
                return Ok(());
            }
            let status = self.status;
            self.client
                .within_timeout(|reply| Command::Health { status, reply })
                .await
        }
        .boxed()
    }
}
