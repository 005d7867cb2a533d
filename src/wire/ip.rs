//! Value: what IPv4 and IPv6 have in common: protocol numbers, fragments, which addresses a host can have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The protocol number of IPv4, and the next header of IPv6 (IANA "Assigned Internet Protocol Numbers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    pub const HOP_BY_HOP: Protocol = Protocol(0);
    pub const ICMP: Protocol = Protocol(1);
    /// IPv4 inside IP.
    pub const IPIP: Protocol = Protocol(4);
    pub const TCP: Protocol = Protocol(6);
    pub const UDP: Protocol = Protocol(17);
    /// IPv6 inside IP.
    pub const IPV6: Protocol = Protocol(41);
    pub const ROUTING: Protocol = Protocol(43);
    pub const FRAGMENT: Protocol = Protocol(44);
    pub const GRE: Protocol = Protocol(47);
    pub const ESP: Protocol = Protocol(50);
    pub const AH: Protocol = Protocol(51);
    pub const ICMPV6: Protocol = Protocol(58);
    pub const DESTINATION_OPTIONS: Protocol = Protocol(60);
    pub const VRRP: Protocol = Protocol(112);
    pub const SCTP: Protocol = Protocol(132);

    /// The names that have one, as operators write them.
    const NAMES: &[(Protocol, &str)] = &[
        (Protocol::ICMP, "icmp"),
        (Protocol::IPIP, "ipip"),
        (Protocol::TCP, "tcp"),
        (Protocol::UDP, "udp"),
        (Protocol::IPV6, "ipv6"),
        (Protocol::GRE, "gre"),
        (Protocol::ESP, "esp"),
        (Protocol::AH, "ah"),
        (Protocol::ICMPV6, "icmpv6"),
        (Protocol::VRRP, "vrrp"),
        (Protocol::SCTP, "sctp"),
    ];

    /// Its name in `/etc/protocols`, where it has one of those that matter here.
    pub fn name(self) -> Option<&'static str> {
        Protocol::NAMES.iter().find(|(protocol, _)| *protocol == self).map(|(_, name)| *name)
    }

    /// Reads a name or a number.
    pub fn parse(text: &str) -> Option<Protocol> {
        let named = Protocol::NAMES.iter().find(|(_, name)| *name == text).map(|(protocol, _)| *protocol);
        named.or_else(|| text.parse().ok().map(Protocol))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "protocol {}", self.0),
        }
    }
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// All of it. An IPv6 fragment header that says so changes nothing (RFC 6946).
    Whole,
    /// The one that has the transport header.
    First { id: u32 },
    /// Any other: it has no ports. `offset` in bytes.
    Later { id: u32, offset: u16, last: bool },
}

impl Fragment {
    /// `None` for what is whole. IPv4's has 16 bits, IPv6's 32.
    pub const fn id(self) -> Option<u32> {
        match self {
            Fragment::Whole => None,
            Fragment::First { id } | Fragment::Later { id, .. } => Some(id),
        }
    }

    pub const fn is_later(self) -> bool {
        matches!(self, Fragment::Later { .. })
    }
}

/// Whether no packet on a wire can have this source: this network, loopback, groups and what is reserved (RFC 6890;
/// hardening G11). Private addresses are not among them.
pub fn is_martian(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(v4) => is_martian_v4(v4),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.to_ipv4_mapped().is_some(),
    }
}

fn is_martian_v4(source: Ipv4Addr) -> bool {
    let [first, ..] = source.octets();
    // 240/4 with the limited broadcast among it.
    first == 0 || first == 127 || first >= 224
}

/// Where a neighbour solicitation for an address goes: `ff02::1:ff` and its low 24 bits (RFC 4291 §2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0x00ff, low)
}

/// Every node on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn martians_are_those_of_the_registry() {
        for (source, martian) in [
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("127.0.0.1", true),
            ("127.255.255.255", true),
            ("224.0.0.1", true),
            ("239.255.255.255", true),
            ("240.0.0.1", true),
            ("255.255.255.255", true),
            ("1.0.0.1", false),
            ("10.0.0.1", false),
            ("192.168.1.1", false),
            ("169.254.1.1", false),
            ("223.255.255.255", false),
            ("::", true),
            ("::1", true),
            ("ff02::1", true),
            ("::ffff:10.0.0.1", true),
            ("fe80::1", false),
            ("fd00::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_martian(source.parse().unwrap()), martian, "{source}");
        }
    }

    #[test]
    fn protocols_read_by_name_and_number() {
        for (text, shown) in
            [("tcp", "tcp"), ("17", "udp"), ("icmpv6", "icmpv6"), ("200", "protocol 200"), ("112", "vrrp")]
        {
            assert_eq!(Protocol::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "TCP", "256", "-1", "http"] {
            assert_eq!(Protocol::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_solicited_node_group_has_the_low_24_bits() {
        let group = solicited_node("2001:db8::1234:5678".parse().unwrap());
        assert_eq!(group.to_string(), "ff02::1:ff34:5678");
    }
}
