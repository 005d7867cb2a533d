//! Codec: neighbour solicitations and advertisements (RFC 4861), which are to IPv6 what ARP is to IPv4.
//!
//! Every check of RFC 4861 §7.1 is made: a hop limit of 255 is what proves that the message comes from this link.
//!
//! Not here: routers and redirects (a balancer neither is one nor believes one), a cache, timers.

use std::net::{IpAddr, Ipv6Addr};

use super::bytes::{self, Writer};
use super::ethernet::{self, EtherType};
use super::fault::Fault;
use super::icmp::Icmp;
use super::ip::{self, Fragment, Protocol};
use super::packet::{Packet, Transport};
use super::{icmpv6, ipv6};
use crate::base::MacAddr;

/// Bytes of the longest frame written here: headers, message, one option.
pub const FRAME_LEN: usize = 86;

const HOP_LIMIT: u8 = 255;
const FLAGS: usize = 4;
const TARGET: usize = 8;
const OPTIONS: usize = 24;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;

/// Where a message came from, or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub mac: MacAddr,
    pub address: Ipv6Addr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbor {
    /// Who has `target`? Without a source address and MAC it is duplicate address detection (RFC 4862 §5.4).
    Solicitation { target: Ipv6Addr, source_mac: Option<MacAddr> },
    /// `target` is at `target_mac`, or where the frame came from.
    Advertisement {
        target: Ipv6Addr,
        target_mac: Option<MacAddr>,
        router: bool,
        /// Answers a solicitation, which makes the neighbour known to be reachable.
        solicited: bool,
        /// Replaces what a cache holds.
        replaces: bool,
    },
}

impl Neighbor {
    /// `address` is at `mac` now, unasked (RFC 4861 §7.2.6).
    pub const fn announcement(mac: MacAddr, address: Ipv6Addr) -> Neighbor {
        Neighbor::Advertisement {
            target: address,
            target_mac: Some(mac),
            router: false,
            solicited: false,
            replaces: true,
        }
    }

    /// The answer to a solicitation of `target` that came from `asker`: what it says, and whom it goes to (RFC 4861 §7.2.4).
    /// One who asks without an address is detecting a duplicate, and is told through the group of all nodes.
    pub const fn answer(target: Ipv6Addr, mac: MacAddr, asker: Peer) -> (Neighbor, Peer) {
        let solicited = !asker.address.is_unspecified();
        let to =
            if solicited { asker } else { Peer { mac: MacAddr::multicast_v6(ip::ALL_NODES), address: ip::ALL_NODES } };
        let answer =
            Neighbor::Advertisement { target, target_mac: Some(mac), router: false, solicited, replaces: true };
        (answer, to)
    }

    /// Whom a solicitation of `target` goes to.
    pub const fn group(target: Ipv6Addr) -> Peer {
        let address = ip::solicited_node(target);
        Peer { mac: MacAddr::multicast_v6(address), address }
    }

    pub const fn target(&self) -> Ipv6Addr {
        match self {
            Neighbor::Solicitation { target, .. } | Neighbor::Advertisement { target, .. } => *target,
        }
    }

    /// Reads the message of a datagram `ip`, which `packet` was parsed from. `None` when it is no neighbour message.
    ///
    /// # Errors
    /// `BadNeighbor` for all that RFC 4861 §7.1.1 and §7.1.2 discard, and for a fragment (RFC 6980); `BadChecksum`.
    pub fn parse(ip: &[u8], packet: &Packet) -> Result<Option<Neighbor>, Fault> {
        let (Transport::Icmp(Icmp::Other { kind, code }), IpAddr::V6(source), IpAddr::V6(destination)) =
            (packet.transport, packet.source, packet.destination)
        else {
            return Ok(None);
        };
        if kind != icmpv6::NEIGHBOR_SOLICITATION && kind != icmpv6::NEIGHBOR_ADVERTISEMENT {
            return Ok(None);
        }
        let message = packet.transport_bytes(ip);
        let target = Ipv6Addr::from(bytes::array::<16>(message, TARGET));
        let whole = packet.fragment == Fragment::Whole && message.len() >= OPTIONS;
        if !whole || packet.hops != HOP_LIMIT || code != 0 || target.is_multicast() {
            return Err(Fault::BadNeighbor);
        }
        if packet.is_checksum_valid(ip) != Some(true) {
            return Err(Fault::BadChecksum);
        }
        let flags = bytes::u8_at(message, FLAGS);
        if kind == icmpv6::NEIGHBOR_SOLICITATION {
            let source_mac = link_option(bytes::from(message, OPTIONS), SOURCE_LINK)?;
            let to_group = destination.octets().starts_with(&SOLICITED_NODE_PREFIX);
            if source.is_unspecified() && (source_mac.is_some() || !to_group) {
                return Err(Fault::BadNeighbor);
            }
            return Ok(Some(Neighbor::Solicitation { target, source_mac }));
        }
        let solicited = flags & SOLICITED != 0;
        if destination.is_multicast() && solicited {
            return Err(Fault::BadNeighbor);
        }
        Ok(Some(Neighbor::Advertisement {
            target,
            target_mac: link_option(bytes::from(message, OPTIONS), TARGET_LINK)?,
            router: flags & ROUTER != 0,
            solicited,
            replaces: flags & OVERRIDE != 0,
        }))
    }

