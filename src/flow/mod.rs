//! Engine: which endpoint a packet goes to, while nothing changes and while everything does (DESIGN §6).
//!
//! Pure: packets come as a hash, a [`FlowKey`] and a [`Kind`]; time is an argument. Not here: frames (`wire`), how a Maglev
//! table is filled (`balance`), the threads that share all this.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::arithmetic_side_effects)
)]

pub mod key;

pub use key::{FlowKey, Kind};
