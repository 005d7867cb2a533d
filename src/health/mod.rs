//! Engine: what we believe of an endpoint. Two enums, never booleans: what the operator wants and what we see.
//!
//! ```text
//!               the first probe passes
//!      ╭────────────────────────────────────▶ Up ◀──────────────────╮
//!      │                                      │ │                   │
//!   Probing                       `fall` fail │ │ N connects        │ `rise` probes
//!      │  ▲                       in a row    │ │ in a row fail     │ in a row pass
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
//! `Maintenance` forgets what was seen: an endpoint comes back from it as it started.
//!
//! Pure: events and the time go in, a [`Transition`] or nothing comes out. Not here: sockets and timers (`probe`, the
//! keeper in `app`), and the pool's published view (`state`).

use std::borrow::Cow;
use std::fmt;

pub mod machine;
pub mod outlier;
pub mod schedule;

#[cfg(test)]
mod tests;

pub use machine::{Event, Machine, ProbeRules, Rules};
pub use outlier::{OUTLIER, OutlierRules, Peers};
pub use schedule::{Schedule, Start};

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

/// The health that makes an endpoint of this pool usable now, given the states of all its endpoints: `Up`; while none of the
/// ready ones is, `Probing`, so that traffic need not wait for the first probes at start; while none is that either,
/// `Ejected`, because what passive detection saw some time ago is a better guess than a certain refusal. `None`: nobody.
pub fn serving(endpoints: impl Iterator<Item = (Intent, Health)>) -> Option<Health> {
    endpoints
        .filter(|(intent, health)| *intent == Intent::Ready && *health != Health::Down)
        .map(|(_, health)| health)
        .min_by_key(|health| match health {
            Health::Up => 0,
            Health::Probing => 1,
            Health::Ejected | Health::Down => 2,
        })
}

/// Whether an endpoint gets new work, where `serving` is what [`serving`] says of its pool.
pub fn usable(intent: Intent, health: Health, serving: Option<Health>) -> bool {
    intent == Intent::Ready && Some(health) == serving
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
    ConnectsFailed {
        in_a_row: u32,
    },
    EjectionOver,
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
            Cause::ConnectsFailed { in_a_row } => write!(f, "{in_a_row} connects in a row failed"),
            Cause::EjectionOver => f.write_str("ejection over"),
            Cause::Operator => f.write_str("operator"),
            Cause::Configuration => f.write_str("configuration"),
        }
    }
}
