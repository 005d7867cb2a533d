//! Engine: a client's packet: which service, which endpoint, and what is to be translated.
//!
//! Not here: the rewriting (`forward`), ICMP (`about`).

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};

use super::{Engine, FrameBuf, Verdict, Why};
use crate::base::{FlowHash, HashKey, Reason, ServiceId};
use crate::flow::fragments::{self, Carried, Datagram};
use crate::flow::nat::{self, Binding};
use crate::flow::tables::{Entry, Forward, Served, Sticky};
use crate::flow::{Decision, FlowKey, Kind, OnDown, key, steer};
use crate::wire::ip::Fragment;
use crate::wire::packet::{self, Packet, Transport};
use crate::wire::rewrite::{Edit, Place};
use crate::wire::tcp::Flags;
use crate::wire::udp::Ports;
use crate::wire::{answer, gue, ipip};

/// A packet's flow, as the client's packets show it.
pub(super) struct Flow {
    pub key: FlowKey,
    pub kind: Kind,
    /// A flow that is recorded is found without it.
    hash: OnceCell<FlowHash>,
}

impl Flow {
    pub(super) const fn new(key: FlowKey, kind: Kind) -> Flow {
        Flow { key, kind, hash: OnceCell::new() }
    }

    /// Of all that names the flow: it picks the slot, unless the service is sticky by less, and spreads tunnels.
    pub(super) fn hash(&self, key: &HashKey) -> FlowHash {
        *self.hash.get_or_init(|| self.key.hash(key))
    }
}

/// Where a packet goes.
pub(super) struct Course {
    pub endpoint: u16,
    pub why: Why,
    /// What is translated of it. Nothing where nothing is.
    pub outer: Edit,
}

/// Why it goes nowhere.
pub(super) enum Stop {
    Drop(Reason),
    /// Its connection died with its endpoint, and its client is to be told.
    Reset,
}

