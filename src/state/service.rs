//! Value: a service: what clients reach, in the compiled form that workers read.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::clients::Clients;
use super::packet::{Family, PacketSpec};
use crate::balance::key::HashBy;
use crate::base::{Listen, Network, PoolId, ServiceId};
use crate::doc::Place;
use crate::observe::access;
use crate::observe::packets::SlotGauges;
use crate::observe::{PerWorker, ServiceCells};
use crate::route;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModeKind {
    L2,
    L3,
    L4,
    L7,
}

impl ModeKind {
    pub const fn word(self) -> &'static str {
        match self {
            ModeKind::L2 => "l2",
            ModeKind::L3 => "l3",
            ModeKind::L4 => "l4",
            ModeKind::L7 => "l7",
        }
    }
}

/// What the file says of a service, names resolved to ids; two equal specs are the same service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSpec {
    pub name: Arc<str>,
    pub listen: Vec<Listen>,
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// `None`: no access records.
    pub access: Option<access::Format>,
    pub traffic: TrafficSpec,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TrafficSpec {
    /// `l4` as a proxy.
    L4 {
        pool: PoolId,
        hash_by: HashBy,
    },
    L7(L7Spec),
    /// `l2`, `l3`, and `l4` with NAT.
    Packet(PacketSpec),
}

#[derive(Clone, Debug, PartialEq)]
pub struct L7Spec {
    pub routes: Vec<Route>,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are believed and extended rather than replaced.
    pub trusted_proxies: Vec<Network>,
    /// Answers that Strata makes carry `X-Strata-Reason`.
    pub reason_field: bool,
    /// Retries on another endpoint after the first attempt, 0 to 2.
    pub retries: u8,
}

/// A routing rule: the pattern and where it leads.
#[derive(Clone, Debug)]
pub struct Route {
    /// As in the file; empty for the default route.
    pub url: String,
    pub pattern: route::Pattern,
    pub priority: i64,
    pub pool: PoolId,
    /// What the pool's picker is sticky by.
    pub hash_by: HashBy,
    /// When the service was last compiled anew; [`super::Snapshot::route_places`] has where it stands now.
    pub place: Place,
}

impl Route {
    /// As the table sees it.
    pub fn rule(&self) -> route::Rule {
        route::Rule { pattern: self.pattern.clone(), priority: self.priority, conditions: 0 }
    }
}

/// The place aside: a comment above a route is no change of the service.
impl PartialEq for Route {
    fn eq(&self, other: &Route) -> bool {
        let key = |route: &Route| (route.priority, route.pool);
        key(self) == key(other)
            && self.url == other.url
            && self.pattern == other.pattern
            && self.hash_by == other.hash_by
    }
}

/// Every wait of a proxied exchange (`notes/hardening.md`, design rule 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// L7: a whole request head from its first byte, however it drips.
    pub header: Duration,
    /// L7: a kept-alive connection without a request. L4: a relay without a byte in either direction.
    pub idle: Duration,
    /// L7: from the request's end to the response's head, and between bytes of the response's body.
    pub response: Duration,
    /// Bytes of a request body: none for this long is a slow post.
    pub body: Duration,
    /// A client that takes none of its response for this long is cut off.
    pub client: Duration,
    /// An upgraded connection without a byte in either direction.
    pub tunnel: Duration,
    /// The other half of a connection of which one half is closed.
    pub half_close: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// 0: bounded by file descriptors only.
    pub max_connections: u32,
    pub max_connections_per_source: u32,
    /// Largest request body, bytes; 0: no limit.
    pub max_body_bytes: u64,
    /// Requests served on one client connection before it is closed; 0: no limit.
    pub max_requests: u32,
}

/// A service as workers read it.
pub struct Service {
    pub id: ServiceId,
    pub spec: ServiceSpec,
    pub traffic: Traffic,
    /// Survive a reload that keeps the service's name.
    pub kept: Arc<Kept>,
}

/// What a service keeps across reloads.
pub struct Kept {
    pub cells: PerWorker<ServiceCells>,
    /// Connections open now, for `max_connections`.
    pub open: AtomicU32,
    /// Connections open by source address, touched only where `max_connections_per_source` is set.
    pub sources: parking_lot::Mutex<std::collections::HashMap<IpAddr, u32>>,
    /// Whether clients' addresses arrive.
    pub clients: Clients,
    /// Of the tables that a packet service has, by [`Family`].
    slots: [SlotGauges; Family::ALL.len()],
}

impl Kept {
    pub fn new(workers: usize) -> Kept {
        Kept {
            cells: PerWorker::new(workers),
            open: AtomicU32::new(0),
            sources: parking_lot::Mutex::default(),
            clients: Clients::default(),
            slots: std::array::from_fn(|_| SlotGauges::default()),
        }
    }

    /// What the packet engine says of the service's table of this family.
    pub fn slots(&self, family: Family) -> &SlotGauges {
        &self.slots[family as usize]
    }
}

pub enum Traffic {
    L4(L4),
    L7(L7),
    Packet(PacketSpec),
}

pub struct L4 {
    pub pool: PoolId,
    pub hash_by: HashBy,
}

pub struct L7 {
    pub spec: L7Spec,
    /// Finds an index into `spec.routes`.
    pub table: route::Table,
}

impl Service {
    pub fn new(id: ServiceId, spec: ServiceSpec, kept: Arc<Kept>) -> Service {
        let traffic = match &spec.traffic {
            TrafficSpec::L4 { pool, hash_by } => Traffic::L4(L4 { pool: *pool, hash_by: hash_by.clone() }),
            TrafficSpec::L7(l7) => Traffic::L7(L7 {
                table: route::Table::build(&l7.routes.iter().map(Route::rule).collect::<Vec<_>>()),
                spec: l7.clone(),
            }),
            TrafficSpec::Packet(packet) => Traffic::Packet(packet.clone()),
        };
        Service { id, spec, traffic, kept }
    }

    pub fn mode(&self) -> ModeKind {
        match &self.traffic {
            Traffic::L4(_) => ModeKind::L4,
            Traffic::L7(_) => ModeKind::L7,
            Traffic::Packet(packet) => packet.mode,
        }
    }

    pub fn cells(&self, worker: crate::base::WorkerId) -> &ServiceCells {
        self.kept.cells.row(worker)
    }

    /// Whether that peer is believed when it says for whom it speaks: then its own address hides nobody's.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        matches!(&self.traffic, Traffic::L7(l7) if l7.spec.trusted_proxies.iter().any(|network| network.contains(peer)))
    }
}
