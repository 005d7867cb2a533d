//! Engine: which endpoint a packet goes to, while nothing changes and while everything does (DESIGN §6).
//!
//! A service has [`Slots`]: a packet's hash picks a slot, the slot names an endpoint. An unmarked slot is all there is to it.
//! A slot that moved is *marked* for as long as flows may still live on the endpoint it named before; only then are
//! [`Records`] looked up and made, and [`steer`] says by which rule a packet went where. Of SYNs a few bits are kept (`syns`).
//!
//! [`Nat`] keeps the flows that are translated both ways, [`Fragments`] sends a datagram's pieces one way.
//!
//! Pure: packets come as a hash, a [`FlowKey`] and a [`Kind`]; time is an argument. Not here: frames (`wire`), how a Maglev
//! table is filled (`balance`), the threads that share all this.
//!
//! Budget: an unmarked slot costs two cache lines and no shared write; a marked one adds a lock of one shard in 64, two cache
//! lines of the records and no allocation (`benches/flow.rs`).
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::arithmetic_side_effects)
)]

pub mod decide;
pub mod endpoints;
pub mod fragments;
pub mod key;
pub mod nat;
mod ports;
pub mod records;
mod sequence;
pub mod slots;
pub mod steer;
mod syns;
mod table;
pub mod tables;

pub use decide::{FrameBuf, Shared, Verdict, decide};
pub use endpoints::{Affinity, Endpoints, OnDown, Policy};
pub use fragments::{Carried, Datagram, Fragments};
pub use key::{FlowKey, Kind};
pub use nat::{Binding, Nat};
pub use records::Records;
pub use slots::{NOBODY, Slots, Survey};
pub use steer::{Decision, Packet, Why, steer};
pub use table::Cursor;
pub use tables::Tables;
