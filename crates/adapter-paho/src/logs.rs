//! Keeps paho's log lines down where they would show secrets.

use std::sync::{Mutex, Once, PoisonError};

use log::LevelFilter;
use paho_mqtt::{AsyncClient, CreateOptionsBuilder};

static CAPPED: Mutex<()> = Mutex::new(());
static TRACE_OFF: Once = Once::new();

/// Runs `call` while nothing below `level` is logged in this process: there is no way
/// to address paho alone. Whoever sets the level at the same moment is overruled.
pub(crate) fn capped<T>(level: LevelFilter, call: impl FnOnce() -> T) -> T {
    let _one_at_a_time = CAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let before = log::max_level();
    log::set_max_level(before.min(level));
    let result = call();
    log::set_max_level(before);
    result
}

/// The C library's trace, which shows payloads, is set up with the first client of
/// the process, if a logger would take it. This is that client: it fails before it reaches C.
pub(crate) fn keep_c_trace_off() {
    TRACE_OFF.call_once(|| {
        capped(LevelFilter::Off, || {
            let impossible = CreateOptionsBuilder::new().server_uri("\0").persistence(None);
            drop(AsyncClient::new(impossible.finalize()));
        });
    });
}
