//! Engine: a packet on its way to its endpoint: another frame, another header before it, or other addresses in it.
//!
//! Not here: which endpoint, and the way back.

use std::net::IpAddr;

use super::about::{LEAST_MTU_V4, LEAST_MTU_V6};
use super::flow::{Course, Flow};
use super::frame::header;
use super::{Action, Engine, Event, FrameBuf, Verdict, Why};
use crate::base::{MacAddr, Reason};
use crate::flow::Kind;
use crate::flow::tables::{Entry, Forward, Hop, Link, Served, Target};
use crate::wire::checksum::Stored;
use crate::wire::ethernet::{EtherType, Tag};
use crate::wire::icmp::Problem;
use crate::wire::ip::Fragment;
use crate::wire::ipip::Outer;
use crate::wire::packet::{Packet, Transport};
use crate::wire::rewrite::{self, Edit};
use crate::wire::segments::Segments;
use crate::wire::tcp::{self, Segment};
use crate::wire::{gue, ipip};

/// What is done to a packet.
enum Means {
    Frame,
    Translation,
    Tunnel(Outer, Option<gue::Variant>),
}

impl Means {
    /// Bytes that go before the datagram.
    fn overhead(&self) -> usize {
        match self {
            Means::Frame | Means::Translation => 0,
            Means::Tunnel(outer, variant) => outer.overhead().saturating_add(variant.map_or(0, gue::Variant::overhead)),
        }
    }
}

