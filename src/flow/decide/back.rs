//! Engine: what endpoints send under NAT: replies, which go back to the client as the VIP's, and errors about its packets.
//!
//! A reply is known by the endpoint's declared port or by the flow's record, and by nothing else. The rest of an endpoint's
//! traffic is its own, and passes; so does what goes to Strata's own addresses, probes' answers among it. But the kernel, which
//! knows no records, is kept from all that may be a reply (`sys::classify`): what turns out to be none is dropped here, by name.
//! Not here: direct return, which never comes by.

use std::net::{IpAddr, SocketAddr};

use super::about::is_tiny;
use super::flow::{has_ports, kind, place, unassembled};
use super::{Engine, FrameBuf, Verdict, Why, is_icmp};
use crate::base::{MacAddr, Reason, ServiceId};
use crate::flow::fragments::Refused;
use crate::flow::nat::Binding;
use crate::flow::{FlowKey, Kind};
use crate::wire::ethernet::EtherType;
use crate::wire::icmp::{Embedded, Icmp, Problem};
use crate::wire::ip::{Fragment, Protocol};
use crate::wire::packet::{Packet, Transport};
use crate::wire::rewrite::{Edit, Place};
use crate::wire::{Fault, icmpv4, icmpv6, ipv6};

/// Whose reply a packet is, and what its client sees instead of the endpoint.
struct Reply {
    service: ServiceId,
    endpoint: u16,
    vip: Place,
    /// Full NAT: the client, whom the endpoint does not know.
    client: Option<Place>,
}

