//! Codec: bytes of the network, in and out. One folder or file a protocol.
//!
//! Pure: byte slices in, plain values or a named rejection out. Not here: sockets, clocks, policy.
//!
//! Packets are read through checked views, `Packet<T>` over any `T: AsRef<[u8]>`: `new_checked` looks at every length once,
//! after which no getter panics, and setters exist where the buffer can be written. A header that is made anew is a plain
//! value with `parse` and `emit`, and `emit` gives an array: there is no buffer that could be too short.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::arithmetic_side_effects)
)]

pub mod answer;
pub mod arp;
mod bytes;
pub mod checksum;
pub mod compose;
pub mod dns;
pub mod ethernet;
mod fault;
pub mod gue;
pub mod http1;
pub mod icmp;
pub mod icmpv4;
pub mod icmpv6;
pub mod ip;
pub mod ipip;
pub mod ipv4;
pub mod ipv6;
pub mod line;
pub mod ndp;
pub mod packet;
pub mod partial;
pub mod pcap;
pub mod rewrite;
pub mod segments;
pub mod show;
pub mod tcp;
pub mod udp;

pub use fault::Fault;
pub use packet::{Packet, Transport};

#[cfg(test)]
mod tests;
