//! Engine: what becomes of one frame. The reference model of the packet modes (DESIGN §6): it *is* the userspace engine, the
//! oracle for another one, and what `explain` and `replay` ask.
//!
//! ```text
//! ethernet ── ARP ────────────────────────────▶ neighbors: is it the VIP that is asked for, or claimed?
//!    │
//!    IP ─ to a VIP ─ guards ─ parse ─ ICMP ──▶ echo, errors about a flow, neighbour discovery
//!    │                          └─ anything ─▶ flow: service, slot or record, endpoint ─▶ forward: l2, tunnel, nat
//!    ├─ to a group, or an advertisement ─────▶ neighbors: is it a VIP that is asked for, or claimed?
//!    └─ from an endpoint, NAT ───────────────▶ back: its client, who knows only the VIP
//! ```
//!
//! What is not ours passes, however broken: the kernel has it too. What is ours and cannot go on is dropped by a named reason.
//! Every mode takes one hop off a packet. For tunnels and NAT that is what a router does; for `l2`, IPVS does it since Linux
//! 4.11, and for the same reason: an endpoint that lacks the VIP and forwards sends it back to us, and nothing else ends that.
//! No packet is fragmented or put together. A frame that is many packets stays one wherever the way out can take it apart; for a
//! tunnel it goes back to the caller, who divides it (`wire::segments`) and asks about each. Padding stays where the frame stays,
//! as in a switch, and is cut off in tunnels.
//!
//! Pure; time and entropy are arguments. Budget: no allocation, no sum over a payload but where a sender left its own to a card
//! and the way out is a tunnel (`benches/flow.rs`). Not here: sockets, who learns MAC addresses, counters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::tables::{Entry, Link, LinkId, Tables};
use crate::base::{MacAddr, Moment, Reason};
use crate::wire::checksum::Stored;
use crate::wire::ethernet::EtherType;
use crate::wire::icmp::{self, Icmp, Problem};
use crate::wire::ip::{Fragment, Protocol};
use crate::wire::packet::{Packet, Transport};
use crate::wire::{Fault, answer};

mod about;
mod back;
mod flow;
mod forward;
mod frame;
mod learned;
mod neighbors;
mod shared;
mod towards;
mod trace;
mod verdict;

pub use frame::FrameBuf;
pub use shared::Shared;
pub use towards::{Goal, towards};
pub use trace::{Matched, Picked, Trace, trace};
pub use verdict::{Action, Event, Verdict, Why, reason};

use frame::{Arrival, header};

/// Decides about one frame, and rewrites it where it goes on or is answered. `entropy` makes what need not be predictable:
/// identifications of our own datagrams.
pub fn decide(tables: &Tables, shared: &Shared, now: Moment, entropy: u64, frame: &mut FrameBuf<'_>) -> Verdict {
    let arrival = match Arrival::read(frame.bytes()) {
        Ok(arrival) => arrival,
        Err(fault) => return Verdict::fault(fault),
    };
    let link = tables.place(LinkId { interface: frame.interface, vlan: arrival.vlan() });
    // Two tags are a VLAN in a VLAN, which no link is.
    let link = link.filter(|_| arrival.tags <= 1);
    let engine = Engine { tables, shared, now, entropy, arrival, link };
    match arrival.ether_type {
        EtherType::ARP => engine.arp(frame),
        EtherType::IPV4 | EtherType::IPV6 => engine.ip(frame),
        _ => Verdict::pass(Why::OtherProtocol),
    }
}

/// One frame's decision.
struct Engine<'a> {
    tables: &'a Tables,
    shared: &'a Shared,
    now: Moment,
    entropy: u64,
    arrival: Arrival,
    /// The place of the link that it came in by.
    link: Option<usize>,
}

