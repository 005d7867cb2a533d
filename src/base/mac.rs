//! Value: a MAC address, as the operator writes it and as frames carry it.
//!
//! Not here: who owns one. That is ARP's and neighbour discovery's to find out.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Serialize, Serializer};

use super::address::AddressError;

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    pub const ZERO: MacAddr = MacAddr([0; 6]);
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// The virtual router's MAC for IPv4, `00:00:5e:00:01:VRID` (RFC 9568 §7.3).
    pub const fn virtual_v4(vrid: u8) -> MacAddr {
        MacAddr([0x00, 0x00, 0x5e, 0x00, 0x01, vrid])
    }

    /// The virtual router's MAC for IPv6, `00:00:5e:00:02:VRID` (RFC 9568 §7.3).
    pub const fn virtual_v6(vrid: u8) -> MacAddr {
        MacAddr([0x00, 0x00, 0x5e, 0x00, 0x02, vrid])
    }

    /// Where frames to an IPv4 group go: `01:00:5e` and the group's low 23 bits (RFC 1112 §6.4).
    pub const fn multicast_v4(group: Ipv4Addr) -> MacAddr {
        let [_, b, c, d] = group.octets();
        MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// Where frames to an IPv6 group go: `33:33` and the group's low 32 bits (RFC 2464 §7).
    pub const fn multicast_v6(group: Ipv6Addr) -> MacAddr {
        let [.., a, b, c, d] = group.octets();
        MacAddr([0x33, 0x33, a, b, c, d])
    }

    /// Reads `02:00:00:00:00:01`, in either case; hyphens in place of colons are read too.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<MacAddr, AddressError> {
        const SHAPE: AddressError = "a MAC address is six pairs of hexadecimal digits, as in \"02:00:00:00:00:01\"";
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut parts = text.split(separator);
        let mut octets = [0; 6];
        for octet in &mut octets {
            let part = parts.next().ok_or(SHAPE)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(SHAPE);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| SHAPE)?;
        }
        if parts.next().is_some() { Err(SHAPE) } else { Ok(MacAddr(octets)) }
    }

    /// A group address, broadcast among them. No frame comes from one (IEEE 802.3 §3.2.3).
    pub const fn is_multicast(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 1
    }

    pub fn is_broadcast(self) -> bool {
        self == MacAddr::BROADCAST
    }

    /// Whether one station can own it: neither a group's nor all zeros.
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != MacAddr::ZERO
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_read_and_show() {
        for (text, shown) in [
            ("02:00:00:00:00:01", Some("02:00:00:00:00:01")),
            ("AA-bb-CC-dd-EE-ff", Some("aa:bb:cc:dd:ee:ff")),
            ("02:00:00:00:00", None),
            ("02:00:00:00:00:01:02", None),
            ("2:0:0:0:0:1", None),
            ("02:00:00:00:00:+1", None),
            ("02:00:00-00:00:01", None),
            ("020000000001", None),
            ("", None),
        ] {
            let got = MacAddr::parse(text).ok().map(|mac| mac.to_string());
            assert_eq!(got.as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn virtual_and_group_addresses_are_those_of_the_standards() {
        for (mac, shown) in [
            (MacAddr::virtual_v4(7), "00:00:5e:00:01:07"),
            (MacAddr::virtual_v6(255), "00:00:5e:00:02:ff"),
            (MacAddr::multicast_v4(Ipv4Addr::new(224, 128, 0, 18)), "01:00:5e:00:00:12"),
            (MacAddr::multicast_v6("ff02::1:ff00:1".parse().unwrap()), "33:33:ff:00:00:01"),
        ] {
            assert_eq!(mac.to_string(), shown);
        }
    }

    #[test]
    fn a_station_owns_neither_a_group_address_nor_zeros() {
        for (mac, unicast) in [
            (MacAddr::virtual_v4(1), true),
            (MacAddr::BROADCAST, false),
            (MacAddr::multicast_v4(Ipv4Addr::new(224, 0, 0, 1)), false),
            (MacAddr::ZERO, false),
        ] {
            assert_eq!(mac.is_unicast(), unicast, "{mac}");
        }
    }
}
