//! Value: what names a flow, and what of a packet decides where it goes.
//!
//! One form for both families: an IPv4 address is kept as the IPv6 address that maps it. It cannot be confused with a real one:
//! one of the two addresses is a VIP, which is never a mapped address.
//! Not here: reading a frame, and which way a packet travels. The caller makes the key that the client's packets have, also for
//! a reply and for the datagram inside an ICMP error.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::base::{FlowHash, HashKey};

/// Protocol numbers that flows treat apart (IANA).
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP6: u8 = 58;

/// Addresses, ports and protocol of a client's packets: 37 bytes without padding, because records keep many.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    source: [u8; 16],
    destination: [u8; 16],
    source_port: [u8; 2],
    destination_port: [u8; 2],
    protocol: u8,
}

/// What a packet is to its flow. `seq` is the number of its first byte, `ack` of the byte that it expects (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SYN without ACK: asks for a connection.
    Syn {
        seq: u32,
    },
    /// Any other segment without FIN and RST, with or without payload.
    TcpData {
        seq: u32,
        ack: u32,
    },
    Fin {
        seq: u32,
        ack: u32,
    },
    Rst {
        seq: u32,
        /// Without ACK: it answers a segment that the client did not expect (RFC 9293 §3.10.7.1). Who gives a connection up sends
        /// one with ACK.
        bare: bool,
    },
    /// Every protocol but TCP.
    Other,
    /// Not the flow's own packet but one about it (an ICMP error, `explain`): goes where the flow goes and leaves no trace.
    About,
}

impl FlowKey {
    /// Of a protocol without ports, or where they cannot be seen, both are 0: the two hosts are the flow.
    pub fn new(protocol: u8, source: SocketAddr, destination: SocketAddr) -> FlowKey {
        FlowKey {
            source: octets(source.ip()),
            destination: octets(destination.ip()),
            source_port: source.port().to_be_bytes(),
            destination_port: destination.port().to_be_bytes(),
            protocol,
        }
    }

    pub fn source(&self) -> SocketAddr {
        SocketAddr::new(address(self.source), u16::from_be_bytes(self.source_port))
    }

    pub fn destination(&self) -> SocketAddr {
        SocketAddr::new(address(self.destination), u16::from_be_bytes(self.destination_port))
    }

    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The key seen from the other end.
    pub const fn reversed(&self) -> FlowKey {
        FlowKey {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }

    /// The keyed hash that picks a slot: siphash-1-3 of source, destination, source port, destination port and protocol in
    /// network order; 13 bytes for IPv4, 37 for IPv6. Every engine and every node must compute this very number.
    pub fn hash(&self, key: &HashKey) -> FlowHash {
        if let ([s4 @ .., s0, s1, s2, s3], [d4 @ .., d0, d1, d2, d3]) = (self.source, self.destination)
            && s4 == MAPPED
            && d4 == MAPPED
        {
            let [p0, p1] = self.source_port;
            let [q0, q1] = self.destination_port;
            return key.flow(&[s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, q0, q1, self.protocol]);
        }
        key.flow(&self.bytes())
    }

    /// Source, destination, ports, protocol in network order.
    pub fn bytes(&self) -> [u8; 37] {
        // Whole parts, not byte by byte: two of these hashes are most of what finding a translated flow takes.
        let mut bytes = [0; 37];
        let (Some((source, rest)), [a, b], [c, d]) =
            (bytes.split_first_chunk_mut(), self.source_port, self.destination_port)
        else {
            return bytes;
        };
        *source = self.source;
        if let Some((destination, rest)) = rest.split_first_chunk_mut() {
            *destination = self.destination;
            rest.copy_from_slice(&[a, b, c, d, self.protocol]);
        }
        bytes
    }
}

/// `tcp 198.51.100.7:4242 > 10.0.0.100:80`, as `explain` reads and writes it.
impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            TCP => f.write_str("tcp ")?,
            UDP => f.write_str("udp ")?,
            ICMP | ICMP6 => f.write_str("icmp ")?,
            other => write!(f, "proto-{other} ")?,
        }
        write!(f, "{} > {}", self.source(), self.destination())
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One form for both families.
pub(super) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn address(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

/// The first 12 bytes of an IPv4-mapped address (RFC 4291 §2.5.5.2).
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HashKey = HashKey::new(*b"an example key..");

    fn flow(protocol: u8, source: &str, destination: &str) -> FlowKey {
        FlowKey::new(protocol, source.parse().unwrap(), destination.parse().unwrap())
    }

    #[test]
    fn a_key_shows_what_it_was_made_of() {
        for (key, shown) in [
            (flow(TCP, "198.51.100.7:4242", "10.0.0.100:80"), "tcp 198.51.100.7:4242 > 10.0.0.100:80"),
            (flow(UDP, "[2001:db8::7]:53", "[2001:db8::1]:53"), "udp [2001:db8::7]:53 > [2001:db8::1]:53"),
            (flow(ICMP, "192.0.2.1:0", "192.0.2.2:0"), "icmp 192.0.2.1:0 > 192.0.2.2:0"),
            (flow(47, "192.0.2.1:0", "192.0.2.2:0"), "proto-47 192.0.2.1:0 > 192.0.2.2:0"),
        ] {
            assert_eq!(key.to_string(), shown);
            assert_eq!(key.reversed().reversed(), key);
            assert_eq!((key.reversed().source(), key.reversed().destination()), (key.destination(), key.source()));
        }
    }

    #[test]
    fn every_part_of_a_key_counts_for_its_hash() {
        let keys = [
            flow(TCP, "192.0.2.1:1", "192.0.2.9:2"),
            flow(UDP, "192.0.2.1:1", "192.0.2.9:2"),
            flow(TCP, "192.0.2.1:2", "192.0.2.9:1"),
            flow(TCP, "192.0.2.2:1", "192.0.2.9:2"),
            flow(TCP, "192.0.2.9:2", "192.0.2.1:1"),
            flow(TCP, "[2001:db8::1]:1", "[2001:db8::9]:2"),
            flow(TCP, "[2001:db8::1]:1", "[2001:db8::a]:2"),
        ];
        let mut hashes: Vec<FlowHash> = keys.iter().map(|key| key.hash(&KEY)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), keys.len());
    }

    #[test]
    fn the_hash_is_over_the_bytes_that_are_promised() {
        let four = [192, 0, 2, 1, 192, 0, 2, 9, 0x10, 0x92, 0, 80, 6];
        assert_eq!(flow(TCP, "192.0.2.1:4242", "192.0.2.9:80").hash(&KEY), KEY.flow(&four));
        let six = flow(UDP, "[2001:db8::1]:4242", "[2001:db8::9]:53");
        assert_eq!(six.hash(&KEY), KEY.flow(&six.bytes()));
        assert_eq!(six.bytes()[32..], [0x10, 0x92, 0, 53, 17]);
    }

    #[test]
    fn keys_are_packed() {
        assert_eq!((size_of::<FlowKey>(), align_of::<FlowKey>()), (37, 1));
    }
}
