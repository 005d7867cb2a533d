//! Engine: picking an endpoint. One trait, one file an algorithm, one catalogue.
//!
//! Pure: time, randomness and the flow's hash are arguments. Not here: health. Pickers are built over the usable members
//! of a pool only; when those change, the control side builds a new one and publishes it (`state::PoolView`).
//!
//! Budget: no allocation, no lock, at most one shared atomic read-modify-write a pick (`benches/balance.rs`).
//!
//! To add an algorithm: one file with a `SPEC`, its `mod` line and its line in [`CATALOG`].

use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::{FlowHash, HashKey, Moment, Weight};
use crate::doc::{Grammar, Settings};

pub mod capacity;
pub mod key;
pub mod load;
pub mod share;

mod alias;

mod first;
mod least_connections;
pub mod maglev;
mod p2c;
mod random;
mod rendezvous;
mod ring_hash;
mod round_robin;
mod source_hash;
mod weighted_round_robin;

#[cfg(test)]
mod tests;

pub use capacity::Capacity;
pub use key::HashBy;
pub use load::Load;

/// Every algorithm, in the order in which help and documentation list them.
pub static CATALOG: &[Spec] = &[
    round_robin::SPEC,
    weighted_round_robin::SPEC,
    random::SPEC,
    first::SPEC,
    least_connections::SPEC,
    p2c::SPEC,
    source_hash::SPEC,
    ring_hash::SPEC,
    rendezvous::SPEC,
    maglev::SPEC,
];

/// The algorithm of that name (`balance = "NAME"`).
pub fn find(name: &str) -> Option<&'static Spec> {
    CATALOG.iter().find(|spec| spec.grammar.name == name)
}

/// One algorithm: what its settings may be, how it is built, and what it looks at.
#[derive(Debug)]
pub struct Spec {
    pub grammar: Grammar,
    /// Builds the picker over `members`; every later `pick` must be given these same members.
    pub build: fn(&Settings, &[Member], HashKey) -> Box<dyn Picker>,
    pub uses: Uses,
    /// How an endpoint comes to be picked, for whoever explains a pick.
    pub how: &'static str,
}

impl Spec {
    /// Whether a picker of these settings reads `Member::load`.
    pub fn counts(&self, settings: &Settings) -> bool {
        match self.uses.load {
            Counts::Never => false,
            Counts::Always => true,
            Counts::With(setting) => settings.get(setting).is_some(),
        }
    }
}

/// What an algorithm looks at. What it does not use need not be kept or computed, and a setting that it ignores is worth
/// a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uses {
    /// Honours the members' weights.
    pub weights: bool,
    /// Reads `Member::load`: the counts in flight, and for some the latency. What it is for settings, [`Spec::counts`] says.
    pub load: Counts,
    /// Reads `Pick::hash`, and has a setting `key` ([`HashBy::of`]).
    pub hash: bool,
    /// Keeps a turn, which every pick moves on.
    pub turn: bool,
}

/// Whether an algorithm goes by live counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    Never,
    Always,
    /// Only where this setting is given.
    With(&'static str),
}

/// What a picker sees in a member when it compares it with another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// What it is: `cost`.
    pub name: &'static str,
    pub value: f64,
    /// Empty for a bare number.
    pub unit: &'static str,
}

/// One usable endpoint as pickers see it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Hash of what names the endpoint (its address), the same on every node and in every generation.
    pub identity: u64,
    pub weight: Weight,
    /// Shared with the workers, outlives the picker.
    pub load: Arc<Load>,
}

/// What one pick is given. `tried` holds indices into the members that this request has tried already: a picker never
/// returns one of them while another member is left.
pub struct Pick<'a> {
    pub hash: FlowHash,
    pub now: Moment,
    /// Random bits, fresh for each pick.
    pub entropy: u64,
    pub tried: &'a Tried,
}

/// Indices of members already tried; at most `limits::TRIES`, so inline.
pub type Tried = SmallVec<[u16; 4]>;

/// A balancing algorithm over a fixed set of members.
pub trait Picker: Send + Sync {
    /// Index of a member not in `pick.tried`, or `None` when there is none: the pool is empty or all were tried.
    fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize>;

    /// What it sees in the member `index` for this pick; `None` for pickers that compare nothing.
    fn score(&self, _members: &[Member], _index: usize, _pick: &Pick<'_>) -> Option<Score> {
        None
    }

    /// Fingerprint of the built table, for pickers whose nodes must agree (`strata_table_fingerprint`).
    fn fingerprint(&self) -> Option<u64> {
        None
    }
}