    /// Writes the whole frame into `out`, which [`FRAME_LEN`] bytes are always enough for. Gives its length.
    ///
    /// # Errors
    /// `Truncated` when `out` has no room.
    pub fn frame(&self, from: Peer, to: Peer, out: &mut [u8]) -> Result<usize, Fault> {
        let (kind, flags, option, mac) = match *self {
            Neighbor::Solicitation { source_mac, .. } => (icmpv6::NEIGHBOR_SOLICITATION, 0, SOURCE_LINK, source_mac),
            Neighbor::Advertisement { target_mac, router, solicited, replaces, .. } => {
                let flag = |set, flag| if set { flag } else { 0 };
                let flags = flag(router, ROUTER) | flag(solicited, SOLICITED) | flag(replaces, OVERRIDE);
                (icmpv6::NEIGHBOR_ADVERTISEMENT, flags, TARGET_LINK, target_mac)
            }
        };
        let len = if mac.is_some() { 32 } else { 24 };
        let mut writer = Writer::new(out);
        let mut push = |part: &[u8]| writer.push(part).ok_or(Fault::Truncated);
        push(&ethernet::Header { destination: to.mac, source: from.mac, ether_type: EtherType::IPV6 }.emit())?;
        let header = ipv6::Header::new(from.address, to.address, Protocol::ICMPV6, len);
        push(&ipv6::Header { hop_limit: HOP_LIMIT, ..header }.emit())?;
        let rest = u32::from_be_bytes([flags, 0, 0, 0]);
        push(&icmpv6::Header { kind, code: 0, checksum: 0, rest }.emit())?;
        push(&self.target().octets())?;
        if let Some(mac) = mac {
            push(&[option, 1])?;
            push(&mac.0)?;
        }
        let message = bytes::from_mut(writer.written(), ethernet::HEADER_LEN.wrapping_add(ipv6::HEADER_LEN));
        icmpv6::Message::new_checked(message)?.fill_checksum(from.address, to.address);
        Ok(writer.len())
    }

    /// Whether a stranger claims `address`, which is at `ours`: it advertises it, or, asking without an address of its own,
    /// is about to take it (RFC 4862 §5.4.3; G4). `from` is the frame's source.
    pub fn conflicts(&self, from: Peer, address: Ipv6Addr, ours: MacAddr) -> bool {
        let mac = match *self {
            Neighbor::Advertisement { target_mac, .. } => target_mac.unwrap_or(from.mac),
            Neighbor::Solicitation { .. } if from.address.is_unspecified() => from.mac,
            Neighbor::Solicitation { .. } => return false,
        };
        self.target() == address && mac != ours
    }
}

/// The address on the link that follows from a MAC address (RFC 4291 appendix A).
pub const fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from_bits(u128::from_be_bytes([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]))
}

/// `ff02::1:ff00:0/104`.
const SOLICITED_NODE_PREFIX: [u8; 13] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];

