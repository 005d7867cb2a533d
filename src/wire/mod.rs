//! Codec: bytes of the network, in and out. One folder or file a protocol.
//!
//! Pure: byte slices in, plain values or a named rejection out. Not here: sockets, clocks, policy.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::arithmetic_side_effects)
)]

pub mod http1;
