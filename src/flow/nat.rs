//! Engine: flows whose packets are translated back by what was recorded: full NAT, and NAT of a service without declared ports.
//!
//! ```text
//!   inside:  client ──▶ vip                    outside: ours:port ──▶ endpoint     (full NAT; the port is lent)
//!                                              outside: client    ──▶ endpoint     (NAT without ports)
//! ```
//!
//! A client's packet finds its binding by `inside`, an endpoint's answer by `outside`; what has none is no flow of ours, and an
//! endpoint's own traffic stays as it is. A binding keeps its endpoint: no slot is asked again while it lives.
//!
//! Bounded: flows that nobody answered and that have not answered back take a part of the room only, and are pushed out by others
//! that begin, from there and from the ports they were lent, as are flows that close, and flows of datagrams (`nat/shard`). A connection
//! that lives never is. In full NAT a TCP flow begins with SYN, or stray segments would use up the ports.
//!
//! Shards behind locks: bindings by `inside`, and the way back by `outside`. A thread that holds a binding's shard may take one
//! of the way back or of the ports, never the other way round, so none waits for another in a circle.
//! Not here: rewriting, which endpoint a flow gets (`steer`), whether that still lives ([`Slots::lives`](super::Slots::lives)).

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use bound::{Bound, Side};
use shard::{Fit, Shard};

use super::key::{FlowKey, Kind, TCP};
use super::ports::{Lease, Ports, Rest};
use super::table::{self, Cursor, Entry, Table};
use crate::base::{HashKey, Moment, ServiceId, limits};

pub use super::ports::{PROTOCOLS, PortUse};

mod bound;
mod shard;

/// A flow on both sides of the balancer, each as the client's packets show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub inside: FlowKey,
    pub outside: FlowKey,
    pub service: ServiceId,
    pub endpoint: u16,
    pub generation: u16,
}

/// Where a new flow goes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub endpoint: u16,
    pub generation: u16,
    pub address: SocketAddr,
    /// How long it may be silent.
    pub idle: Duration,
}

/// Why a flow gets no binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refused {
    /// Every port of our addresses is lent to a flow that lives.
    PortsExhausted,
    /// There is no room for another flow: all live.
    TableFull,
    /// Two services of one client would look alike to the endpoint.
    Collision,
    /// A TCP segment that opens nothing, of a flow that is not known.
    NoFlow,
}

impl Refused {
    pub const ALL: &'static [Refused] =
        &[Refused::PortsExhausted, Refused::TableFull, Refused::Collision, Refused::NoFlow];

    pub const fn word(self) -> &'static str {
        match self {
            Refused::PortsExhausted => "nat-ports-exhausted",
            Refused::TableFull => "nat-table-full",
            Refused::Collision => "nat-collision",
            Refused::NoFlow => "nat-no-flow",
        }
    }
}

/// Flows in use, those of them that have proven nothing, the most of each, ports that are not lent, and how many flows that had
/// proven nothing, or no more than datagrams do, have gone so that others could come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    pub flows: usize,
    pub unproven: usize,
    pub capacity: usize,
    pub unproven_capacity: usize,
    pub ports_left: usize,
    pub evicted: u64,
}

/// All bindings. See the file's head.
pub struct Nat {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    back: Box<[CachePadded<Mutex<Table<Back>>>]>,
    ports: Ports,
    key: HashKey,
}

impl Nat {
    /// Room for `capacity` flows, and the ports `ports` of each of `sources` to lend. `key` is a secret of this process.
    pub fn new(capacity: usize, sources: &[IpAddr], ports: &RangeInclusive<u16>, key: HashKey) -> Nat {
        let (shards, each) = table::shards(capacity, limits::FLOW_RECORD_SHARDS);
        Nat {
            shards: (0..shards).map(|_| CachePadded::new(Mutex::new(Shard::new(each)))).collect(),
            // Filled by another hash, so unevenly where the bindings' shards are full.
            back: (0..shards).map(|_| CachePadded::new(Mutex::new(Table::new(each.saturating_mul(2))))).collect(),
            ports: Ports::new(sources, ports, &key),
            key,
        }
    }

    /// Has ports of all of these addresses to lend. Others that it had make room where they must, once no flow has a port of them:
    /// false when there is none.
    pub fn add_sources(&self, sources: &[IpAddr]) -> bool {
        self.ports.add(sources)
    }

    /// The binding of a client's packet, and what the packet says about it.
    pub fn forward(&self, service: ServiceId, inside: &FlowKey, kind: Kind, now: Moment) -> Option<Binding> {
        let (tag, which) = self.spread(inside);
        let mut shard = self.shards.get(which)?.lock();
        let place = shard.find(tag, service, inside)?;
        shard.packet(place, kind, Side::Client, now)
    }

