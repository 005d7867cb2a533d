//! Engine: what a verdict rests on, for people: the VIP, the service and what matched, the slot and whom it names.
//!
//! Looks where [`decide`](super::decide()) looks, by the same functions, and leaves nothing behind. Not here: the verdict, which
//! only `decide` gives; and what has no slot: answers to the VIP's own ICMP, later fragments, replies of endpoints.

use std::net::SocketAddr;

use super::flow::{Flow, has_ports, kind, slot_hash};
use crate::base::{FlowHash, ServiceId};
use crate::flow::tables::{Ports, Sticky, Tables, Vip};
use crate::flow::{FlowKey, NOBODY};
use crate::wire::ethernet::Frame;
use crate::wire::packet::{Packet, Transport};

/// See the file's head.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    pub packet: Packet,
    /// The one that it is to.
    pub vip: Option<Vip>,
    pub matched: Option<Matched>,
}

/// The service that takes the packet.
#[derive(Clone, Copy, Debug)]
pub struct Matched {
    pub service: ServiceId,
    /// The declared ports that the packet's is among; `None`: the service takes what no ports do.
    pub ports: Option<Ports>,
    pub picked: Picked,
}

/// The slot, and whom it names now. A record may say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Picked {
    pub by: Sticky,
    pub hash: FlowHash,
    pub slot: u32,
    /// How many there are.
    pub slots: usize,
    /// Its index in the service; `None`: nobody.
    pub endpoint: Option<u16>,
}

/// What is behind the verdict about a frame. `None`: it holds no IP packet that can be read.
pub fn trace(tables: &Tables, frame: &[u8]) -> Option<Trace> {
    let packet = Packet::of_frame(&Frame::new_checked(frame).ok()?).ok()??;
    let Some(entry) = tables.vip(packet.destination) else { return Some(Trace { packet, vip: None, matched: None }) };
    let matched = || {
        if matches!(packet.transport, Transport::Icmp(_) | Transport::Fragment) {
            return None;
        }
        let ports = packet.ports().filter(|_| has_ports(packet.protocol.0));
        let port = ports.map(|ports| ports.destination);
        let declared = entry.declared(packet.protocol, port).map(|(ports, _)| ports);
        let service = &tables.served(entry.service(packet.protocol, port)?)?.service;
        let client = SocketAddr::new(packet.source, ports.map_or(0, |ports| ports.source));
        let vip = SocketAddr::new(packet.destination, port.unwrap_or(0));
        let key = FlowKey::new(packet.protocol.0, client, vip);
        let flow = Flow::new(key, kind(&packet));
        let hash = slot_hash(&tables.key, service.sticky, &flow);
        let slot = service.slots.slot(hash);
        let endpoint = Some(service.slots.at(slot)).filter(|endpoint| *endpoint != NOBODY);
        let picked = Picked { by: service.sticky, hash, slot, slots: service.slots.len(), endpoint };
        Some(Matched { service: service.id, ports: declared, picked })
    };
    Some(Trace { packet, vip: Some(entry.vip), matched: matched() })
}
