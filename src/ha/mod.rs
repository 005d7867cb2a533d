//! Engine: how a VIP is held: when its addresses are announced, and what became of others' claims to them.
//!
//! Pure: claims and the time go in, what is to be said comes out. Not here: frames (`wire`), who sends them (`mode`), and
//! elections between machines, of which there are none yet.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::arithmetic_side_effects)
)]

pub mod announce;

pub use announce::{Claim, Saying, Schedule, Station};
