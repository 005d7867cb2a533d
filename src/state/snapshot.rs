//! Value: the compiled form of one configuration generation.
//!
//! Built from plain specs and the snapshot before it: names keep their ids for the life of the process, equal specs keep
//! their `Arc`, and what changed inherits endpoints, cells and counts by name. Building touches nothing that serves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::packet::{Io, Vip, VipSpec};
use super::pool::{Pool, PoolSpec};
use super::service::{Kept, Service, ServiceSpec, TrafficSpec};
use crate::base::address::AdminListen;
use crate::base::{HashKey, Listen, PoolId, ServiceId, VipId};
use crate::doc::{Place, Secret};
use crate::health::Health;
use crate::observe::PerWorker;
use crate::observe::sink::Output;

/// What holds for the whole process.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Threads that carry traffic. Fixed at start: a reload that changes it is told to restart.
    pub workers: usize,
    pub metrics: Option<Listen>,
    pub admin: Option<AdminListen>,
    /// Whoever uses the admin API has to know it.
    pub admin_token: Option<Secret>,
    /// Nothing is changed through it.
    pub admin_read_only: bool,
    pub hash_key: HashKey,
    /// Nobody chose the key: each process has another one.
    pub random_key: bool,
    /// `None`: a ring, or what works where none can be made.
    pub packet_io: Option<Io>,
    pub drain_timeout: Duration,
    /// The word of the level from which on log lines are written.
    pub log_level: &'static str,
    /// An edit of the configuration's files is a reload.
    pub watch: bool,
    /// Log lines are JSON. Fixed at start, as `workers` is.
    pub log_json: bool,
    pub log_output: Output,
    pub access_output: Output,
    pub process: Process,
}

/// What holds for the process as the machine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Client connections of all services together. `None`: as many as descriptors carry.
    pub max_connections: Option<u32>,
    /// Bytes of memory of its own. `None`: what its control group may.
    pub max_memory: Option<u64>,
    /// Whom it becomes at start.
    pub user: Option<String>,
    /// Capabilities that it keeps beside those that its file needs, by name.
    pub keep_capabilities: Vec<&'static str>,
    /// How long a new binary may take until it is ready.
    pub upgrade_timeout: Duration,
}

impl Default for Process {
    fn default() -> Process {
        Process {
            max_connections: None,
            max_memory: None,
            user: None,
            keep_capabilities: Vec::new(),
            upgrade_timeout: Process::UPGRADE_TIMEOUT,
        }
    }
}

impl Process {
    /// A start waits six seconds for first probes at most, and longer for tables of thousands of services.
    pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);
}

pub struct Snapshot {
    /// 1 for the first, one more for every accepted reload.
    pub generation: u64,
    pub settings: Settings,
    services: Vec<Option<Arc<Service>>>,
    pools: Vec<Option<Arc<Pool>>>,
    vips: Vec<Option<Arc<Vip>>>,
    /// By service and route: a service that is kept does not follow when lines are written above it.
    route_places: Vec<Vec<Place>>,
    names: Names,
    /// The effective configuration, defaults filled in and secrets masked, for `/api/config`.
    pub effective: serde_json::Value,
    /// Where each of its values was written, in the same shape: `file:line`, null for a default.
    pub places: serde_json::Value,
}

/// What a configuration names, for [`Snapshot::build`].
#[derive(Clone, Debug, Default)]
pub struct Specs {
    pub vips: Vec<VipSpec>,
    pub pools: Vec<PoolSpec>,
    pub services: Vec<ServiceSpec>,
}

/// Ids given so far. They are never given to another name.
#[derive(Clone, Debug, Default)]
pub struct Names {
    services: HashMap<Arc<str>, ServiceId>,
    pools: HashMap<Arc<str>, PoolId>,
    vips: HashMap<Arc<str>, VipId>,
}

impl Names {
    /// The id of a service's name, new if need be; `None` when all 65536 are taken.
    pub fn service(&mut self, name: &Arc<str>) -> Option<ServiceId> {
        give(&mut self.services, name, ServiceId)
    }

    /// The id of a pool's name, new if need be; `None` when all 65536 are taken.
    pub fn pool(&mut self, name: &Arc<str>) -> Option<PoolId> {
        give(&mut self.pools, name, PoolId)
    }

    /// The id of a VIP's name, new if need be; `None` when all 65536 are taken.
    pub fn vip(&mut self, name: &Arc<str>) -> Option<VipId> {
        give(&mut self.vips, name, VipId)
    }

    pub fn has_pool(&self, name: &str) -> bool {
        self.pools.contains_key(name)
    }

    /// How many pools may still get a name that no pool has had.
    pub fn pools_left(&self) -> usize {
        (usize::from(u16::MAX) + 1).saturating_sub(self.pools.len())
    }
}

/// A name that is known has its id also when there is none left.
fn give<I: Copy>(ids: &mut HashMap<Arc<str>, I>, name: &Arc<str>, id: impl Fn(u16) -> I) -> Option<I> {
    if let Some(known) = ids.get(name) {
        return Some(*known);
    }
    let new = id(u16::try_from(ids.len()).ok()?);
    ids.insert(name.clone(), new);
    Some(new)
}

