//! Shell: what panics. Each is a mistake of Strata's: it is logged where an operator looks, and counted.
//!
//! The standard hook writes to standard error itself, and would hold a worker where nobody reads that. Not here: what a panic costs
//! (`app::worker`: one connection; a runtime drops no more than the task).

use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::events;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// From now on panics of every thread are logged and counted.
pub fn watch() {
    panic::set_hook(Box::new(note));
}

/// The same, and tests see their panics as well.
#[cfg(test)]
pub(crate) fn watch_beside() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            note(info);
            before(info);
        }));
    });
}

/// So far, in this process.
pub fn count() -> u64 {
    COUNT.load(Relaxed)
}

fn note(info: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Relaxed);
    let what = info.payload_as_str().unwrap_or("no message");
    let thread = std::thread::current();
    tracing::error!(
        event = events::PROCESS,
        thread = thread.name().unwrap_or("unnamed"),
        location = info.location().map(tracing::field::display),
        "panicked: {what}: a mistake of Strata's, please report it"
    );
}
