//! Value: what documents and metrics say of packet services: which engine carries them, VIPs, the engine's tables and interfaces.

use std::collections::HashMap;

use super::super::document;
use super::largest_first;
use crate::base::{MacAddr, PoolId, Reason, limits};
use crate::flow::{nat, records};
use crate::observe::Packets;
use crate::observe::packets::{InterfaceCells, Lost};
use crate::state::{Family, Forward, PacketSpec, Service, Snapshot, Traffic, VipMac};
use crate::sys::link;

/// What carries the service's traffic. A packet service has no engine while no thread takes frames from its VIP's interface.
pub fn engine(service: &Service, snapshot: &Snapshot, packets: &Packets) -> &'static str {
    match &service.traffic {
        Traffic::L4(_) => "proxy",
        Traffic::L7(_) => "http",
        Traffic::Packet(packet) => {
            let vip = snapshot.vip(packet.vip);
            vip.and_then(|vip| packets.engine(&vip.spec.interface)).unwrap_or("none")
        }
    }
}

/// Who carries traffic to a pool: what is known of its endpoints follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carriers {
    /// An `l4` proxy or `l7` service.
    pub proxies: bool,
    pub packets: bool,
    /// A packet service whose answers come by here.
    pub translated: bool,
}

const NO_CARRIER: Carriers = Carriers { proxies: false, packets: false, translated: false };

/// A pool that nobody uses shows what a proxy's does.
impl Default for Carriers {
    fn default() -> Carriers {
        Carriers { proxies: true, ..NO_CARRIER }
    }
}

impl Carriers {
    /// Those of every pool that the snapshot's services use.
    pub fn of_all(snapshot: &Snapshot) -> HashMap<PoolId, Carriers> {
        let mut all: HashMap<PoolId, Carriers> = HashMap::new();
        for service in snapshot.services() {
            match &service.traffic {
                Traffic::Packet(packet) => {
                    let carriers = all.entry(packet.pool).or_insert(NO_CARRIER);
                    carriers.packets = true;
                    carriers.translated |= is_translated(packet);
                }
                Traffic::L4(l4) => all.entry(l4.pool).or_insert(NO_CARRIER).proxies = true,
                Traffic::L7(l7) => {
                    l7.spec.routes.iter().for_each(|route| all.entry(route.pool).or_insert(NO_CARRIER).proxies = true);
                }
            }
        }
        all
    }
}

/// The tables of a packet service that its VIP has addresses for.
pub fn families(packet: &PacketSpec, snapshot: &Snapshot) -> impl Iterator<Item = Family> {
    let addresses = snapshot.vip(packet.vip).map(|vip| vip.spec.addresses.clone()).unwrap_or_default();
    Family::all_of(packet).iter().copied().filter(move |family| addresses.iter().any(|at| family.holds(*at)))
}

/// Slots of a packet service in transition, of all its tables.
pub fn marked(service: &Service, packet: &PacketSpec) -> u64 {
    Family::all_of(packet).iter().map(|family| service.kept.slots(*family).marked()).sum()
}

/// Whether what endpoints answer comes by here: otherwise nobody can say how much it is.
pub fn answers_here(service: &Service) -> bool {
    match &service.traffic {
        Traffic::Packet(packet) => is_translated(packet),
        Traffic::L4(_) | Traffic::L7(_) => true,
    }
}

const fn is_translated(packet: &PacketSpec) -> bool {
    matches!(packet.forward, Forward::Nat | Forward::FullNat)
}

/// Records and translated flows. Before the engine has begun its tables are empty, and as large as they will be.
pub fn fill(packets: &Packets) -> (records::Fill, nat::Fill) {
    let Some(shared) = packets.shared() else {
        let records = records::Fill { capacity: limits::FLOW_RECORDS, ..records::Fill::default() };
        return (records, nat::Fill { capacity: limits::NAT_FLOWS, ..nat::Fill::default() });
    };
    (shared.records.fill(), shared.nat.fill())
}

/// `None` where there is no VIP, and so nothing for an engine to do.
pub fn engine_document(snapshot: &Snapshot, packets: &Packets) -> Option<document::Packets> {
    snapshot.vips().next()?;
    let (records, flows) = fill(packets);
    let strays = Reason::ALL.iter().map(|reason| (reason.word(), packets.strays.dropped(*reason)));
    Some(document::Packets {
        flow_records: records.records,
        flow_records_limit: records.capacity,
        nat_flows: flows.flows,
        nat_flows_limit: flows.capacity,
        drops: largest_first(strays),
        interfaces: packets.interfaces().iter().map(|(name, cells)| interface(name, cells)).collect(),
    })
}

fn interface(name: &str, cells: &InterfaceCells) -> document::Interface {
    document::Interface {
        name: name.to_owned(),
        workers: cells.workers(),
        frames_received_total: cells.received.get(),
        frames_sent_total: cells.sent.get(),
        lost: largest_first(Lost::ALL.iter().map(|why| (why.word(), cells.lost(*why)))),
    }
}

pub fn vips(snapshot: &Snapshot) -> Vec<document::Vip> {
    let vip = |vip: &crate::state::Vip| {
        // A virtual one is known without asking.
        let own = match vip.spec.mac {
            VipMac::Interface => link::by_name(&vip.spec.interface).ok().and_then(|link| link.mac),
            VipMac::Virtual { .. } => Some(MacAddr::ZERO),
        };
        let address = |address: &std::net::IpAddr| document::VipAddress {
            address: address.to_string(),
            mac: own.map(|own| vip.spec.mac.of(*address, own).to_string()),
        };
        document::Vip {
            name: vip.spec.name.to_string(),
            interface: vip.spec.interface.to_string(),
            addresses: vip.spec.addresses.iter().map(address).collect(),
            owner: vip.title.is_owner(),
            conflicts_total: vip.title.conflicts(),
        }
    };
    snapshot.vips().map(|each| vip(each)).collect()
}
