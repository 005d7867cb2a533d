//! Shell: what `/metrics` shows of packet services beyond what all services have: the engine's tables and interfaces, slots.

use super::Page;
use crate::admin::describe::{self, Carriers};
use crate::base::{Reason, clock, limits};
use crate::flow::nat::{PROTOCOLS, PortUse};
use crate::observe::names;
use crate::observe::packets::{InterfaceCells, Lost, Packets};
use crate::state::{Endpoint, Pool, Service, Snapshot, Traffic};

/// What ports are lent for, in the order of `flow::Nat::ports_of`.
const LENT_FOR: [&str; PROTOCOLS] = ["tcp", "udp"];

impl Page {
    /// The engine as a whole.
    pub(super) fn packets(&mut self, engine: &Packets, snapshot: &Snapshot) {
        for reason in Reason::ALL.iter().filter(|reason| reason.is_of_packets()) {
            self.value(&names::STRAYS, &[reason.word()], engine.strays.dropped(*reason));
        }
        let (records, flows) = describe::fill(engine);
        self.value(&names::FLOW_RECORDS, &[], records.records as u64);
        self.value(&names::FLOW_RECORDS_UNPROVEN, &[], records.unproven as u64);
        self.value(&names::FLOW_RECORDS_LIMIT, &[], records.capacity as u64);
        self.value(&names::NAT_FLOWS, &[], flows.flows as u64);
        self.value(&names::NAT_FLOWS_UNPROVEN, &[], flows.unproven as u64);
        self.value(&names::NAT_FLOWS_LIMIT, &[], flows.capacity as u64);
        self.value(&names::NAT_FLOWS_EVICTED, &[], flows.evicted);
        self.ports(engine, snapshot);
        for (name, cells) in engine.interfaces() {
            self.interface(&name, &cells);
        }
    }

    /// Of every address that full NAT lends ports of, each once.
    fn ports(&mut self, engine: &Packets, snapshot: &Snapshot) {
        let all = PortUse { lent: 0, free: limits::NAT_PORTS.len() };
        let mut sources: Vec<_> = snapshot
            .services()
            .filter_map(|service| match &service.traffic {
                Traffic::Packet(packet) => Some(&packet.sources),
                Traffic::L4(_) | Traffic::L7(_) => None,
            })
            .flatten()
            .collect();
        sources.sort_unstable();
        sources.dedup();
        for source in sources {
            let known = engine.shared().and_then(|shared| shared.nat.ports_of(*source, clock::now()));
            for (ports, protocol) in known.unwrap_or([all; PROTOCOLS]).iter().zip(LENT_FOR) {
                let labels = [&*source.to_string(), protocol];
                self.value(&names::NAT_PORTS_LENT, &labels, ports.lent as u64);
                self.value(&names::NAT_PORTS_FREE, &labels, ports.free as u64);
            }
        }
    }

    fn interface(&mut self, name: &str, cells: &InterfaceCells) {
        self.value(&names::INTERFACE_WORKERS, &[name], cells.workers());
        self.value(&names::INTERFACE_RECEIVED, &[name], cells.received.get());
        self.value(&names::INTERFACE_SENT, &[name], cells.sent.get());
        self.value(&names::INTERFACE_DIVIDED, &[name], cells.divided.get());
        for why in Lost::ALL {
            self.value(&names::INTERFACE_LOST, &[name, why.word()], cells.lost(*why));
        }
    }

    /// What packet services carry to an endpoint, and back where it comes by here.
    pub(super) fn forwarded(&mut self, pool: &Pool, endpoint: &Endpoint, carriers: Carriers) {
        let cells = &endpoint.cells;
        let labels = [&*pool.spec.name, &*endpoint.name];
        if carriers.packets {
            self.value(&names::ENDPOINT_PACKETS_SENT, &labels, cells.sum(|row| row.sent.packets.get()));
            self.value(&names::ENDPOINT_BYTES_SENT, &labels, cells.sum(|row| row.sent.bytes.get()));
        }
        if carriers.translated {
            self.value(&names::ENDPOINT_PACKETS_RECEIVED, &labels, cells.sum(|row| row.received.packets.get()));
            self.value(&names::ENDPOINT_BYTES_RECEIVED, &labels, cells.sum(|row| row.received.bytes.get()));
        }
    }

    /// A packet service's tables.
    pub(super) fn slots(&mut self, service: &Service, snapshot: &Snapshot) {
        let Traffic::Packet(packet) = &service.traffic else { return };
        let name = &*service.spec.name;
        self.value(&names::SLOTS_MARKED, &[name], describe::marked(service, packet));
        for family in describe::families(packet, snapshot) {
            // What a float holds exactly.
            let fingerprint = service.kept.slots(family).fingerprint() >> 12;
            self.value(&names::SLOTS_FINGERPRINT, &[name, family.word()], fingerprint);
        }
    }
}