impl Engine<'_> {
    /// A packet that is not to a VIP, while something is translated.
    pub(super) fn back(&self, frame: &mut FrameBuf<'_>, destination: IpAddr) -> Verdict {
        let (Some(_), true) = (self.link, self.tables.is_station(frame.interface, self.arrival.destination)) else {
            return Verdict::pass(Why::NotOurs);
        };
        // What goes to an address that endpoints see may be a flow's; what goes to another one of ours is not.
        let ours = self.tables.is_own(destination) && !self.tables.ways().is_source(destination);
        if ours {
            return Verdict::pass(Why::ToUs);
        }
        let packet = match self.parse(frame) {
            Ok(packet) => packet,
            Err(fault) => return self.unreadable(frame, destination, fault),
        };
        match packet.transport {
            Transport::Icmp(Icmp::Error { problem, embedded }) => self.back_about(frame, &packet, problem, &embedded),
            _ if is_icmp(&packet) => Verdict::pass(Why::NotOurs),
            _ => self.back_flow(frame, &packet),
        }
    }

    fn back_flow(&self, frame: &mut FrameBuf<'_>, packet: &Packet) -> Verdict {
        let known = self.tables.ways().declares(packet.source, packet.protocol)
            || self.tables.ways().records(packet.source)
            || self.tables.ways().is_source(packet.destination);
        if !known {
            return Verdict::pass(Why::NotOurs);
        }
        let ports = match self.ports(packet) {
            Ok((ports, _)) => ports,
            // Whether that was a reply, nobody can say.
            Err(Refused::FirstMissing) => return self.no_reply(packet, None),
            Err(refused) => return Verdict::drop(unassembled(refused)),
        };
        let from = SocketAddr::new(packet.source, ports.map_or(0, |ports| ports.source));
        let to = SocketAddr::new(packet.destination, ports.map_or(0, |ports| ports.destination));
        let seen = FlowKey::new(packet.protocol.0, from, to);
        let Some(reply) = self.reply(&seen, kind(packet)) else {
            // A later fragment's ports are known here, and not to the kernel's classifier.
            let port = ports.filter(|_| !packet.fragment.is_later()).map(|ports| ports.source);
            return self.no_reply(packet, port);
        };
        let outer = Edit { source: Some(reply.vip), destination: reply.client };
        let verdict = match packet.check(self.datagram(frame)) {
            Ok(()) => self.to_client(frame, packet, &reply, (&outer, &Edit::NONE), Why::Back),
            Err(fault) => Verdict::fault(fault),
        };
        verdict.of(reply.service).at(reply.endpoint)
    }

    /// What an endpoint sends to others than clients. Full NAT's own addresses are the kernel's never, and dropped elsewhere.
    fn no_reply(&self, packet: &Packet, port: Option<u16>) -> Verdict {
        let ways = self.tables.ways();
        let lost = ways.keeps(packet.source, packet.protocol, port) && !ways.is_source(packet.destination);
        if lost { Verdict::drop(Reason::NoReply) } else { Verdict::pass(Why::NoReply) }
    }

    /// What contradicts itself is the kernel's as any packet is that is none of ours, unless it is kept from that: then it goes nowhere.
    fn unreadable(&self, frame: &FrameBuf<'_>, destination: IpAddr, fault: Fault) -> Verdict {
        let ways = self.tables.ways();
        let is_kept = |(source, protocol, port)| ways.keeps(source, protocol, port) && !ways.is_source(destination);
        let claims = claims(self.arrival.ether_type, self.datagram(frame));
        if claims.is_some_and(is_kept) { Verdict::fault(fault) } else { Verdict::pass(Why::NotOurs) }
    }

    /// An error about what a client sent, from the endpoint or from a router before it.
    fn back_about(&self, frame: &mut FrameBuf<'_>, packet: &Packet, problem: Problem, embedded: &Embedded) -> Verdict {
        if packet.fragment != Fragment::Whole {
            return Verdict::pass(Why::NotOurs);
        }
        let ports = embedded.ports.filter(|_| has_ports(embedded.protocol.0) && !embedded.fragment.is_later());
        let strange = || {
            let port = ports.map(|ports| ports.destination);
            let kept = self.tables.ways().keeps(embedded.destination, embedded.protocol, port);
            let lost = kept && !self.tables.ways().is_source(packet.destination);
            if lost { Verdict::drop(Reason::UnknownFlow) } else { Verdict::pass(Why::NotOurs) }
        };
        if embedded.source != packet.destination || embedded.fragment.is_later() {
            return strange();
        }
        let from = SocketAddr::new(embedded.destination, ports.map_or(0, |ports| ports.destination));
        let to = SocketAddr::new(embedded.source, ports.map_or(0, |ports| ports.source));
        let seen = FlowKey::new(embedded.protocol.0, from, to);
        let Some(reply) = self.reply(&seen, Kind::About) else { return strange() };
        let verdict = match packet.check(self.datagram(frame)) {
            Err(fault) => Verdict::fault(fault),
            Ok(()) if is_tiny(problem, packet.is_ipv6()) => Verdict::drop(Reason::TinyMtu),
            Ok(()) => {
                // Who is behind the VIP is nobody's business, whichever router the error is from.
                let vip = Place { port: None, ..reply.vip };
                let client = reply.client.map(|client| Place { port: None, ..client });
                let outer = Edit { source: Some(vip), destination: client };
                let embedded = Edit { source: reply.client, destination: Some(reply.vip) };
                self.to_client(frame, packet, &reply, (&outer, &embedded), Why::BackAbout)
            }
        };
        verdict.of(reply.service).at(reply.endpoint)
    }

    /// Whose reply a packet from an endpoint is; `seen` is its key as it stands there.
    fn reply(&self, seen: &FlowKey, kind: Kind) -> Option<Reply> {
        let (endpoint, protocol) = (seen.source(), Protocol(seen.protocol()));
        let ways = self.tables.ways();
        let full = ways.is_source(seen.destination().ip());
        if !full
            && has_ports(protocol.0)
            && let Some(back) = ways.declared(endpoint.ip(), protocol, endpoint.port())
        {
            let service = self.tables.served(back.service)?.service.id;
            let vip = Place { address: back.address, port: back.port };
            return Some(Reply { service, endpoint: back.index, vip, client: None });
        }
        if !full && !ways.records(endpoint.ip()) {
            return None;
        }
        let Binding { inside, service, endpoint, .. } = self.shared.nat.reply(seen, kind, self.now)?;
        let client = full.then(|| place(inside.source(), inside.protocol()));
        Some(Reply { service, endpoint, vip: place(inside.destination(), inside.protocol()), client })
    }

    fn to_client(
        &self,
        frame: &mut FrameBuf<'_>,
        packet: &Packet,
        reply: &Reply,
        edits: (&Edit, &Edit),
        why: Why,
    ) -> Verdict {
        let client = reply.client.map_or(packet.destination, |client| client.address);
        let Some(hop) = self.tables.hop(client) else { return Verdict::drop(Reason::Unroutable) };
        if let Err(verdict) = self.may_go(frame, packet, &hop, 0, self.own_address(packet)) {
            return verdict;
        }
        // Whom the kernel does not know is where its last frame came from: nothing that a frame says may move a known neighbour.
        let link = self.tables.link(hop.link).filter(|_| hop.on_link);
        let learned = || self.shared.learned.find(link?.id, client);
        let Some(mac) = hop.mac.or_else(learned) else { return self.unresolved(&hop) };
        // Its binding says which of the endpoint's lives it is of.
        if let Err(refused) = self.note(packet, reply.service, reply.endpoint, || 0) {
            return Verdict::drop(unassembled(refused));
        }
        self.translate(frame, packet, &hop, mac, edits, why)
    }

    /// What we are to an endpoint: the address that an error to it comes from.
    fn own_address(&self, packet: &Packet) -> Option<(MacAddr, IpAddr)> {
        let link = self.link()?;
        let address = link.addresses.iter().find(|address| address.is_ipv6() == packet.is_ipv6())?;
        Some((link.mac, *address))
    }
}

