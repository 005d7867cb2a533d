//! Io: how near the process is to the end of its descriptors and its memory, told to whoever takes or keeps connections.
//!
//! ```text
//!            95 %                     98 %
//!   Easy ──────────▶ Sheds ──────────────────▶ Full: no connection is taken, and idle ones are still closed
//!        ◀────────── 91 %  ◀────────────────── 94 %
//! ```
//!
//! One thread writes (`app::watch`), everybody reads: one relaxed load of a line that rarely changes. Not here: where the numbers
//! come from (`sys`), nor closing and pausing (`mode`, `accept`).

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::base::clock::Moment;
use crate::base::limits::{FULL_PERCENT, PRESSURE_EASES, SHED_PERCENT};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Resource {
    Descriptors,
    Memory,
}

impl Resource {
    pub const ALL: [Resource; 2] = [Resource::Descriptors, Resource::Memory];

    pub const fn word(self) -> &'static str {
        match self {
            Resource::Descriptors => "descriptors",
            Resource::Memory => "memory",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    #[default]
    Easy,
    /// Idle connections are closed.
    Sheds,
    /// And none is taken.
    Full,
}

impl Level {
    const fn of(byte: u8) -> Level {
        match byte {
            0 => Level::Easy,
            1 => Level::Sheds,
            _ => Level::Full,
        }
    }

    /// The level that follows this one where `percent` are in use.
    pub const fn next(self, percent: u64) -> Level {
        if percent >= FULL_PERCENT || matches!(self, Level::Full) && percent >= FULL_PERCENT - PRESSURE_EASES {
            return Level::Full;
        }
        if percent >= SHED_PERCENT || !matches!(self, Level::Easy) && percent >= SHED_PERCENT - PRESSURE_EASES {
            return Level::Sheds;
        }
        Level::Easy
    }
}

/// Of the whole process.
#[derive(Debug, Default)]
pub struct Pressure {
    gauges: [Gauge; 2],
    /// The worst of all.
    level: AtomicU8,
    /// Client connections that the process takes at once; 0: no limit.
    most_connections: AtomicU32,
    /// When a pause may be said again, in nanoseconds of the monotonic clock.
    silent_until: AtomicU64,
}

/// How long the log is silent about pauses after one was said. The metrics count them all.
const SILENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Gauge {
    used: AtomicU64,
    limit: AtomicU64,
    level: AtomicU8,
    shed: AtomicU64,
    pauses: AtomicU64,
}

impl Pressure {
    /// `used` of `limit` are in use; 0 is no limit. What was, and what is now. Called by one thread.
    pub fn observe(&self, resource: Resource, used: u64, limit: u64) -> (Level, Level) {
        let gauge = self.gauge(resource);
        let before = Level::of(gauge.level.load(Relaxed));
        let percent = used.saturating_mul(100).checked_div(limit).unwrap_or(0);
        let after = before.next(percent);
        gauge.used.store(used, Relaxed);
        gauge.limit.store(limit, Relaxed);
        gauge.level.store(after as u8, Relaxed);
        if after == Level::Full && before != Level::Full {
            gauge.pauses.fetch_add(1, Relaxed);
        }
        let worst = self.gauges.iter().map(|gauge| gauge.level.load(Relaxed)).max().unwrap_or(0);
        self.level.store(worst, Relaxed);
        (before, after)
    }

    pub fn level(&self) -> Level {
        Level::of(self.level.load(Relaxed))
    }

    pub fn level_of(&self, resource: Resource) -> Level {
        Level::of(self.gauge(resource).level.load(Relaxed))
    }

    /// No connection is to be taken.
    pub fn is_full(&self) -> bool {
        self.level() == Level::Full
    }

    /// Idle connections are to be closed.
    pub fn sheds(&self) -> bool {
        self.level() != Level::Easy
    }

    /// An idle connection is closed because of it.
    pub fn count_shed(&self) {
        let pressing = Resource::ALL.into_iter().max_by_key(|resource| self.level_of(*resource));
        if let Some(resource) = pressing {
            self.gauge(resource).shed.fetch_add(1, Relaxed);
        }
    }

    /// Accepting pauses because the kernel gave no descriptor.
    pub fn count_pause(&self) {
        self.gauge(Resource::Descriptors).pauses.fetch_add(1, Relaxed);
    }

    /// Whether a pause is to be said: one in a while, whichever worker it is.
    pub fn may_say_pause(&self, now: Moment) -> bool {
        let until = self.silent_until.load(Relaxed);
        now.0 >= until && self.silent_until.compare_exchange(until, (now + SILENCE).0, Relaxed, Relaxed).is_ok()
    }

    /// In use, and the limit.
    pub fn usage(&self, resource: Resource) -> (u64, u64) {
        let gauge = self.gauge(resource);
        (gauge.used.load(Relaxed), gauge.limit.load(Relaxed))
    }

    /// Idle connections that were closed.
    pub fn shed(&self, resource: Resource) -> u64 {
        self.gauge(resource).shed.load(Relaxed)
    }

    /// Times that accepting has paused.
    pub fn pauses(&self, resource: Resource) -> u64 {
        self.gauge(resource).pauses.load(Relaxed)
    }

    /// 0: no limit.
    pub fn most_connections(&self) -> u32 {
        self.most_connections.load(Relaxed)
    }

    pub fn set_most_connections(&self, most: u32) {
        self.most_connections.store(most, Relaxed);
    }

    fn gauge(&self, resource: Resource) -> &Gauge {
        let [descriptors, memory] = &self.gauges;
        match resource {
            Resource::Descriptors => descriptors,
            Resource::Memory => memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_begins_at_its_share_and_ends_a_little_below() {
        use Level::{Easy, Full, Sheds};
        let pressure = Pressure::default();
        for (percent, level) in [
            (0, Easy),
            (94, Easy),
            (95, Sheds),
            (97, Sheds),
            (98, Full),
            (120, Full),
            (94, Full),
            (93, Sheds),
            (91, Sheds),
            (90, Easy),
            (94, Easy),
            (99, Full),
            (10, Easy),
        ] {
            assert_eq!(pressure.observe(Resource::Memory, percent, 100).1, level, "{percent} %");
            assert_eq!(pressure.level(), level, "{percent} %");
        }
        assert_eq!((pressure.pauses(Resource::Memory), pressure.pauses(Resource::Descriptors)), (2, 0));
    }

    #[test]
    fn what_has_no_limit_never_presses_and_the_worst_of_two_counts() {
        let pressure = Pressure::default();
        pressure.observe(Resource::Memory, u64::MAX, 0);
        assert_eq!(pressure.level(), Level::Easy);
        pressure.observe(Resource::Descriptors, 98, 100);
        pressure.observe(Resource::Memory, 95, 100);
        assert!(pressure.is_full() && pressure.sheds());
        pressure.count_shed();
        assert_eq!((pressure.shed(Resource::Descriptors), pressure.shed(Resource::Memory)), (1, 0));
        pressure.observe(Resource::Descriptors, 1, 100);
        assert!(!pressure.is_full() && pressure.sheds(), "memory presses still");
    }

    #[test]
    fn pauses_are_said_once_in_a_while_whoever_has_them() {
        let pressure = Pressure::default();
        let said: Vec<u64> =
            (0..25).filter(|second| pressure.may_say_pause(Moment::from_millis(second * 1000))).collect();
        assert_eq!(said, [0, 10, 20]);
    }
}