    /// The binding of an endpoint's packet, whose key is as the packet has it: from the endpoint.
    pub fn reply(&self, seen: &FlowKey, kind: Kind, now: Moment) -> Option<Binding> {
        let outside = seen.reversed();
        let (tag, which) = self.spread(&outside);
        let back = {
            let back = self.back.get(which)?.lock();
            let place = back.find(tag, |back| back.outside == outside)?;
            *back.get(place)?
        };
        let mut shard = self.shards.get(usize::from(back.shard))?.lock();
        // Between the two locks the place may have become another flow's.
        let place = back.place as usize;
        shard.table.get(place).filter(|bound| bound.binding.outside == outside)?;
        shard.packet(place, kind, Side::Endpoint, now)
    }

    /// Full NAT: binds a flow to an endpoint behind one of our addresses `among`, and a port of it. A flow that another worker has
    /// bound in the meantime keeps what it has.
    ///
    /// # Errors
    /// `NoFlow`, `TableFull`, `PortsExhausted`.
    pub fn bind_full(
        &self,
        service: ServiceId,
        inside: &FlowKey,
        kind: Kind,
        target: &Target,
        among: &[IpAddr],
        now: Moment,
    ) -> Result<Binding, Refused> {
        if inside.protocol() == TCP && !matches!(kind, Kind::Syn { .. }) {
            return Err(Refused::NoFlow);
        }
        self.bind(service, inside, kind, target, Some(among), now)
    }

    /// NAT without declared ports: binds a flow to an endpoint under the client's own address.
    ///
    /// # Errors
    /// `TableFull`, `Collision`.
    pub fn bind_plain(
        &self,
        service: ServiceId,
        inside: &FlowKey,
        kind: Kind,
        target: &Target,
        now: Moment,
    ) -> Result<Binding, Refused> {
        self.bind(service, inside, kind, target, None, now)
    }

    /// Ends a flow: its endpoint is gone.
    pub fn unbind(&self, service: ServiceId, inside: &FlowKey, now: Moment) {
        let (tag, which) = self.spread(inside);
        let Some(mut shard) = self.shards.get(which).map(|shard| shard.lock()) else { return };
        if let Some(place) = shard.find(tag, service, inside) {
            self.remove(&mut shard, place, now);
        }
    }

    /// Ends every flow of these services: they are gone, and one that is named like them numbers its endpoints anew.
    pub fn forget(&self, which: impl Fn(ServiceId) -> bool, now: Moment) {
        table::each_place(&self.shards, Shard::places, |shard, place| {
            if shard.table.get(place).is_some_and(|bound| which(bound.binding.service)) {
                self.remove(shard, place, now);
            }
        });
    }

    /// Ends expired flows, in `limits::FLOW_SWEEP` places at most. True at the end of a round. Called by the control side alone.
    pub fn sweep(&self, cursor: &mut Cursor, now: Moment) -> bool {
        table::sweep(&self.shards, cursor, Shard::places, |shard, place| {
            if shard.table.get(place).is_some_and(|bound| bound.expires < now) {
                self.remove(shard, place, now);
            }
        })
    }

    /// What is lent of an address of ours, of TCP and UDP. `None`: it lends nothing.
    pub fn ports_of(&self, source: IpAddr, now: Moment) -> Option<[PortUse; PROTOCOLS]> {
        self.ports.use_of(source, now)
    }

    pub fn fill(&self) -> Fill {
        let start = Fill { ports_left: self.ports.left(), ..Fill::default() };
        self.shards.iter().fold(start, |sum, shard| {
            let shard = shard.lock();
            Fill {
                flows: sum.flows.saturating_add(shard.table.len()),
                unproven: sum.unproven.saturating_add(shard.unproven()),
                capacity: sum.capacity.saturating_add(shard.table.capacity()),
                unproven_capacity: sum.unproven_capacity.saturating_add(shard.unproven_capacity()),
                evicted: sum.evicted.saturating_add(shard.evicted()),
                ..sum
            }
        })
    }