/// The Ethernet address in the first option of this type. Others are passed over, but each has a length (RFC 4861 §4.6).
fn link_option(mut options: &[u8], kind: u8) -> Result<Option<MacAddr>, Fault> {
    let mut found = None;
    while let [this, units, ..] = *options {
        let len = usize::from(units) << 3;
        if len == 0 || len > options.len() {
            return Err(Fault::BadNeighbor);
        }
        if this == kind && units == 1 && found.is_none() {
            found = Some(MacAddr(bytes::array(options, 2)));
        }
        options = bytes::from(options, len);
    }
    if options.is_empty() { Ok(found) } else { Err(Fault::BadNeighbor) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::ethernet::Frame;

    const OURS: MacAddr = MacAddr::virtual_v6(7);
    const THEIRS: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn vip() -> Ipv6Addr {
        "2001:db8::64".parse().unwrap()
    }

    fn asker() -> Peer {
        Peer { mac: THEIRS, address: "2001:db8::9".parse().unwrap() }
    }

    fn nobody() -> Peer {
        Peer { mac: THEIRS, address: Ipv6Addr::UNSPECIFIED }
    }

    fn solicitation() -> Neighbor {
        Neighbor::Solicitation { target: vip(), source_mac: Some(THEIRS) }
    }

    fn frame(message: Neighbor, from: Peer, to: Peer) -> Vec<u8> {
        let mut out = vec![0; FRAME_LEN];
        let len = message.frame(from, to, &mut out).unwrap();
        out.truncate(len);
        out
    }

    fn parse(frame: &[u8]) -> Result<Option<Neighbor>, Fault> {
        let frame = Frame::new_checked(frame).unwrap();
        let packet = Packet::of_frame(&frame)?.unwrap();
        Neighbor::parse(frame.payload(), &packet)
    }

    /// Sums the message anew after an edit.
    fn fix(frame: &mut [u8]) {
        let packet = Packet::parse(&frame[14..]).unwrap();
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (packet.source, packet.destination) else { panic!() };
        let message = packet.transport_bytes_mut(&mut frame[14..]);
        icmpv6::Message::new_checked(message).unwrap().fill_checksum(source, destination);
    }

    #[test]
    fn a_known_solicitation_is_written_and_reads_the_same() {
        let bytes = frame(solicitation(), asker(), Neighbor::group(vip()));
        // By hand: the words of the pseudo-header (2001 0db8 0009, ff02 0001 ff00 0064, 0020, 003a), of the message (8700,
        // 2001 0db8 0064) and of its option (0101 0200 0000 0009) sum to e4ac.
        let known = b"\x33\x33\xff\x00\x00\x64\x02\0\0\0\0\x09\x86\xdd\
            \x60\0\0\0\x00\x20\x3a\xff\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\xff\x02\0\0\0\0\0\0\0\0\0\x01\xff\0\0\x64\
            \x87\x00\x1b\x53\0\0\0\0\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x64\x01\x01\x02\0\0\0\0\x09";
        assert_eq!(bytes, known);
        assert_eq!(parse(&bytes), Ok(Some(solicitation())));
    }

    #[test]
    fn messages_read_back_as_they_were_written() {
        let (answer, to) = Neighbor::answer(vip(), OURS, asker());
        let (told_to_all, all) = Neighbor::answer(vip(), OURS, nobody());
        assert_eq!((to, all.address, all.mac.to_string().as_str()), (asker(), ip::ALL_NODES, "33:33:00:00:00:01"));
        let us = Peer { mac: OURS, address: vip() };
        let detection = Neighbor::Solicitation { target: vip(), source_mac: None };
        let bare =
            Neighbor::Advertisement { target: vip(), target_mac: None, router: true, solicited: true, replaces: false };
        for (message, from, to, len) in [
            (solicitation(), asker(), Neighbor::group(vip()), 86),
            (detection, nobody(), Neighbor::group(vip()), 78),
            (answer, us, to, 86),
            (told_to_all, us, all, 86),
            (Neighbor::announcement(OURS, vip()), us, all, 86),
            (bare, us, asker(), 78),
        ] {
            let bytes = frame(message, from, to);
            assert_eq!((parse(&bytes), bytes.len()), (Ok(Some(message)), len));
            assert_eq!(message.frame(from, to, &mut vec![0; len - 1]), Err(Fault::Truncated));
        }
    }

    /// RFC 4861 §7.1.1 and §7.1.2, by one edit each of a good message.
    #[test]
    fn what_the_standard_discards_is_refused() {
        type Edit = fn(&mut Vec<u8>);
        let asked = frame(solicitation(), asker(), Neighbor::group(vip()));
        let (answer, _) = Neighbor::answer(vip(), OURS, asker());
        let told = frame(answer, Peer { mac: OURS, address: vip() }, asker());
        let bad = Err(Fault::BadNeighbor);
        let cases: [(&str, &[u8], Edit, _); 12] = [
            ("a hop limit of 254: it came from elsewhere", &asked, |b| b[21] = 254, bad),
            ("another code", &asked, |b| b[55] = 1, bad),
            ("a group as target", &asked, |b| b[62] = 0xff, bad),
            ("an option of length zero", &asked, |b| b[79] = 0, bad),
            ("an option past the end", &asked, |b| b[79] = 2, bad),
            ("half an option", &asked, |b| (b.truncate(79), b[19] = 25).1, bad),
            ("less than a target", &asked, |b| (b.truncate(77), b[19] = 23).1, bad),
            ("detection that names a MAC", &asked, |b| b[22..38].fill(0), bad),
            ("an answer to a group that claims to be asked for", &told, |b| b[38] = 0xff, bad),
            ("an answer from elsewhere", &told, |b| b[21] = 1, bad),
            ("a router's advertisement", &told, |b| b[54] = 134, Ok(None)),
            ("a redirect", &told, |b| b[54] = 137, Ok(None)),
        ];
        for (name, good, edit, want) in cases {
            let mut bytes = good.to_vec();
            assert!(matches!(parse(&bytes), Ok(Some(_))));
            edit(&mut bytes);
            fix(&mut bytes);
            assert_eq!(parse(&bytes), want, "{name}");
        }
        let mut summed = asked.clone();
        summed[85] ^= 1;
        assert_eq!(parse(&summed), Err(Fault::BadChecksum));
        let mut detection =
            frame(Neighbor::Solicitation { target: vip(), source_mac: None }, nobody(), Neighbor::group(vip()));
        detection[38..54].copy_from_slice(&vip().octets());
        fix(&mut detection);
        assert_eq!(parse(&detection), bad, "detection that asks one node only");
    }

    #[test]
    fn a_mac_address_makes_an_address_of_its_link() {
        let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(link_local(mac).to_string(), "fe80::3656:78ff:fe9a:bcde");
    }

    #[test]
    fn a_stranger_that_claims_or_probes_for_the_vip_is_noticed() {
        let us = Peer { mac: OURS, address: vip() };
        let detection = Neighbor::Solicitation { target: vip(), source_mac: None };
        let bare = |target| Neighbor::Advertisement {
            target,
            target_mac: None,
            router: false,
            solicited: false,
            replaces: true,
        };
        for (name, message, from, conflict) in [
            ("their advertisement", Neighbor::announcement(THEIRS, vip()), asker(), true),
            ("their advertisement without a MAC", bare(vip()), asker(), true),
            ("their detection", detection, nobody(), true),
            ("their question", solicitation(), asker(), false),
            ("our advertisement, come back", Neighbor::announcement(OURS, vip()), us, false),
            ("our detection, come back", detection, Peer { mac: OURS, ..nobody() }, false),
            ("another's address", bare(asker().address), asker(), false),
        ] {
            assert_eq!(message.conflicts(from, vip(), OURS), conflict, "{name}");
        }
    }
    proptest! {
        /// With a right checksum, so that it gets as far as the options.
        #[test]
        fn no_bytes_panic_and_options_do_not_loop(
            answers in any::<bool>(), edits in vec((54..118_usize, any::<u8>()), 0..6), options in vec(any::<u8>(), 0..32),
        ) {
            let us = Peer { mac: OURS, address: vip() };
            let mut bytes = if answers {
                frame(Neighbor::announcement(OURS, vip()), us, asker())
            } else {
                frame(solicitation(), asker(), Neighbor::group(vip()))
            };
            bytes.extend_from_slice(&options);
            bytes[19] += options.len() as u8;
            for (at, value) in edits {
                if at < bytes.len() {
                    bytes[at] = value;
                }
            }
            if Packet::parse(&bytes[14..]).is_ok() {
                fix(&mut bytes);
                let _ = parse(&bytes);
            }
        }
    }
}
