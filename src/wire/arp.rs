//! Codec: ARP for IPv4 on Ethernet (RFC 826), announcements and conflicts as RFC 5227 has them.
//!
//! Not here: a cache, timers, whether to defend an address.

use std::net::Ipv4Addr;

use super::bytes;
use super::ethernet::{self, EtherType};
use super::fault::Fault;
use crate::base::MacAddr;

/// Bytes of a packet.
pub const LEN: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, their address lengths.
const FIXED: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

const OPERATION: usize = 6;
const SENDER_MAC: usize = 8;
const SENDER: usize = 14;
const TARGET_MAC: usize = 18;
const TARGET: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Request,
    Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    pub operation: Operation,
    pub sender_mac: MacAddr,
    /// Unspecified in a probe.
    pub sender: Ipv4Addr,
    /// Zero in a request: it is what is asked.
    pub target_mac: MacAddr,
    pub target: Ipv4Addr,
}

impl Arp {
    /// Who has `target`?
    pub const fn request(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Arp {
        Arp { operation: Operation::Request, sender_mac: mac, sender, target_mac: MacAddr::ZERO, target }
    }

    /// Does anybody have `address`? Asked before it is used, without a word about us (RFC 5227 §2.1.1).
    pub const fn probe(mac: MacAddr, address: Ipv4Addr) -> Arp {
        Arp::request(mac, Ipv4Addr::UNSPECIFIED, address)
    }

    /// `address` is at `mac` now: a gratuitous request, which every neighbour's cache takes (RFC 5227 §3).
    pub const fn announcement(mac: MacAddr, address: Ipv4Addr) -> Arp {
        Arp::request(mac, address, address)
    }

    /// The same as a reply that nobody asked for: some hosts take an announcement in one form only (RFC 5227 §3).
    pub const fn told(mac: MacAddr, address: Ipv4Addr) -> Arp {
        Arp { operation: Operation::Reply, sender_mac: mac, sender: address, target_mac: mac, target: address }
    }

    /// The answer to a request: its target is at `mac`.
    #[must_use]
    pub const fn answer(&self, mac: MacAddr) -> Arp {
        Arp {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }

    /// Reads a frame's payload; its padding is not looked at.
    ///
    /// # Errors
    /// `Truncated`; `BadArp` for other hardware, protocols and operations, and for a sender that no host can be.
    pub fn parse(payload: &[u8]) -> Result<Arp, Fault> {
        let packet: &[u8; LEN] = payload.first_chunk().ok_or(Fault::Truncated)?;
        if !packet.starts_with(&FIXED) {
            return Err(Fault::BadArp);
        }
        let operation = match bytes::u16_at(packet, OPERATION) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(Fault::BadArp),
        };
        let arp = Arp {
            operation,
            sender_mac: MacAddr(bytes::array(packet, SENDER_MAC)),
            sender: Ipv4Addr::from(bytes::array::<4>(packet, SENDER)),
            target_mac: MacAddr(bytes::array(packet, TARGET_MAC)),
            target: Ipv4Addr::from(bytes::array::<4>(packet, TARGET)),
        };
        let impossible = arp.sender.is_multicast() || arp.sender.is_broadcast() || arp.sender.is_loopback();
        if impossible || !arp.sender_mac.is_unicast() { Err(Fault::BadArp) } else { Ok(arp) }
    }

    pub fn emit(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        let operation = match self.operation {
            Operation::Request => 1_u16,
            Operation::Reply => 2,
        };
        bytes::put(&mut out, 0, &FIXED);
        bytes::put(&mut out, OPERATION, &operation.to_be_bytes());
        bytes::put(&mut out, SENDER_MAC, &self.sender_mac.0);
        bytes::put(&mut out, SENDER, &self.sender.octets());
        bytes::put(&mut out, TARGET_MAC, &self.target_mac.0);
        bytes::put(&mut out, TARGET, &self.target.octets());
        out
    }

    /// The whole frame, padded: from the sender's MAC, so that switches learn it; a reply to its target, a request to all.
    pub fn frame(&self) -> [u8; ethernet::MINIMUM_LEN] {
        let destination = match self.operation {
            Operation::Request => MacAddr::BROADCAST,
            Operation::Reply => self.target_mac,
        };
        self.frame_to(destination)
    }

    /// The same to one neighbour: whether it is still there is asked of it alone (RFC 1122 §2.3.2.1).
    pub fn frame_to(&self, destination: MacAddr) -> [u8; ethernet::MINIMUM_LEN] {
        let header = ethernet::Header { destination, source: self.sender_mac, ether_type: EtherType::ARP };
        let mut out = [0; ethernet::MINIMUM_LEN];
        bytes::put(&mut out, 0, &header.emit());
        bytes::put(&mut out, ethernet::HEADER_LEN, &self.emit());
        out
    }

    /// Whether a stranger claims `address`, which is at `ours` (RFC 5227 §2.1.1 and §2.4; G4): it says so, or probes for it.
    pub fn conflicts(&self, address: Ipv4Addr, ours: MacAddr) -> bool {
        let claims = self.sender == address;
        let probes = self.operation == Operation::Request && self.sender.is_unspecified() && self.target == address;
        (claims || probes) && self.sender_mac != ours
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const OURS: MacAddr = MacAddr::virtual_v4(7);
    const THEIRS: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
    const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    /// Who has 10.0.0.100? Tell 10.0.0.9, which is at 02:00:00:00:00:09.
    const KNOWN: [u8; LEN] = *b"\x00\x01\x08\x00\x06\x04\x00\x01\x02\0\0\0\0\x09\x0a\0\0\x09\0\0\0\0\0\0\x0a\0\0\x64";

    #[test]
    fn a_known_request_reads_is_written_the_same_and_answered() {
        let request = Arp::parse(&KNOWN).unwrap();
        assert_eq!(request, Arp::request(THEIRS, PEER, VIP));
        assert_eq!(request.emit(), KNOWN);
        let frame = request.answer(OURS).frame();
        let view = ethernet::Frame::new_checked(frame).unwrap();
        assert_eq!((view.destination(), view.source(), view.ether_type()), (THEIRS, OURS, EtherType::ARP));
        let reply = Arp::parse(view.payload()).unwrap();
        assert_eq!((reply.operation, reply.sender, reply.sender_mac), (Operation::Reply, VIP, OURS));
        assert_eq!((reply.target, reply.target_mac), (PEER, THEIRS));
        let announcement = Arp::announcement(OURS, VIP).frame();
        assert!(ethernet::Frame::new_checked(announcement).unwrap().destination().is_broadcast());
    }

    #[test]
    fn what_is_not_about_ipv4_on_ethernet_is_refused() {
        type Edit = fn(&mut Vec<u8>);
        let cases: [(&str, Edit, Fault); 10] = [
            ("27 bytes", |b| b.truncate(27), Fault::Truncated),
            ("another hardware", |b| b[1] = 6, Fault::BadArp),
            ("another protocol", |b| b[2] = 0x86, Fault::BadArp),
            ("long hardware addresses", |b| b[4] = 8, Fault::BadArp),
            ("long protocol addresses", |b| b[5] = 16, Fault::BadArp),
            ("another operation", |b| b[7] = 3, Fault::BadArp),
            ("a group as a sender", |b| b[8] = 1, Fault::BadArp),
            ("nobody as a sender", |b| b[8..14].fill(0), Fault::BadArp),
            ("a group's IP", |b| b[14] = 224, Fault::BadArp),
            ("loopback", |b| b[14] = 127, Fault::BadArp),
        ];
        for (name, edit, fault) in cases {
            let mut bytes = KNOWN.to_vec();
            edit(&mut bytes);
            assert_eq!(Arp::parse(&bytes), Err(fault), "{name}");
        }
    }

    #[test]
    fn a_stranger_that_claims_or_probes_for_the_vip_is_noticed() {
        for (name, arp, conflict) in [
            ("their announcement", Arp::announcement(THEIRS, VIP), true),
            ("their announcement as a reply", Arp::told(THEIRS, VIP), true),
            ("their reply", Arp::request(OURS, PEER, VIP).answer(THEIRS), true),
            ("their probe", Arp::probe(THEIRS, VIP), true),
            ("our own announcement, come back", Arp::announcement(OURS, VIP), false),
            ("our own probe, come back", Arp::probe(OURS, VIP), false),
            ("their question", Arp::request(THEIRS, PEER, VIP), false),
            ("their probe for another", Arp::probe(THEIRS, PEER), false),
        ] {
            assert_eq!(arp.conflicts(VIP, OURS), conflict, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(
            mut bytes in vec(any::<u8>(), LEN..60), reply in any::<bool>(), shaped in any::<bool>(),
        ) {
            if shaped {
                bytes[..6].copy_from_slice(&FIXED);
                bytes[6..8].copy_from_slice(&[0, 1 + u8::from(reply)]);
                bytes[8] &= 0xfe;
            }
            if let Ok(arp) = Arp::parse(&bytes) {
                prop_assert_eq!(&arp.emit()[..], &bytes[..LEN]);
            }
        }
    }
}