impl Engine<'_> {
    fn ip(&self, frame: &mut FrameBuf<'_>) -> Verdict {
        let Some(destination) = destination(self.arrival.ether_type, self.datagram(frame)) else {
            return Verdict::pass(Why::NotOurs);
        };
        // An address that endpoints see may be nobody's but ours, and then it is answered for as a VIP is.
        if self.tables.ways().is_source(destination) {
            let verdict = self.back(frame, destination);
            if verdict.action != Action::Pass || self.tables.vip(destination).is_none() {
                return verdict;
            }
        }
        if let Some(entry) = self.tables.vip(destination) {
            return self.to_vip(frame, entry);
        }
        match destination {
            IpAddr::V6(group) if group.is_multicast() || self.is_advertisement(frame) => self.to_others(frame),
            _ if self.tables.ways().is_empty() => Verdict::pass(Why::NotOurs),
            destination => self.back(frame, destination),
        }
    }

    fn to_vip(&self, frame: &mut FrameBuf<'_>, entry: &Entry) -> Verdict {
        let Arrival { source, destination, .. } = self.arrival;
        if destination.is_multicast() {
            return Verdict::drop(Reason::GroupDestinationMac);
        }
        if !self.tables.is_station(frame.interface, destination) {
            return Verdict::pass(Why::OtherStation);
        }
        // A VLAN is a wall: what is on one side of it is not reached from the other over the same interface.
        let elsewhere =
            |link: &Link| link.id.interface == entry.vip.link.interface && link.id.vlan != entry.vip.link.vlan;
        if self.link().is_none_or(elsewhere) {
            return Verdict::drop(Reason::UnexpectedVlan);
        }
        if source.is_multicast() {
            return Verdict::drop(Reason::GroupSourceMac);
        }
        if self.tables.is_station(frame.interface, source) {
            return Verdict::drop(Reason::OwnSourceMac);
        }
        if frame.cut {
            return Verdict::drop(Reason::TruncatedPacket);
        }
        let packet = match self.parse(frame) {
            Ok(packet) => packet,
            Err(fault) => return Verdict::fault(fault),
        };
        if let Err(fault) = packet.check(self.datagram(frame)) {
            return Verdict::fault(fault);
        }
        if self.tables.is_own(packet.source) || self.tables.vip(packet.source).is_some() {
            return Verdict::drop(Reason::OwnSourceAddress);
        }
        if is_icmp(&packet) { self.icmp(frame, entry, &packet) } else { self.flow(frame, entry, &packet) }
    }

    /// A message to the VIP.
    fn icmp(&self, frame: &mut FrameBuf<'_>, entry: &Entry, packet: &Packet) -> Verdict {
        // Nothing is put together here, and what a message says is in its first fragment only.
        if packet.fragment != Fragment::Whole {
            return Verdict::drop(Reason::FragmentedIcmp);
        }
        match packet.transport {
            Transport::Icmp(Icmp::EchoRequest { .. }) => {
                answer::echo(self.datagram_mut(frame), packet);
                self.turn_back(frame, entry.vip.mac)
            }
            Transport::Icmp(Icmp::Error { problem, embedded }) => self.about(frame, entry, packet, problem, &embedded),
            _ if packet.is_ipv6() => self.neighbor(frame, entry, packet),
            _ => Verdict::drop(Reason::IcmpIgnored),
        }
    }

    /// The frame, whose datagram was turned into an answer, goes back to whom it came from.
    fn turn_back(&self, frame: &mut FrameBuf<'_>, from: MacAddr) -> Verdict {
        let (head, len) = header(self.arrival.source, from, self.arrival.tag, self.arrival.ether_type);
        let head = head.get(..len).unwrap_or_default();
        frame.stored = Stored::Whole;
        if frame.begin_with(self.arrival.header_len, [head, &[], &[]]) {
            Verdict::reply(Why::Echo)
        } else {
            Verdict::drop(Reason::Internal)
        }
    }

    /// Another datagram goes back in the frame's place.
    fn answer(&self, frame: &mut FrameBuf<'_>, from: MacAddr, datagram: &[u8], why: Why) -> Verdict {
        let (head, len) = header(self.arrival.source, from, self.arrival.tag, self.arrival.ether_type);
        let head = head.get(..len).unwrap_or_default();
        if frame.replace([head, datagram, &[]]) { Verdict::reply(why) } else { Verdict::drop(Reason::Internal) }
    }

    /// Tells the sender what is wrong with its packet, from the address it was meant for, if one may (RFC 1812 §4.3.2.8,
    /// RFC 4443 §2.4). The packet goes nowhere either way.
    fn refuse(
        &self,
        frame: &mut FrameBuf<'_>,
        packet: &Packet,
        problem: Problem,
        from: (MacAddr, IpAddr),
        (why, reason): (Why, Reason),
    ) -> Verdict {
        if !packet.permits_error() || !self.shared.may_tell(problem, packet.source, self.now) {
            return Verdict::drop(reason);
        }
        let mut out = [0; ERROR_LEN];
        match icmp::error(problem, from.1, self.datagram(frame), self.identification(), &mut out) {
            Ok(len) => self.answer(frame, from.0, out.get(..len).unwrap_or_default(), why),
            Err(_) => Verdict::drop(reason),
        }
    }

    /// The IP datagram, padding behind it.
    fn datagram<'f>(&self, frame: &'f FrameBuf<'_>) -> &'f [u8] {
        frame.bytes().get(self.arrival.header_len..).unwrap_or_default()
    }

    fn datagram_mut<'f>(&self, frame: &'f mut FrameBuf<'_>) -> &'f mut [u8] {
        frame.bytes_mut().get_mut(self.arrival.header_len..).unwrap_or_default()
    }

    fn parse(&self, frame: &FrameBuf<'_>) -> Result<Packet, Fault> {
        let ip = self.datagram(frame);
        let version = if self.arrival.ether_type == EtherType::IPV6 { 6 } else { 4 };
        if ip.first().is_none_or(|first| first >> 4 != version) {
            return Err(Fault::BadIpVersion);
        }
        Packet::parse(ip)
    }

    fn link(&self) -> Option<&Link> {
        self.tables.link(self.link?)
    }

    /// For a datagram of ours that may be fragmented on its way.
    #[allow(clippy::cast_possible_truncation)] // any 16 bits of it
    const fn identification(&self) -> u16 {
        self.entropy as u16
    }
}

/// What a frame's EtherType says its destination is, unchecked.
fn destination(ether_type: EtherType, ip: &[u8]) -> Option<IpAddr> {
    if ether_type == EtherType::IPV6 {
        let octets: &[u8; 16] = ip.get(24..)?.first_chunk()?;
        return Some(Ipv6Addr::from(*octets).into());
    }
    let octets: &[u8; 4] = ip.get(16..)?.first_chunk()?;
    Some(Ipv4Addr::from(*octets).into())
}

/// Whether it is of its own family's ICMP.
fn is_icmp(packet: &Packet) -> bool {
    packet.protocol == if packet.is_ipv6() { Protocol::ICMPV6 } else { Protocol::ICMP }
}

/// The longest error of ours: IPv6's least MTU.
const ERROR_LEN: usize = 1280;
