//! Wiring: what systemd is told (sd_notify(3)): ready, reloading, stopping, a line of status, and that all live (watchdog).
//!
//! Without `NOTIFY_SOCKET` nothing is sent. After an upgrade only the process that systemd takes for the main one is heard, so the
//! new one keeps silent until the old one has named it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use sd_notify::NotifyState;

/// Whether this process speaks. One a process, as there is one `NOTIFY_SOCKET`.
static SPEAKS: AtomicBool = AtomicBool::new(false);

/// From now on this process is the main one, and says how it is.
pub fn begin() {
    SPEAKS.store(true, Relaxed);
}

/// Another process is the main one from now on: `pid`. It serves already.
pub fn hand_over(pid: u32) {
    // The other one gets the whole time of the watchdog until it must be heard.
    alive();
    tell(&[NotifyState::MainPid(pid), NotifyState::Ready]);
    SPEAKS.store(false, Relaxed);
}

pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// [`ready`] must follow, however the reload ends. systemd 253 wants to know when this was sent.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]);
    }
}

/// A line for `systemctl status`; nothing else changes.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// It ends within this time, and systemd is not to kill it before, whatever `TimeoutStopSec` says.
pub fn stopping(status: &str, within: Duration) {
    let within = format!("EXTEND_TIMEOUT_USEC={}", within.as_micros());
    tell(&[NotifyState::Stopping, NotifyState::Custom(&within), NotifyState::Status(status)]);
}

pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Within which time systemd wants to hear [`alive`], where it does.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|time| !time.is_zero())
}

fn tell(states: &[NotifyState<'_>]) {
    if !SPEAKS.load(Relaxed) {
        return;
    }
    let outcome: io::Result<()> = sd_notify::notify(states);
    if let Err(error) = outcome {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