impl Engine<'_> {
    pub(super) fn flow(&self, frame: &mut FrameBuf<'_>, entry: &Entry, packet: &Packet) -> Verdict {
        if self.is_tunnel_to_us(frame, packet) {
            return Verdict::drop(Reason::TunnelLoop);
        }
        let (ports, carried) = match self.ports(packet) {
            Ok(found) => found,
            Err(refused) => return Verdict::drop(unassembled(refused)),
        };
        let place = entry.service(packet.protocol, ports.map(|ports| ports.destination));
        let Some(served) = place.and_then(|place| self.tables.served(place)) else {
            return Verdict::drop(Reason::NoService);
        };
        let service = served.service.id;
        let client = SocketAddr::new(packet.source, ports.map_or(0, |ports| ports.source));
        let vip = SocketAddr::new(packet.destination, ports.map_or(0, |ports| ports.destination));
        let flow = Flow::new(FlowKey::new(packet.protocol.0, client, vip), kind(packet));
        let course = match self.course(served, &flow, carried) {
            Ok(course) => course,
            Err(Stop::Drop(reason)) => return Verdict::drop(reason).of(service),
            Err(Stop::Reset) => return self.reset(frame, entry, packet).of(service),
        };
        let generation = || served.service.slots.standing(course.endpoint).map_or(0, |standing| standing.generation);
        if let Err(refused) = self.note(packet, service, course.endpoint, generation) {
            return Verdict::drop(unassembled(refused)).of(service);
        }
        self.forward(frame, entry, packet, served, &flow, &course).of(service).at(course.endpoint)
    }

    /// Where a packet of a service's flow goes. `carried`: where its datagram's first fragment went.
    pub(super) fn course(&self, served: &Served, flow: &Flow, carried: Option<Carried>) -> Result<Course, Stop> {
        if served.is_bound() {
            return self.bound(served, flow);
        }
        let lives = |first: &Carried| {
            first.service == served.service.id
                && served.service.slots.lives(first.endpoint, first.generation, flow.key.protocol())
        };
        let (endpoint, why) = match carried.filter(lives) {
            Some(first) => (first.endpoint, Why::WithFirst),
            None => self.steer(served, flow)?,
        };
        if served.service.forward != Forward::Nat {
            return Ok(Course { endpoint, why, outer: Edit::NONE });
        }
        let target = served.target(endpoint).ok_or(Stop::Drop(Reason::NoEndpoint))?.endpoint;
        let place = Place { address: target.address, port: target.port };
        Ok(Course { endpoint, why, outer: Edit::destination(place) })
    }

    fn steer(&self, served: &Served, flow: &Flow) -> Result<(u16, Why), Stop> {
        let service = &served.service;
        let hash = slot_hash(&self.tables.key, service.sticky, flow);
        let packet = steer::Packet { hash, key: &flow.key, kind: flow.kind };
        match steer(&service.slots, &self.shared.records, service.id, &packet, self.now) {
            Decision::Forward { endpoint, why } => Ok((endpoint, Why::Steered(why))),
            Decision::Reset => Err(Stop::Reset),
            Decision::NoEndpoint => Err(Stop::Drop(Reason::NoEndpoint)),
        }
    }

    /// The same where flows are recorded: a flow stays with its endpoint for as long as that lives.
    fn bound(&self, served: &Served, flow: &Flow) -> Result<Course, Stop> {
        let (service, nat, protocol) = (&served.service, &self.shared.nat, flow.key.protocol());
        let sources = match &service.forward {
            Forward::FullNat { sources } => Some(sources),
            _ => None,
        };
        let full = sources.is_some();
        // Without ports nothing could tell two clients apart.
        if full && !has_ports(protocol) {
            return Err(Stop::Drop(Reason::NoService));
        }
        if let Some(binding) = nat.forward(service.id, &flow.key, flow.kind, self.now) {
            let down = service.slots.standing(binding.endpoint).is_none_or(|standing| standing.down);
            let begins = matches!(flow.kind, Kind::Syn { .. });
            let lives = service.slots.lives(binding.endpoint, binding.generation, protocol);
            if lives && is_lent(&binding, sources) && !(down && begins) {
                return Ok(Course::bound(&binding, full));
            }
            nat.unbind(service.id, &flow.key, self.now);
            let told = matches!(flow.kind, Kind::TcpData { .. } | Kind::Fin { .. });
            if told && service.slots.policy().on_down == OnDown::Reset {
                return Err(Stop::Reset);
            }
        }
        if flow.kind == Kind::About {
            return Err(Stop::Drop(Reason::UnknownFlow));
        }
        let (endpoint, _) = self.steer(served, flow)?;
        let none = Stop::Drop(Reason::NoEndpoint);
        let (Some(target), Some(standing)) = (served.target(endpoint), service.slots.standing(endpoint)) else {
            return Err(none);
        };
        let vip = flow.key.destination();
        if target.endpoint.address.is_ipv6() != vip.is_ipv6() {
            return Err(none);
        }
        let address = SocketAddr::new(target.endpoint.address, target.endpoint.port.unwrap_or(vip.port()));
        let policy = service.slots.policy();
        let idle = if protocol == key::TCP { policy.tcp_idle } else { policy.other_idle };
        let target = nat::Target { endpoint, generation: standing.generation, address, idle };
        let bound = match sources {
            Some(sources) => nat.bind_full(service.id, &flow.key, flow.kind, &target, sources, self.now),
            None => nat.bind_plain(service.id, &flow.key, flow.kind, &target, self.now),
        };
        bound.map(|binding| Course::bound(&binding, full)).map_err(|refused| Stop::Drop(unbound(refused)))
    }

    /// The ports of a packet, which a later fragment has from the first.
    pub(super) fn ports(&self, packet: &Packet) -> Result<(Option<Ports>, Option<Carried>), fragments::Refused> {
        let Fragment::Later { id, offset, last } = packet.fragment else { return Ok((packet.ports(), None)) };
        let datagram = Datagram::new(packet.source, packet.destination, packet.protocol.0, id);
        let carried = self.shared.fragments.later(&datagram, offset, length(packet), last, self.now)?;
        let ports = Ports { source: carried.source_port, destination: carried.destination_port };
        Ok((has_ports(packet.protocol.0).then_some(ports), Some(carried)))
    }

    /// Takes note of whose a first fragment is, so that the others are known.
    pub(super) fn note(
        &self,
        packet: &Packet,
        service: ServiceId,
        endpoint: u16,
        generation: impl FnOnce() -> u16,
    ) -> Result<(), fragments::Refused> {
        let Fragment::First { id } = packet.fragment else { return Ok(()) };
        let datagram = Datagram::new(packet.source, packet.destination, packet.protocol.0, id);
        let ports = packet.ports().unwrap_or(Ports { source: 0, destination: 0 });
        let carried = Carried {
            source_port: ports.source,
            destination_port: ports.destination,
            service,
            endpoint,
            generation: generation(),
        };
        self.shared.fragments.first(&datagram, length(packet), carried, self.now)
    }

    fn reset(&self, frame: &mut FrameBuf<'_>, entry: &Entry, packet: &Packet) -> Verdict {
        let mut out = [0; 60];
        match answer::reset(packet, &mut out) {
            Ok(Some(len)) => self.answer(frame, entry.vip.mac, out.get(..len).unwrap_or_default(), Why::Reset),
            _ => Verdict::drop(Reason::NoEndpoint),
        }
    }

    /// Whether this carries a packet to ourselves: it would come by again (G22).
    fn is_tunnel_to_us(&self, frame: &FrameBuf<'_>, packet: &Packet) -> bool {
        let ip = self.datagram(frame);
        let inside = match ipip::decapsulate(ip, packet) {
            Ok(None) => gue::decapsulate(ip, packet),
            found => found,
        };
        let inside = inside.ok().flatten().and_then(|at| packet::destination(ip.get(at..)?));
        inside.is_some_and(|address| self.tables.vip(address).is_some() || self.tables.is_own(address))
    }
}