/// An end of a datagram: its address, protocol and port.
type Claim = (IpAddr, Protocol, Option<u16>);

/// What a datagram says of its source, or an ICMP error of the destination of what it is about, whatever else of it is wrong: what the
/// kernel's classifier goes by (`sys::classify`). `None` for other ICMP, which is the kernel's, and where so much is not there.
fn claims(ether_type: EtherType, ip: &[u8]) -> Option<Claim> {
    let is_ipv6 = ether_type == EtherType::IPV6;
    let own = if is_ipv6 { Protocol::ICMPV6 } else { Protocol::ICMP };
    let claim = end(is_ipv6, ip, Side::Source)?;
    if claim.1 != own {
        return Some(claim);
    }
    let byte = |at: usize| ip.get(at).copied();
    let (message, is_whole) = if is_ipv6 {
        (ipv6::HEADER_LEN, Protocol(byte(6)?) == own)
    } else {
        let fragment = u16::from_be_bytes([byte(6)?, byte(7)?]) & 0x3fff;
        (usize::from(byte(0)? & 0x0f) * 4, fragment == 0)
    };
    let errors: &[u8] = if is_ipv6 {
        &[icmpv6::UNREACHABLE, icmpv6::PACKET_TOO_BIG, icmpv6::TIME_EXCEEDED, icmpv6::PARAMETER_PROBLEM]
    } else {
        &[icmpv4::UNREACHABLE, icmpv4::TIME_EXCEEDED, icmpv4::PARAMETER_PROBLEM]
    };
    let is_error = is_whole && errors.contains(&byte(message)?);
    let embedded = ip.get(message.checked_add(icmpv4::HEADER_LEN)?..)?;
    if is_error { end(is_ipv6, embedded, Side::Destination) } else { None }
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

fn end(is_ipv6: bool, ip: &[u8], side: Side) -> Option<Claim> {
    let byte = |at: usize| ip.get(at).copied();
    let half = |at: usize| Some(u16::from_be_bytes([byte(at)?, byte(at.checked_add(1)?)?]));
    let place = |source: usize, len: usize| match side {
        Side::Source => source,
        Side::Destination => source.saturating_add(len),
    };
    let (address, protocol, later, ports) = if is_ipv6 {
        let address: &[u8; 16] = ip.get(place(8, 16)..)?.first_chunk()?;
        match Protocol(byte(6)?) {
            Protocol::FRAGMENT => (IpAddr::from(*address), Protocol(byte(40)?), half(42)? & 0xfff8 != 0, 48),
            protocol => (IpAddr::from(*address), protocol, false, 40),
        }
    } else {
        let address: &[u8; 4] = ip.get(place(12, 4)..)?.first_chunk()?;
        (IpAddr::from(*address), Protocol(byte(9)?), half(6)? & 0x1fff != 0, usize::from(byte(0)? & 0x0f) * 4)
    };
    let port = if has_ports(protocol.0) && !later { Some(half(place(ports, 2))?) } else { None };
    Some((address, protocol, port))
}
