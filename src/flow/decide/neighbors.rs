//! Engine: where a VIP is: ARP and neighbour discovery, and strangers that claim it (G4).
//!
//! A stranger is told otherwise, not more often than RFC 5227 §2.4 allows; nobody yields. It is reported each time.
//! Not here: announcements at start and on change, and learning where others are.

use std::net::{IpAddr, Ipv6Addr};

use super::frame::header;
use super::{Engine, Event, FrameBuf, Verdict, Why};
use crate::base::{MacAddr, Reason};
use crate::flow::tables::Entry;
use crate::flow::tables::Vip;
use crate::wire::arp::{Arp, Operation};
use crate::wire::ethernet::{self, EtherType};
use crate::wire::icmp::Icmp;
use crate::wire::ip::Protocol;
use crate::wire::ndp::{self, Neighbor, Peer};
use crate::wire::packet::{Packet, Transport};
use crate::wire::{icmpv6, ip, ipv6};

impl Engine<'_> {
    pub(super) fn arp(&self, frame: &mut FrameBuf<'_>) -> Verdict {
        let arp = match Arp::parse(self.datagram(frame)) {
            Ok(arp) => arp,
            Err(fault) => {
                let target = self.datagram(frame).get(24..).and_then(<[u8]>::first_chunk::<4>);
                let ours = target.is_some_and(|target| self.vip_here((*target).into()).is_some());
                return if ours { Verdict::fault(fault) } else { Verdict::pass(Why::NotOurs) };
            }
        };
        let claimed = self.vip_here(arp.sender.into());
        let asked = self.vip_here(arp.target.into()).filter(|_| arp.operation == Operation::Request);
        let Some(vip) = claimed.or(asked) else { return Verdict::pass(Why::NotOurs) };
        let IpAddr::V4(address) = vip.address else { return Verdict::pass(Why::NotOurs) };
        if self.is_ours(frame, arp.sender_mac) || self.is_ours(frame, self.arrival.source) {
            return Verdict::drop(Reason::OwnSourceMac);
        }
        let conflict =
            arp.conflicts(address, vip.mac).then_some(Event::Conflict { address: vip.address, mac: arp.sender_mac });
        let verdict = if claimed.is_some() {
            if !self.shared.may_defend(vip.address, self.now) {
                return Verdict::drop(Reason::VipConflict).noting(conflict);
            }
            self.say(frame, &Arp::announcement(vip.mac, address), MacAddr::BROADCAST, Why::Defended)
        } else {
            self.say(frame, &arp.answer(vip.mac), arp.sender_mac, Why::IsAt)
        };
        verdict.noting(conflict)
    }

    fn say(&self, frame: &mut FrameBuf<'_>, arp: &Arp, to: MacAddr, why: Why) -> Verdict {
        let (head, len) = header(to, arp.sender_mac, self.arrival.tag, EtherType::ARP);
        let head = head.get(..len).unwrap_or_default();
        let padding = ethernet::MINIMUM_LEN.saturating_sub(len.saturating_add(crate::wire::arp::LEN));
        let padding = [0; ethernet::MINIMUM_LEN].get(..padding).unwrap_or_default();
        if frame.replace([head, &arp.emit(), padding]) { Verdict::reply(why) } else { Verdict::drop(Reason::Internal) }
    }

    /// Whether it looks like an answer to whoever asked where a neighbour is: a stranger with a VIP answers the kernel's address, which
    /// asks in our place (`mode::packet::herald`).
    pub(super) fn is_advertisement(&self, frame: &FrameBuf<'_>) -> bool {
        let ip = self.datagram(frame);
        let byte = |at: usize| ip.get(at).copied();
        byte(6) == Some(Protocol::ICMPV6.0) && byte(ipv6::HEADER_LEN) == Some(icmpv6::NEIGHBOR_ADVERTISEMENT)
    }

    /// A frame to a group of IPv6, or to another address: a solicitation of a VIP, or somebody's announcement of one.
    pub(super) fn to_others(&self, frame: &mut FrameBuf<'_>) -> Verdict {
        let ignored = Verdict::pass(Why::NotOurs);
        let Ok(packet) = self.parse(frame) else { return ignored };
        let Transport::Icmp(Icmp::Other {
            kind: icmpv6::NEIGHBOR_SOLICITATION | icmpv6::NEIGHBOR_ADVERTISEMENT, ..
        }) = packet.transport
        else {
            return ignored;
        };
        let target = packet.transport_bytes(self.datagram(frame)).get(8..).and_then(<[u8]>::first_chunk::<16>);
        match target.and_then(|target| self.vip_here(Ipv6Addr::from(*target).into())) {
            Some(vip) => self.discover(frame, vip, &packet),
            None => ignored,
        }
    }

    /// A message to the VIP itself that is neither an echo nor an error.
    pub(super) fn neighbor(&self, frame: &mut FrameBuf<'_>, entry: &Entry, packet: &Packet) -> Verdict {
        match self.vip_here(entry.vip.address) {
            Some(vip) => self.discover(frame, vip, packet),
            None => Verdict::drop(Reason::IcmpIgnored),
        }
    }

    fn discover(&self, frame: &mut FrameBuf<'_>, vip: Vip, packet: &Packet) -> Verdict {
        let message = match Neighbor::parse(self.datagram(frame), packet) {
            Ok(Some(message)) if message.target() == vip.address => message,
            Ok(_) => return Verdict::drop(Reason::IcmpIgnored),
            Err(fault) => return Verdict::fault(fault),
        };
        let (IpAddr::V6(address), IpAddr::V6(source)) = (vip.address, packet.source) else {
            return Verdict::drop(Reason::IcmpIgnored);
        };
        let from = Peer { mac: self.arrival.source, address: source };
        if self.is_ours(frame, from.mac) {
            return Verdict::drop(Reason::OwnSourceMac);
        }
        let us = Peer { mac: vip.mac, address };
        let claimed_at = match message {
            Neighbor::Advertisement { target_mac, .. } => target_mac.unwrap_or(from.mac),
            Neighbor::Solicitation { .. } => from.mac,
        };
        let conflict = message.conflicts(from, address, vip.mac);
        let conflict = conflict.then_some(Event::Conflict { address: vip.address, mac: claimed_at });
        let (answer, to, why) = match message {
            Neighbor::Advertisement { .. } if conflict.is_none() => return Verdict::drop(Reason::IcmpIgnored),
            Neighbor::Solicitation { source_mac, .. } => {
                let asker = Peer { mac: source_mac.unwrap_or(from.mac), address: source };
                let (answer, to) = Neighbor::answer(address, vip.mac, asker);
                (answer, to, Why::IsAt)
            }
            Neighbor::Advertisement { .. } if !self.shared.may_defend(vip.address, self.now) => {
                return Verdict::drop(Reason::VipConflict).noting(conflict);
            }
            Neighbor::Advertisement { .. } => {
                let all = Peer { mac: MacAddr::multicast_v6(ip::ALL_NODES), address: ip::ALL_NODES };
                (Neighbor::announcement(vip.mac, address), all, Why::Defended)
            }
        };
        let mut out = [0; ndp::FRAME_LEN];
        let written = answer.frame(us, to, &mut out).ok().and_then(|len| out.get(ethernet::HEADER_LEN..len));
        let (head, len) = header(to.mac, vip.mac, self.arrival.tag, EtherType::IPV6);
        let head = head.get(..len).unwrap_or_default();
        match written {
            Some(datagram) if frame.replace([head, datagram, &[]]) => Verdict::reply(why).noting(conflict),
            _ => Verdict::drop(Reason::Internal),
        }
    }

    /// The VIP of an address, if it is answered for on the link that this came in by.
    fn vip_here(&self, address: IpAddr) -> Option<Vip> {
        let (entry, link) = (self.tables.vip(address)?, self.link()?);
        (entry.vip.link == link.id).then_some(entry.vip)
    }

    fn is_ours(&self, frame: &FrameBuf<'_>, mac: MacAddr) -> bool {
        self.tables.is_station(frame.interface, mac)
    }
}