impl Engine<'_> {
    pub(super) fn forward(
        &self,
        frame: &mut FrameBuf<'_>,
        entry: &Entry,
        packet: &Packet,
        served: &Served,
        flow: &Flow,
        course: &Course,
    ) -> Verdict {
        let Some(target) = served.target(course.endpoint) else { return Verdict::drop(Reason::NoEndpoint) };
        if target.looped {
            return Verdict::drop(Reason::TunnelLoop);
        }
        let Some(hop) = target.hop else { return Verdict::drop(Reason::Unroutable) };
        let Some(means) = self.means(&served.service.forward, target, packet, flow) else {
            return Verdict::drop(Reason::Unroutable);
        };
        let from = (entry.vip.mac, entry.vip.address);
        if let Err(verdict) = self.may_go(frame, packet, &hop, means.overhead(), Some(from)) {
            return verdict;
        }
        let Some(mac) = hop.mac else { return self.unresolved(&hop) };
        match means {
            Means::Frame => {
                rewrite::decrement_hops(self.datagram_mut(frame));
                self.send(frame, &hop, mac, &[], self.arrival.ether_type, course.why)
            }
            Means::Translation => {
                // What a message is about went the other way.
                let embedded = if flow.kind == Kind::About {
                    course.outer.reversed()
                } else {
                    self.learn(packet.source);
                    Edit::NONE
                };
                self.translate(frame, packet, &hop, mac, (&course.outer, &embedded), course.why)
            }
            Means::Tunnel(outer, variant) => {
                self.encapsulate(frame, packet, &hop, mac, (&outer, variant, flow), course.why)
            }
        }
    }

    /// `None` when no address of ours could be a tunnel's source.
    fn means(&self, forward: &Forward, target: &Target, packet: &Packet, flow: &Flow) -> Option<Means> {
        let variant = match forward {
            Forward::Direct => return Some(Means::Frame),
            Forward::Nat | Forward::FullNat { .. } => return Some(Means::Translation),
            Forward::Ipip => None,
            Forward::Gue(variant) => Some(*variant),
        };
        let outer = Outer {
            // Only what may be fragmented needs one (RFC 6864 §4.1).
            identification: if packet.dont_fragment { 0 } else { self.identification() },
            #[allow(clippy::cast_possible_truncation)] // 20 bits of it
            flow_label: flow.hash(&self.tables.key).0 as u32 & 0x000f_ffff,
            ..Outer::new(target.source?, target.endpoint.address)
        };
        Some(Means::Tunnel(outer, variant))
    }

    /// Whether a packet has a hop left and fits the way onward; if not, what its sender gets: an error from `from`. Many packets
    /// in one frame are judged as one, and refused as one; those that have to go one by one are told by `Divide`.
    pub(super) fn may_go(
        &self,
        frame: &mut FrameBuf<'_>,
        packet: &Packet,
        hop: &Hop,
        overhead: usize,
        from: Option<(MacAddr, IpAddr)>,
    ) -> Result<(), Verdict> {
        if packet.hops <= 1 {
            let (problem, words) = (Problem::TimeExceeded { code: 0 }, (Why::HopsExhausted, Reason::HopsExhausted));
            return Err(from.map_or(Verdict::drop(words.1), |from| self.refuse(frame, packet, problem, from, words)));
        }
        let mtu = usize::try_from(hop.mtu).unwrap_or(usize::MAX).saturating_sub(overhead);
        let came = self.link().map_or(usize::MAX, |link| usize::try_from(link.mtu).unwrap_or(usize::MAX));
        let merged = frame.merged.filter(|merged| merged.is_many(packet));
        // The way out takes it apart as the way in put it together, but for a tunnel, which it does not know.
        let divides = merged.filter(|_| overhead > 0);
        if divides.is_some_and(|merged| Segments::new(self.arrival.header_len, packet, merged).is_none()) {
            return Err(Verdict::drop(Reason::OversizedFrame));
        }
        let size = match merged {
            Some(merged) => packet.len.saturating_sub(packet.payload_len()).saturating_add(merged.size.into()),
            None if packet.len > came => return Err(Verdict::drop(Reason::OversizedFrame)),
            None => packet.len,
        };
        if size <= mtu {
            return if divides.is_some() { Err(Verdict::new(Action::Divide, Why::Merged)) } else { Ok(()) };
        }
        let words = (Why::TooBig, Reason::PacketTooBig);
        // An MTU that nobody may believe tells nobody anything.
        let least = if packet.is_ipv6() { LEAST_MTU_V6 } else { LEAST_MTU_V4 };
        let mtu = u32::try_from(mtu).unwrap_or(u32::MAX);
        let from = from.filter(|_| mtu >= least);
        let problem = Problem::TooBig { mtu };
        Err(from.map_or(Verdict::drop(words.1), |from| self.refuse(frame, packet, problem, from, words)))
    }

    pub(super) fn translate(
        &self,
        frame: &mut FrameBuf<'_>,
        packet: &Packet,
        hop: &Hop,
        mac: MacAddr,
        (outer, embedded): (&Edit, &Edit),
        why: Why,
    ) -> Verdict {
        // Whatever a card may do for TCP and UDP, ICMP is always whole.
        let stored = match packet.transport {
            Transport::Icmp(_) => Stored::Whole,
            _ => frame.stored,
        };
        let ip = self.datagram_mut(frame);
        if let Err(fault) = rewrite::translate(ip, packet, outer, embedded, stored) {
            return Verdict::fault(fault);
        }
        rewrite::decrement_hops(ip);
        if matches!(packet.transport, Transport::Tcp(_)) && packet.fragment == Fragment::Whole {
            // Both ends' segments travel both links.
            let mtu = self.link().map_or(hop.mtu, |link| link.mtu.min(hop.mtu));
            let most = tcp::maximum_segment_size(u16::try_from(mtu).unwrap_or(u16::MAX), packet.is_ipv6());
            if let Ok(mut segment) = Segment::new_checked(packet.transport_bytes_mut(ip)) {
                // The options were checked.
                let _ = segment.clamp_maximum_segment_size(most, stored);
            }
        }
        self.send(frame, hop, mac, &[], self.arrival.ether_type, why)
    }

    fn encapsulate(
        &self,
        frame: &mut FrameBuf<'_>,
        packet: &Packet,
        hop: &Hop,
        mac: MacAddr,
        (outer, variant, flow): (&Outer, Option<gue::Variant>, &Flow),
        why: Why,
    ) -> Verdict {
        // No card finishes a checksum inside a tunnel that it does not know, nor sees segments there.
        frame.finish();
        frame.merged = None;
        rewrite::decrement_hops(self.datagram_mut(frame));
        frame.truncate(self.arrival.header_len.saturating_add(packet.len));
        let mut out = [0; FrameBuf::HEADROOM];
        let written = match variant {
            None => ipip::emit(outer, packet, &mut out),
            Some(variant) => {
                let port = gue::source_port(flow.hash(&self.tables.key).0);
                gue::emit(outer, port, variant, packet, self.datagram(frame), &mut out)
            }
        };
        let ether_type = if outer.destination.is_ipv6() { EtherType::IPV6 } else { EtherType::IPV4 };
        match written {
            Ok(len) => self.send(frame, hop, mac, out.get(..len).unwrap_or_default(), ether_type, why),
            Err(fault) => Verdict::fault(fault),
        }
    }

    /// Gives the frame its new header, with `outer` behind it. A tag stays on its link; another link has its own.
    fn send(
        &self,
        frame: &mut FrameBuf<'_>,
        hop: &Hop,
        mac: MacAddr,
        outer: &[u8],
        ether_type: EtherType,
        why: Why,
    ) -> Verdict {
        let Some(link) = self.tables.link(hop.link) else { return Verdict::drop(Reason::Unroutable) };
        let tag = match (Some(hop.link) == self.link, link.id.vlan) {
            (true, _) => self.arrival.tag,
            (false, 0) => None,
            (false, vlan) => Some(Tag::vlan(vlan)),
        };
        let (head, len) = header(mac, link.mac, tag, ether_type);
        if frame.begin_with(self.arrival.header_len, [head.get(..len).unwrap_or_default(), outer, &[]]) {
            Verdict::new(Action::Send { interface: link.id.interface }, why)
        } else {
            Verdict::drop(Reason::Internal)
        }
    }

    pub(super) fn unresolved(&self, hop: &Hop) -> Verdict {
        let event = |link: &Link| Event::Unresolved { link: link.id, address: hop.next };
        Verdict::drop(Reason::NoNeighbor).noting(self.tables.link(hop.link).map(event))
    }

    /// Takes note of where a client on this link is, for what will go back to it. What a router brings is from elsewhere, whatever
    /// its source address says: anybody can write a neighbour's there.
    fn learn(&self, client: IpAddr) {
        if let (Some(link), Some(hop)) = (self.link(), self.tables.hop(client))
            && hop.on_link
            && Some(hop.link) == self.link
            && !self.tables.is_gateway(hop.link, self.arrival.source)
        {
            self.shared.learned.learn(link.id, client, self.arrival.source);
        }
    }
}
