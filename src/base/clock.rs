//! Value: points in time as plain numbers, and the one place that reads the clocks.
//!
//! Engines take a [`Moment`] as an argument, so that simulations and tests own time. Only shells and wiring call
//! [`now`] and [`wall`]; `clippy.toml` bans the standard library's clocks everywhere else.

use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Monotonic nanoseconds since this process first asked for the time. 64 bits last 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    pub const ZERO: Moment = Moment(0);
    /// Later than anything that happens.
    pub const NEVER: Moment = Moment(u64::MAX);

    pub const fn from_millis(ms: u64) -> Moment {
        Moment(ms.saturating_mul(1_000_000))
    }

    /// Time passed since `earlier`, zero if `earlier` is in the future.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    /// Saturates at [`Moment::NEVER`].
    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    /// Saturates at [`Moment::ZERO`].
    fn sub(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The present moment of the monotonic clock.
#[allow(clippy::disallowed_methods, reason = "the one reader of the monotonic clock")]
pub fn now() -> Moment {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    Moment(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// The wall clock, for humans and log lines only: it may jump, so nothing is ever scheduled by it.
#[allow(clippy::disallowed_methods, reason = "the one reader of the wall clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
