//! Engine: picking an endpoint. One trait, one file an algorithm, one catalogue.
//!
//! Pure: time, randomness and the flow's hash are arguments. Not here: health. Pickers are built over the usable members
//! of a pool only; when those change, the control side builds a new one and publishes it (`state::PoolView`).
//!
//! Budget: no allocation, no lock, at most one shared atomic read-modify-write a pick (`benches/balance.rs`).

use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::{FlowHash, Moment, Weight};

pub mod load;

pub use load::Load;

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

    /// Fingerprint of the built table, for pickers whose nodes must agree (`strata_table_fingerprint`).
    fn fingerprint(&self) -> Option<u64> {
        None
    }
}
