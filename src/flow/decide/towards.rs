//! Engine: a datagram of this machine's own that has to reach one endpoint, whatever the slots say: a probe through a VIP.
//!
//! It goes just as a client's packet goes that was steered there, and leaves no record. Not here: which endpoint (`seam`).

use std::net::{IpAddr, SocketAddr};

use super::flow::{Course, Flow};
use super::frame::Arrival;
use super::{Action, Engine, FrameBuf, Shared, Verdict, Why};
use crate::base::{MacAddr, Moment, Reason, ServiceId};
use crate::flow::tables::{Forward, Tables};
use crate::flow::{FlowKey, Kind};
use crate::wire::Fault;
use crate::wire::ethernet::EtherType;
use crate::wire::rewrite::Edit;

/// Whom a datagram has to reach: an endpoint of a service, by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    pub service: ServiceId,
    pub endpoint: IpAddr,
}

/// Makes the frame for `goal`'s endpoint of a bare datagram to a VIP: `Send`, or `Drop` with the reason. `NoEndpoint` where the
/// tables do not have the endpoint. It needs [`FrameBuf::HEADROOM`] and an Ethernet header of room before it.
pub fn towards(
    tables: &Tables,
    shared: &Shared,
    now: Moment,
    entropy: u64,
    goal: Goal,
    frame: &mut FrameBuf<'_>,
) -> Verdict {
    let ether_type = match frame.bytes().first().map(|first| first >> 4) {
        Some(4) => EtherType::IPV4,
        Some(6) => EtherType::IPV6,
        _ => return Verdict::fault(Fault::BadIpVersion),
    };
    let (source, destination) = (MacAddr::ZERO, MacAddr::ZERO);
    let arrival = Arrival { source, destination, tag: None, tags: 0, ether_type, header_len: 0 };
    let engine = Engine { tables, shared, now, entropy, arrival, link: None };
    let packet = match engine.parse(frame) {
        Ok(packet) => packet,
        Err(fault) => return Verdict::fault(fault),
    };
    let Some(entry) = tables.vip(packet.destination) else { return Verdict::drop(Reason::NoService) };
    let Some((served, endpoint)) = tables.find_endpoint(goal.service, goal.endpoint) else {
        return Verdict::drop(Reason::NoEndpoint).of(goal.service);
    };
    // Through a translation replies would come back to the engine, which knows no such flow.
    if matches!(served.service.forward, Forward::Nat | Forward::FullNat { .. }) {
        return Verdict::drop(Reason::NoService).of(goal.service);
    }
    let port = |of: fn(crate::wire::udp::Ports) -> u16| packet.ports().map_or(0, of);
    let client = SocketAddr::new(packet.source, port(|ports| ports.source));
    let vip = SocketAddr::new(packet.destination, port(|ports| ports.destination));
    // The hash spreads tunnels, and nothing else is asked of the flow.
    let flow = Flow::new(FlowKey::new(packet.protocol.0, client, vip), Kind::About);
    let course = Course { endpoint, why: Why::Probe, outer: Edit::NONE };
    let verdict = engine.forward(frame, entry, &packet, served, &flow, &course);
    match verdict.action {
        // An error for its sender, who is ourselves.
        Action::Reply => Verdict::drop(Reason::PacketTooBig),
        _ => verdict,
    }
    .of(goal.service)
    .at(endpoint)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::decide;
    use super::*;
    use crate::base::{HashKey, Network};
    use crate::flow::tables::{Endpoint, Inputs, Link, LinkId, Neighbor, Route, Service, Sticky, Vip};
    use crate::flow::{Endpoints, Policy, Slots};
    use crate::wire::checksum::Sum;
    use crate::wire::ethernet::Header;
    use crate::wire::gue::Variant;
    use crate::wire::ip::Protocol;
    use crate::wire::{ipv4, ipv6, udp};

    const KEY: HashKey = HashKey::new(*b"an example key..");
    const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);
    const SERVICE: ServiceId = ServiceId(3);
    const ENTROPY: u64 = 0x1234_5678;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Two endpoints, of which the slots name the first only: nothing but the goal leads to the second.
    fn tables(forward: Forward, endpoints: [&str; 2], known: bool) -> Tables {
        let link = LinkId::plain(1);
        let mut book = Endpoints::new(Policy::default());
        let first = book.join(41).unwrap();
        book.join(42).unwrap();
        let endpoint = |address: &str| Some(Endpoint { address: ip(address), port: None, mac: None, mtu: None });
        let mac = |last: u8| MacAddr([2, 0, 0, 0, 0, last]);
        Tables::build(Inputs {
            key: KEY,
            links: vec![Link { id: link, mac: OURS, mtu: 1500, addresses: vec![ip("10.0.0.2"), ip("fd00::2")] }],
            own: Vec::new(),
            routes: ["10.0.0.0/24", "fd00::/64"]
                .map(|network| Route::new(Network::parse(network).unwrap(), link, None))
                .to_vec(),
            neighbors: (0..2)
                .filter(|_| known)
                .map(|at| Neighbor { link, address: ip(endpoints[at]), mac: mac(0x41 + at as u8) })
                .collect(),
            vips: ["10.0.0.100", "fd00::100"].map(|vip| Vip { address: ip(vip), link, mac: OURS }).to_vec(),
            services: vec![Service {
                id: SERVICE,
                addresses: vec![ip("10.0.0.100"), ip("fd00::100")],
                ports: Vec::new(),
                forward,
                sticky: Sticky::Flow,
                slots: Arc::new(Slots::new(&[first; 7], &book)),
                endpoints: endpoints.map(endpoint).to_vec(),
            }],
        })
    }

    fn datagram(from: &str, vip: &str) -> Vec<u8> {
        let payload = b"a probe";
        let length = u16::try_from(udp::HEADER_LEN + payload.len()).unwrap();
        let mut header = udp::Header { source_port: 40_000, destination_port: 80, length, checksum: 0 };
        let sum = Sum::pseudo(ip(from), ip(vip), 17, usize::from(length)).bytes(&header.emit()).bytes(payload);
        header.checksum = sum.udp_checksum();
        let ip = match (ip(from), ip(vip)) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ipv4::Header::new(from, to, Protocol::UDP, length).emit().to_vec(),
            (IpAddr::V6(from), IpAddr::V6(to)) => ipv6::Header::new(from, to, Protocol::UDP, length).emit().to_vec(),
            _ => unreachable!("both are of one family"),
        };
        [&ip[..], &header.emit(), payload].concat()
    }

    /// What becomes of a datagram, and the frame.
    fn send(tables: &Tables, endpoint: &str, datagram: &[u8]) -> (Verdict, Vec<u8>) {
        let mut room = vec![0; 256];
        room[128..128 + datagram.len()].copy_from_slice(datagram);
        let mut frame = FrameBuf::new(&mut room, 128, datagram.len(), 0).unwrap();
        let goal = Goal { service: SERVICE, endpoint: ip(endpoint) };
        let verdict = towards(tables, &Shared::new(&[], KEY), Moment::ZERO, ENTROPY, goal, &mut frame);
        (verdict, frame.bytes().to_vec())
    }

    /// The same datagram from a neighbour: the engine sends it where the slots say.
    fn forwarded(tables: &Tables, datagram: &[u8]) -> Vec<u8> {
        let ether_type = if datagram[0] >> 4 == 4 { EtherType::IPV4 } else { EtherType::IPV6 };
        let bytes = [&Header { destination: OURS, source: CLIENT, ether_type }.emit()[..], datagram].concat();
        let mut room = vec![0; 256];
        room[128..128 + bytes.len()].copy_from_slice(&bytes);
        let mut frame = FrameBuf::new(&mut room, 128, bytes.len(), 1).unwrap();
        let verdict = decide(tables, &Shared::new(&[], KEY), Moment::ZERO, ENTROPY, &mut frame);
        assert!(matches!(verdict.action, Action::Send { interface: 1 }), "{verdict:?}");
        frame.bytes().to_vec()
    }

    const FOUR: [&str; 2] = ["10.0.0.41", "10.0.0.42"];
    const SIX: [&str; 2] = ["fd00::41", "fd00::42"];

    #[test]
    fn a_probe_is_framed_as_a_clients_packet_is_and_goes_where_no_slot_leads() {
        let (v4, v6) = (["10.0.0.7", "10.0.0.100"], ["fd00::7", "fd00::100"]);
        for (forward, endpoints, [from, vip]) in [
            (Forward::Direct, FOUR, v4),
            (Forward::Direct, SIX, v6),
            (Forward::Ipip, FOUR, v4),
            (Forward::Ipip, FOUR, v6),
            (Forward::Ipip, SIX, v4),
            (Forward::Ipip, SIX, v6),
            (Forward::Gue(Variant::Header), FOUR, v4),
            (Forward::Gue(Variant::Header), SIX, v4),
        ] {
            let (case, tables) = (format!("{forward:?} {endpoints:?} {vip}"), tables(forward, endpoints, true));
            let datagram = datagram(from, vip);
            let (verdict, frame) = send(&tables, endpoints[0], &datagram);
            assert_eq!((verdict.action, verdict.why), (Action::Send { interface: 1 }, Why::Probe), "{case}");
            assert_eq!((verdict.service, verdict.endpoint), (Some(SERVICE), Some(0)), "{case}");
            assert_eq!(frame, forwarded(&tables, &datagram), "{case}");
            let (verdict, frame) = send(&tables, endpoints[1], &datagram);
            assert_eq!((verdict.action, verdict.endpoint), (Action::Send { interface: 1 }, Some(1)), "{case}");
            assert_eq!(frame[..6], [2, 0, 0, 0, 0, 0x42], "{case}");
        }
    }

    #[test]
    fn what_cannot_be_sent_says_why() {
        let good = datagram("10.0.0.7", "10.0.0.100");
        let direct = || tables(Forward::Direct, FOUR, true);
        let refused = |tables: &Tables, endpoint: &str, datagram: &[u8]| match send(tables, endpoint, datagram).0 {
            Verdict { action: Action::Drop(reason), .. } => reason,
            verdict => panic!("{verdict:?}"),
        };
        assert_eq!(refused(&direct(), "10.0.0.43", &good), Reason::NoEndpoint);
        assert_eq!(refused(&direct(), FOUR[0], &datagram("10.0.0.7", "10.0.0.101")), Reason::NoService);
        assert_eq!(refused(&tables(Forward::Nat, FOUR, true), FOUR[0], &good), Reason::NoService);
        assert_eq!(refused(&direct(), FOUR[0], &[]), Reason::BadIpVersion);
        for length in 1..good.len() {
            refused(&direct(), FOUR[0], &good[..length]);
        }
        let unknown = tables(Forward::Direct, FOUR, false);
        assert_eq!(refused(&unknown, FOUR[0], &good), Reason::NoNeighbor);
        assert!(send(&unknown, FOUR[0], &good).0.event.is_some(), "somebody is to ask for it");
    }
}