impl Snapshot {
    /// Generation 0: nothing is served. What a process starts from.
    pub fn empty(settings: Settings) -> Snapshot {
        Snapshot {
            generation: 0,
            settings,
            services: Vec::new(),
            pools: Vec::new(),
            vips: Vec::new(),
            route_places: Vec::new(),
            names: Names::default(),
            effective: serde_json::Value::Null,
            places: serde_json::Value::Null,
        }
    }

    /// The names given so far: resolve with a clone of these, then hand it to [`Snapshot::build`].
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The next generation after `self`. Every id in the specs must come from `names`.
    pub fn build(&self, settings: Settings, names: Names, specs: Specs, effective: serde_json::Value) -> Snapshot {
        let workers = settings.workers;
        let mut next = Snapshot {
            generation: self.generation + 1,
            services: vec![None; names.services.len()],
            pools: vec![None; names.pools.len()],
            vips: vec![None; names.vips.len()],
            route_places: vec![Vec::new(); names.services.len()],
            names,
            settings,
            effective,
            places: serde_json::Value::Null,
        };
        for spec in specs.vips {
            let Some(id) = next.names.vips.get(&spec.name).copied() else { continue };
            next.vips[id.index()] = Some(match self.vip(id) {
                Some(old) if old.spec == spec => old.clone(),
                old => Arc::new(Vip { id, spec, title: old.map(|old| old.title.clone()).unwrap_or_default() }),
            });
        }
        for spec in specs.pools {
            let Some(id) = next.names.pools.get(&spec.name).copied() else { continue };
            let old = self.pool(id);
            next.pools[id.index()] = Some(match old {
                Some(old) if old.spec == spec && old.hash_key() == next.settings.hash_key => old.clone(),
                _ => Arc::new(inherit(id, spec, old, workers, next.settings.hash_key)),
            });
        }
        for spec in specs.services {
            let Some(id) = next.names.services.get(&spec.name).copied() else { continue };
            if let TrafficSpec::L7(l7) = &spec.traffic {
                next.route_places[id.index()] = l7.routes.iter().map(|route| route.place.clone()).collect();
            }
            next.services[id.index()] = Some(match self.service(id) {
                Some(old) if old.spec == spec => old.clone(),
                old => {
                    let kept = old.map_or_else(|| Arc::new(Kept::new(workers)), |old| old.kept.clone());
                    Arc::new(Service::new(id, spec, kept))
                }
            });
        }
        next
    }

    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(id.index())?.as_ref()
    }

    pub fn pool(&self, id: PoolId) -> Option<&Arc<Pool>> {
        self.pools.get(id.index())?.as_ref()
    }

    /// Where the routes of an `l7` service stand in the configuration of this generation, in their order.
    pub fn route_places(&self, service: ServiceId) -> &[Place] {
        self.route_places.get(service.index()).map_or(&[], Vec::as_slice)
    }

    pub fn vip(&self, id: VipId) -> Option<&Arc<Vip>> {
        self.vips.get(id.index())?.as_ref()
    }

    pub fn service_named(&self, name: &str) -> Option<&Arc<Service>> {
        self.service(*self.names.services.get(name)?)
    }

    pub fn pool_named(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pool(*self.names.pools.get(name)?)
    }

    pub fn vip_named(&self, name: &str) -> Option<&Arc<Vip>> {
        self.vip(*self.names.vips.get(name)?)
    }

    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter().flatten()
    }

    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.iter().flatten()
    }

    pub fn vips(&self) -> impl Iterator<Item = &Arc<Vip>> {
        self.vips.iter().flatten()
    }
}

/// A pool that takes over the endpoints of the one it replaces, with their state, load and cells.
fn inherit(id: PoolId, spec: PoolSpec, old: Option<&Arc<Pool>>, workers: usize, hash_key: HashKey) -> Pool {
    let queue = old.map(|old| old.queue.clone()).unwrap_or_default();
    let endpoints = spec
        .endpoints
        .iter()
        .map(|wanted| {
            let known = old.and_then(|old| old.endpoints.iter().find(|endpoint| endpoint.address == wanted.address));
            let Some(known) = known else {
                let endpoint = Endpoint::new(wanted.address, wanted.weight, workers, queue.clone());
                if spec.probe.is_none() {
                    endpoint.set_status(super::Status { health: Health::Up, ..endpoint.status() });
                }
                return Arc::new(endpoint);
            };
            known.clone()
        })
        .collect();
    let cells = old.map_or_else(|| Arc::new(PerWorker::new(workers)), |old| old.cells.clone());
    Pool::new(id, spec, endpoints, (cells, queue), hash_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_have_an_id_keep_it_when_none_is_left() {
        let mut names = Names::default();
        let name = |n: usize| Arc::<str>::from(format!("n{n}"));
        for n in 0..=usize::from(u16::MAX) {
            assert!(
                names.service(&name(n)).is_some() && names.pool(&name(n)).is_some() && names.vip(&name(n)).is_some()
            );
        }
        assert_eq!((names.pools_left(), names.has_pool("n7"), names.has_pool("new")), (0, true, false));
        let new = name(1 << 16);
        assert_eq!((names.service(&new), names.pool(&new), names.vip(&new)), (None, None, None));
        let known = name(7);
        assert_eq!(names.service(&known), Some(ServiceId(7)));
        assert_eq!((names.pool(&known), names.vip(&known)), (Some(PoolId(7)), Some(VipId(7))));
    }
}
