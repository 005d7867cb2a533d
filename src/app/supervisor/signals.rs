//! Wiring: signals, and what they mean to the supervisor.

use std::io;
use std::task::{Context, Waker};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the signals mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Reload,
    Reopen,
    Upgrade,
    Stop,
}

/// Those that this process handles.
pub(super) struct Signals {
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// Whether a reload has been asked for that nobody has heard of; now somebody has.
    pub(super) fn reload_is_pending(&mut self) -> bool {
        self.hup.poll_recv(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hup.recv() => Wish::Reload,
            _ = self.usr1.recv() => Wish::Reopen,
            _ = self.usr2.recv() => Wish::Upgrade,
            _ = self.term.recv() => Wish::Stop,
            _ = self.int.recv() => Wish::Stop,
        }
    }
}