    /// `among`: our addresses of which one is shown instead of the client's.
    fn bind(
        &self,
        service: ServiceId,
        inside: &FlowKey,
        kind: Kind,
        target: &Target,
        among: Option<&[IpAddr]>,
        now: Moment,
    ) -> Result<Binding, Refused> {
        let (tag, which) = self.spread(inside);
        let mut shard = self.shards.get(which).ok_or(Refused::TableFull)?.lock();
        if let Some(place) = shard.find(tag, service, inside) {
            if let Some(binding) = shard.packet(place, kind, Side::Client, now) {
                return Ok(binding);
            }
            self.remove(&mut shard, place, now);
        }
        if let Some(place) = shard.in_the_way(now).map_err(|()| Refused::TableFull)? {
            let lease = self.evict(&mut shard, place, now);
            self.give_back(lease, now);
        }
        let protocol = inside.protocol();
        let lease = among.map(|among| self.lend(&mut shard, protocol, target.address, among, tag, now)).transpose()?;
        let source = lease.map_or(inside.source(), |lease| SocketAddr::new(lease.address, lease.port));
        let outside = FlowKey::new(protocol, source, target.address);
        let (endpoint, generation) = (target.endpoint, target.generation);
        let binding = Binding { inside: *inside, outside, service, endpoint, generation };
        let bound = Bound::new(binding, kind, target.idle, lease, tag, now);
        let linked = match shard.insert(bound) {
            Some(place) => self.link(&outside, which, place).inspect_err(|_| {
                shard.remove(place);
            }),
            None => Err(Refused::TableFull),
        };
        if linked.is_err() {
            let rest = if protocol == TCP { Rest::None } else { Rest::Short };
            self.give_back(lease.map(|lease| (lease, rest)), now);
        }
        linked.map(|()| binding)
    }

    /// A port for a new flow: one that nobody has, or that of the flow here which may go and has been silent for longest. Every shard
    /// has its share of those.
    fn lend(
        &self,
        shard: &mut Shard,
        protocol: u8,
        towards: SocketAddr,
        among: &[IpAddr],
        tag: u32,
        now: Moment,
    ) -> Result<Lease, Refused> {
        if let Some(lease) = self.ports.take(protocol, towards.ip(), among, u64::from(tag), now) {
            return Ok(lease);
        }
        let fits = |bound: &Bound| match bound.lease() {
            Some(lease) if lease.suits(protocol, towards.ip(), among) => {
                if bound.yields_to(towards, now) {
                    Fit::Goes
                } else {
                    Fit::Next
                }
            }
            _ => Fit::Never,
        };
        let place = shard.silent_for_longest(fits).ok_or(Refused::PortsExhausted)?;
        let tired = shard.table.get(place).is_some_and(|bound| !bound.has_rested(now));
        let (mut lease, _) = self.evict(shard, place, now).ok_or(Refused::PortsExhausted)?;
        lease.tired = tired;
        Ok(lease)
    }

    fn link(&self, outside: &FlowKey, shard: usize, place: usize) -> Result<(), Refused> {
        let (tag, which) = self.spread(outside);
        let (Ok(shard), Ok(place)) = (u16::try_from(shard), u32::try_from(place)) else {
            return Err(Refused::TableFull);
        };
        let mut back = self.back.get(which).ok_or(Refused::TableFull)?.lock();
        if back.find(tag, |back| back.outside == *outside).is_some() {
            return Err(Refused::Collision);
        }
        back.insert(Back { outside: *outside, tag, shard, place }).map(|_| ()).ok_or(Refused::TableFull)
    }

    /// Removes a binding, its way back, and then gives back its port: whoever is lent it next must find no trace.
    fn remove(&self, shard: &mut Shard, place: usize, now: Moment) {
        if let Some(bound) = shard.remove(place) {
            self.give_back(self.unlink(&bound), now);
        }
    }

    /// Removes a binding so that another may come, and its way back. Its port is the caller's.
    fn evict(&self, shard: &mut Shard, place: usize, now: Moment) -> Option<(Lease, Rest)> {
        let bound = shard.remove(place)?;
        shard.note_evicted(&bound, now);
        self.unlink(&bound)
    }

    /// Removes the way back to a binding that was removed, and gives its port.
    fn unlink(&self, bound: &Bound) -> Option<(Lease, Rest)> {
        let (tag, which) = self.spread(&bound.binding.outside);
        if let Some(mut back) = self.back.get(which).map(|back| back.lock())
            && let Some(place) = back.find(tag, |back| back.outside == bound.binding.outside)
        {
            back.remove(place);
        }
        bound.lease().map(|lease| (lease, bound.rest()))
    }

    fn give_back(&self, lease: Option<(Lease, Rest)>, now: Moment) {
        if let Some((lease, rest)) = lease {
            self.ports.give_back(lease, rest, now);
        }
    }

    fn spread(&self, key: &FlowKey) -> (u32, usize) {
        table::spread(self.key.hash(&key.bytes()), self.shards.len())
    }
}

/// The way back to a binding.
#[derive(Clone, Copy)]
struct Back {
    outside: FlowKey,
    tag: u32,
    shard: u16,
    place: u32,
}

impl Entry for Back {
    fn tag(&self) -> u32 {
        self.tag
    }
}

#[cfg(test)]
mod tests;
