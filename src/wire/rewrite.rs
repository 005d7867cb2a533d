//! Codec: address translation in place: addresses, ports, and every checksum that covers them.
//!
//! An ICMP error carries the header of the packet it is about, and must be translated inside as well, or the host that gets
//! it finds no such connection (cilium#47755). Each edit is counted in what it changes: the IPv4 header's sum, the
//! transport's, the embedded header's, the ICMP message's around it.
//!
//! Budget: no allocation, no sum over a payload.
//!
//! Not here: which translation a packet gets.

use std::net::IpAddr;

use super::bytes;
use super::checksum::{Change, Stored};
use super::fault::Fault;
use super::icmp::{Embedded, Icmp};
use super::ip::Protocol;
use super::packet::{Packet, Transport};
use super::udp::Ports;
use super::{icmpv6, ipv4, ipv6, tcp, udp};

/// What takes the place of an address, and of the port beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub address: IpAddr,
    /// `None` keeps the port, and is all there is where a protocol has none.
    pub port: Option<u16>,
}

/// A translation of one header; `None` keeps what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    pub source: Option<Place>,
    pub destination: Option<Place>,
}

impl Edit {
    pub const NONE: Edit = Edit { source: None, destination: None };

    pub const fn source(place: Place) -> Edit {
        Edit { source: Some(place), destination: None }
    }

    pub const fn destination(place: Place) -> Edit {
        Edit { source: None, destination: Some(place) }
    }

    /// The same of a packet that goes the other way.
    #[must_use]
    pub const fn reversed(self) -> Edit {
        Edit { source: self.destination, destination: self.source }
    }
}

/// Translates the datagram `ip`, which `packet` was parsed from. `outer` is for its own header; `embedded` is for the one
/// inside an ICMP error, and not looked at otherwise. `stored` says what the transport checksum of `ip` holds.
///
/// # Errors
/// `BadIpVersion` when a place is of another family, and nothing is changed.
pub fn translate(ip: &mut [u8], packet: &Packet, outer: &Edit, embedded: &Edit, stored: Stored) -> Result<(), Fault> {
    let inner = match packet.transport {
        Transport::Icmp(Icmp::Error { embedded, .. }) => Some(embedded),
        _ => None,
    };
    let same_family = |edit: &Edit, ipv6: bool| {
        [edit.source, edit.destination].into_iter().flatten().all(|place| place.address.is_ipv6() == ipv6)
    };
    if !same_family(outer, packet.is_ipv6())
        || inner.is_some_and(|inner| !same_family(embedded, inner.source.is_ipv6()))
    {
        return Err(Fault::BadIpVersion);
    }

    let addresses = edit_addresses(ip, 0, (packet.source, packet.destination), outer);
    let ports = match packet.ports() {
        Some(ports) => edit_ports(ip, packet.offset, ports, outer),
        None => Change::NONE,
    };
    let within = match inner {
        Some(inner) => edit_embedded(ip, &inner, embedded, packet.len),
        None => Change::NONE,
    };
    match packet.transport {
        // Its checksum went before it.
        Transport::Fragment => {}
        Transport::Icmp(_) if !packet.is_ipv6() => {
            edit_checksum(ip, packet.offset.wrapping_add(ICMP_CHECKSUM), packet.len, |old| within.apply(old));
        }
        _ => {
            let Some(at) = checksum_offset(packet.protocol) else { return Ok(()) };
            edit_checksum(ip, packet.offset.wrapping_add(at), packet.len, |old| match stored {
                Stored::Partial => addresses.apply_partial(old),
                Stored::Whole => apply(packet.protocol, addresses.plus(ports).plus(within), old),
            });
        }
    }
    Ok(())
}

/// One hop less (G7). `false`, and nothing changed, when none is left.
pub fn decrement_hops(ip: &mut [u8]) -> bool {
    if let Ok(mut packet) = ipv4::Packet::new_embedded(&mut *ip) {
        return packet.decrement_ttl();
    }
    ipv6::Packet::new_embedded(ip).is_ok_and(|mut packet| packet.decrement_hop_limit())
}

/// Where ICMP of both families keeps its checksum.
const ICMP_CHECKSUM: usize = 2;
/// UDP-Lite (RFC 3828) and DCCP (RFC 4340) begin as UDP does, and sum the same pseudo-header.
const UDP_LITE: Protocol = Protocol(136);
const DCCP: Protocol = Protocol(33);

