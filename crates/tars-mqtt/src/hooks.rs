//! What a service wants to be told while it goes on: callbacks given to the builder.
//!
//! They are called by the client's own tasks, one at a time each, and must not block. A
//! panic in one is caught and logged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tars_ports::{Delivery, Error};

use crate::context::Context;
use crate::credentials::Provider;
use crate::handler::{InboundMessage, Invalid};
use crate::lifecycle::LifecycleEvent;

type Hook<Args> = Option<Arc<dyn Fn(Args) + Send + Sync>>;
type InvalidHook = Option<Arc<dyn Fn(&Context, &Invalid) + Send + Sync>>;
type DisconnectHook = Option<Arc<dyn Fn(Option<&Error>) + Send + Sync>>;
type MessageHook = Option<Arc<dyn Fn(&InboundMessage) + Send + Sync>>;

/// See the module.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) on_invalid: InvalidHook,
    /// With whether the broker had kept the session.
    pub(crate) on_connect: Hook<bool>,
    pub(crate) on_disconnect: DisconnectHook,
    pub(crate) on_message: MessageHook,
    /// The one that is asked, and not told: by the session's attempt to connect.
    pub(crate) credentials: Option<Provider>,
    connected: AtomicBool,
}

impl Hooks {
    pub(crate) fn invalid(&self, context: &Context, invalid: &Invalid) {
        if let Some(hook) = &self.on_invalid {
            guarded("invalid messages", || hook(context, invalid));
        }
    }

    pub(crate) fn message(&self, delivery: &Delivery) {
        if let Some(hook) = &self.on_message {
            let message = InboundMessage::of(delivery);
            guarded("messages", || hook(&message));
        }
    }

    pub(crate) fn lifecycle(&self, event: &LifecycleEvent) {
        let was_connected = |is: bool| self.connected.swap(is, Ordering::AcqRel);
        match event {
            LifecycleEvent::Connected { session_present } => {
                was_connected(true);
                if let Some(hook) = &self.on_connect {
                    guarded("connects", || hook(*session_present));
                }
            }
            LifecycleEvent::ConnectionLost { reason } => {
                was_connected(false);
                self.disconnected(Some(reason));
            }
            LifecycleEvent::Disconnected | LifecycleEvent::Shutdown if was_connected(false) => {
                self.disconnected(None);
            }
            _ => {}
        }
    }

    fn disconnected(&self, reason: Option<&Error>) {
        if let Some(hook) = &self.on_disconnect {
            guarded("disconnects", || hook(reason));
        }
    }
}

fn guarded(what: &str, hook: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(hook)).is_err() {
        tracing::error!(hook = what, "a hook panicked");
    }
}
