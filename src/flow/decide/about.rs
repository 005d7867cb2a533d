//! Engine: ICMP errors about what an endpoint has sent: they go to that endpoint, by the tuple of the datagram inside.
//!
//! Eight bytes of transport header are enough (RFC 792); nothing more is asked for.
//! Not here: errors about what we sent ourselves (a tunnel's packet among it), which are the kernel's.

use std::net::SocketAddr;

use super::flow::{Course, Flow, Stop, has_ports};
use super::{Engine, FrameBuf, Verdict, Why};
use crate::base::Reason;
use crate::flow::tables::{Entry, Served};
use crate::flow::{FlowKey, Kind};
use crate::wire::icmp::{Embedded, Problem};
use crate::wire::packet::Packet;

/// Least MTUs of links (RFC 791 §3.2, RFC 8200 §5). "Too big" with less makes hosts send nothing but headers.
pub(super) const LEAST_MTU_V4: u32 = 576;
pub(super) const LEAST_MTU_V6: u32 = 1280;

impl Engine<'_> {
    pub(super) fn about(
        &self,
        frame: &mut FrameBuf<'_>,
        entry: &Entry,
        packet: &Packet,
        problem: Problem,
        embedded: &Embedded,
    ) -> Verdict {
        if is_tiny(problem, packet.is_ipv6()) {
            return Verdict::drop(Reason::TinyMtu);
        }
        // The one who gets it must have sent what it is about.
        if embedded.source != packet.destination {
            return Verdict::drop(Reason::UnknownFlow);
        }
        let Some((served, flow)) = self.inside(entry, embedded) else { return Verdict::drop(Reason::UnknownFlow) };
        let flow = Flow::new(flow, Kind::About);
        let course = match self.course(served, &flow, None) {
            Ok(course) => Course { why: Why::About, ..course },
            Err(Stop::Drop(reason)) => return Verdict::drop(reason).of(served.service.id),
            Err(Stop::Reset) => return Verdict::drop(Reason::UnknownFlow).of(served.service.id),
        };
        self.forward(frame, entry, packet, served, &flow, &course).of(served.service.id).at(course.endpoint)
    }

    /// The service whose endpoint has sent this, and the flow that it answered.
    fn inside(&self, entry: &Entry, embedded: &Embedded) -> Option<(&Served, FlowKey)> {
        if embedded.fragment.is_later() {
            return None;
        }
        let protocol = embedded.protocol;
        let ports = embedded.ports.filter(|_| has_ports(protocol.0));
        let served = self.tables.served(entry.service(protocol, ports.map(|ports| ports.source))?)?;
        let client = SocketAddr::new(embedded.destination, ports.map_or(0, |ports| ports.destination));
        let vip = SocketAddr::new(embedded.source, ports.map_or(0, |ports| ports.source));
        Some((served, FlowKey::new(protocol.0, client, vip)))
    }
}

/// Whether an MTU is announced that no link has (G17).
pub(super) const fn is_tiny(problem: Problem, ipv6: bool) -> bool {
    match problem {
        Problem::TooBig { mtu } => mtu < if ipv6 { LEAST_MTU_V6 } else { LEAST_MTU_V4 },
        _ => false,
    }
}