/// Where a transport keeps a checksum that covers the pseudo-header. SCTP's, GRE's and those of ESP and AH do not.
const fn checksum_offset(protocol: Protocol) -> Option<usize> {
    match protocol {
        Protocol::TCP => Some(tcp::CHECKSUM),
        Protocol::UDP | UDP_LITE | DCCP => Some(udp::CHECKSUM),
        Protocol::ICMPV6 => Some(icmpv6::CHECKSUM),
        _ => None,
    }
}

const fn apply(protocol: Protocol, change: Change, old: u16) -> u16 {
    match protocol {
        Protocol::UDP => change.apply_udp(old),
        _ => change.apply(old),
    }
}

/// Edits the addresses of the IP header at `at`, and its sum. The change is that of a pseudo-header.
fn edit_addresses(ip: &mut [u8], at: usize, (source, destination): (IpAddr, IpAddr), edit: &Edit) -> Change {
    let header = bytes::from_mut(ip, at);
    let mut change = Change::NONE;
    if let Some(place) = edit.source {
        change = change.address(source, place.address);
        match place.address {
            IpAddr::V4(v4) => bytes::put(header, ipv4::SOURCE, &v4.octets()),
            IpAddr::V6(v6) => bytes::put(header, ipv6::SOURCE, &v6.octets()),
        }
    }
    if let Some(place) = edit.destination {
        change = change.address(destination, place.address);
        match place.address {
            IpAddr::V4(v4) => bytes::put(header, ipv4::DESTINATION, &v4.octets()),
            IpAddr::V6(v6) => bytes::put(header, ipv6::DESTINATION, &v6.octets()),
        }
    }
    if source.is_ipv4() {
        let checksum = change.apply(bytes::u16_at(header, ipv4::CHECKSUM));
        bytes::put(header, ipv4::CHECKSUM, &checksum.to_be_bytes());
    }
    change
}

/// Edits the ports of the transport header at `at`.
fn edit_ports(ip: &mut [u8], at: usize, ports: Ports, edit: &Edit) -> Change {
    let header = bytes::from_mut(ip, at);
    let mut change = Change::NONE;
    if let Some(port) = edit.source.and_then(|place| place.port) {
        change = change.u16(ports.source, port);
        bytes::put(header, tcp::SOURCE_PORT, &port.to_be_bytes());
    }
    if let Some(port) = edit.destination.and_then(|place| place.port) {
        change = change.u16(ports.destination, port);
        bytes::put(header, tcp::DESTINATION_PORT, &port.to_be_bytes());
    }
    change
}

/// Edits the datagram inside an ICMP error, which may end before its transport's checksum. Gives what this changes in the
/// sum of the message around it, in which every edit stands at an even offset.
fn edit_embedded(ip: &mut [u8], inner: &Embedded, edit: &Edit, end: usize) -> Change {
    let header_sum = inner.offset.wrapping_add(ipv4::CHECKSUM);
    let old = bytes::u16_at(ip, header_sum);
    let addresses = edit_addresses(ip, inner.offset, (inner.source, inner.destination), edit);
    let ports = match inner.ports {
        Some(ports) => edit_ports(ip, inner.transport, ports, edit),
        None => Change::NONE,
    };
    let mut around = addresses.plus(ports);
    if inner.source.is_ipv4() {
        around = around.u16(old, bytes::u16_at(ip, header_sum));
    }
    if let (Some(at), false) = (checksum_offset(inner.protocol), inner.fragment.is_later()) {
        let at = inner.transport.wrapping_add(at);
        let edited = edit_checksum(ip, at, end, |old| apply(inner.protocol, addresses.plus(ports), old));
        around = around.plus(edited);
    }
    around
}

/// Replaces the checksum at `at`, if it is all there before `end`.
fn edit_checksum(ip: &mut [u8], at: usize, end: usize, new: impl FnOnce(u16) -> u16) -> Change {
    let Some(&field) = bytes::between(ip, at, end).first_chunk() else { return Change::NONE };
    let old = u16::from_be_bytes(field);
    let new = new(old);
    bytes::put(ip, at, &new.to_be_bytes());
    Change::NONE.u16(old, new)
}

#[cfg(test)]
mod tests;