impl Course {
    fn bound(binding: &Binding, full: bool) -> Course {
        let place = |at: SocketAddr| place(at, binding.outside.protocol());
        let (ours, endpoint) = (place(binding.outside.source()), place(binding.outside.destination()));
        let ours = full.then_some(ours);
        Course {
            endpoint: binding.endpoint,
            why: Why::Translated,
            outer: Edit { source: ours, destination: Some(endpoint) },
        }
    }
}

/// Whether the endpoint sees what the service still shows: a reload may have taken the source away, or full NAT itself. Answers to
/// that would not come back.
fn is_lent(binding: &Binding, sources: Option<&Vec<IpAddr>>) -> bool {
    let shown = binding.outside.source();
    sources.map_or(shown == binding.inside.source(), |sources| sources.contains(&shown.ip()))
}

/// A protocol without ports has none to be translated.
pub(super) fn place(at: SocketAddr, protocol: u8) -> Place {
    Place { address: at.ip(), port: has_ports(protocol).then_some(at.port()) }
}

pub(super) const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, key::TCP | key::UDP)
}

/// What a packet is to its flow.
pub(super) const fn kind(packet: &Packet) -> Kind {
    let Transport::Tcp(header) = packet.transport else { return Kind::Other };
    let (seq, ack, flags) = (header.sequence, header.acknowledgment, header.flags);
    if flags.contains(Flags::RST) {
        Kind::Rst { seq, bare: !flags.contains(Flags::ACK) }
    } else if flags.contains(Flags::FIN) {
        Kind::Fin { seq, ack }
    } else if flags.opens() {
        Kind::Syn { seq }
    } else {
        Kind::TcpData { seq, ack }
    }
}

/// What picks a slot.
pub(super) fn slot_hash(key: &HashKey, sticky: Sticky, flow: &Flow) -> FlowHash {
    match sticky {
        Sticky::Flow => flow.hash(key),
        Sticky::Source => key.flow(&source_bytes(&flow.key)),
    }
}

/// The client's address and no port, as other pickers hash it (`balance::key`).
fn source_bytes(key: &FlowKey) -> [u8; 18] {
    let mut bytes = [0; 18];
    let [source @ .., _, _, _, _, _] = key.bytes();
    for (to, from) in bytes.iter_mut().zip(source.iter().take(16)) {
        *to = *from;
    }
    bytes
}

/// Bytes of a fragment's part of its datagram.
fn length(packet: &Packet) -> u16 {
    u16::try_from(packet.len.saturating_sub(packet.offset)).unwrap_or(u16::MAX)
}

pub(super) const fn unassembled(refused: fragments::Refused) -> Reason {
    match refused {
        fragments::Refused::FirstMissing => Reason::FragmentWithoutFirst,
        fragments::Refused::Overlap => Reason::FragmentOverlap,
        fragments::Refused::Scattered => Reason::FragmentScattered,
    }
}

const fn unbound(refused: nat::Refused) -> Reason {
    match refused {
        nat::Refused::PortsExhausted => Reason::NatPortsExhausted,
        nat::Refused::TableFull => Reason::NatTableFull,
        nat::Refused::Collision => Reason::NatCollision,
        nat::Refused::NoFlow => Reason::NatNoFlow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tables_refuse_and_its_reason_are_one_word() {
        for refused in fragments::Refused::ALL {
            assert_eq!(unassembled(*refused).word(), refused.word());
        }
        for refused in nat::Refused::ALL {
            assert_eq!(unbound(*refused).word(), refused.word());
        }
    }

    #[test]
    fn a_source_hashes_as_proxies_hash_it() {
        let key = FlowKey::new(key::UDP, "192.0.2.1:53".parse().unwrap(), "192.0.2.9:53".parse().unwrap());
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 0, 0];
        assert_eq!(source_bytes(&key), mapped);
    }
}
