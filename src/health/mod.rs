//! Engine: what we believe of an endpoint. Two enums, never booleans: what the operator wants and what we see.
//!
//! ```text
//!               the first probe passes
//!      ╭────────────────────────────────────▶ Up ◀──────────────────╮
//!      │                                      │ │                   │
//!   Probing                       `fall` fail │ │ traffic           │ `rise` probes
//!      │  ▲                       in a row    │ │ fails             │ in a row pass
//!      │  │                                   ▼ │                   │
//!      │  │                                 Down┼───────────────────┤
//!      ╰──┼──────────────────────────────────▲  ▼                   │
//!         │    the first probe fails         ╰─ Ejected ────────────╯
//!         ╰───────────────────────────────────── time is up, no probe has passed since
//! ```
//!
//! A probe that this machine cannot make changes nothing; but `fall` of them in a row make `Probing` into `Up`, for an endpoint that
//! will not be judged must not wait for it. An endpoint without a probe starts `Up`, and returns from `Ejected` to `Up` when its
//! time is up. `Probing` is ejected like `Up`. Probes that began before an ejection do not end it: they may have connected before
//! the endpoint died.
//! `Down` may be held: an endpoint that flaps (`damping`) stays there for a time, however its probes pass.
//! `Maintenance` forgets what was seen: an endpoint comes back from it as it started.
//!
//! Pure: events and the time go in, a [`Transition`] or nothing comes out. Not here: sockets and timers (`probe`, the
//! keeper in `app`), and the pool's published view (`state`).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::base::units::show_duration;

pub mod cut_off;
pub mod damping;
pub mod errors;
pub mod machine;
pub mod outlier;
pub mod schedule;
pub mod select;
pub mod slow_start;

#[cfg(test)]
mod tests;

pub use cut_off::{CutOff, Reach};
pub use damping::{DAMPING, DampingRules};
pub use errors::{ErrorShare, Excess};
pub use machine::{Event, Machine, ProbeRules, Rules};
pub use outlier::{OUTLIER, OutlierRules, Peers, Trouble};
pub use schedule::{Schedule, Start};
pub use select::{Candidate, Local, PREFER_LOCAL, Placement, Selection, select};
pub use slow_start::{Warming, Warmth};

/// What the operator wants of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Intent {
    #[default]
    Ready,
    /// No new work; what is open finishes.
    Draining,
    /// Out, and not probed.
    Maintenance,
}

/// What we see of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Health {
    /// Probed, but no answer is known yet.
    #[default]
    Probing,
    Up,
    Down,
    /// Taken out by passive detection, for a time.
    Ejected,
}

impl Intent {
    pub const ALL: [Intent; 3] = [Intent::Ready, Intent::Draining, Intent::Maintenance];

    pub const fn word(self) -> &'static str {
        match self {
            Intent::Ready => "ready",
            Intent::Draining => "draining",
            Intent::Maintenance => "maintenance",
        }
    }
}

impl Health {
    pub const ALL: [Health; 4] = [Health::Probing, Health::Up, Health::Down, Health::Ejected];

    pub const fn word(self) -> &'static str {
        match self {
            Health::Probing => "probing",
            Health::Up => "up",
            Health::Down => "down",
            Health::Ejected => "ejected",
        }
    }
}

/// A change of what is wanted or seen, worth a log line and a new view of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: (Intent, Health),
    pub to: (Intent, Health),
    pub cause: Cause,
}

/// Why an endpoint is in the state it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing has happened yet.
    Start,
    ProbePassed,
    ProbeFailed(Why),
    ProbeImpossible(Why),
    Traffic(Trouble),
    /// It came and went too often, and is held down for a time.
    Flapping {
        changes: u32,
        window: Duration,
        hold: Duration,
    },
    EjectionOver,
    HoldOver,
    /// It was held down, its probes pass, and the pool cannot do without it.
    Needed,
    /// It went down by probes that reached nobody, as all did: the prober is cut off.
    ProberCutOff,
    Operator,
    /// The configuration changed: the endpoint is no longer probed.
    Configuration,
}

/// A probe's failure in a few words: `connect refused`, `status 503`.
pub type Why = Cow<'static, str>;

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Start => f.write_str("start"),
            Cause::ProbePassed => f.write_str("probe passed"),
            Cause::ProbeFailed(why) => write!(f, "probe failed: {why}"),
            Cause::ProbeImpossible(why) => write!(f, "cannot be probed: {why}"),
            Cause::Traffic(trouble) => trouble.fmt(f),
            Cause::Flapping { changes, window, hold } => {
                let (window, hold) = (show_duration(*window), show_duration(*hold));
                write!(f, "held down for {hold}: {changes} changes in {window}")
            }
            Cause::EjectionOver => f.write_str("ejection over"),
            Cause::HoldOver => f.write_str("hold over"),
            Cause::Needed => f.write_str("held down no longer: too few others are usable"),
            Cause::ProberCutOff => f.write_str("the prober is cut off"),
            Cause::Operator => f.write_str("operator"),
            Cause::Configuration => f.write_str("configuration"),
        }
    }
}
