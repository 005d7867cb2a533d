//! Value: a pool and its published view. Workers read the view; only the control side publishes a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::endpoint::{Endpoint, Status};
use super::queue::Queue;
use crate::balance::{self, Capacity, Member, Pick, Picker, Uses};
use crate::base::{EndpointAddr, HashKey, MacAddr, PoolId, Weight};
use crate::doc::Settings;
use crate::health::{self, Candidate, DampingRules, Intent, OutlierRules, Placement};
use crate::observe::{PerWorker, PoolCells};

/// What the file says of a pool; two equal specs are the same pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSpec {
    pub name: Arc<str>,
    pub balance: Settings,
    /// `None`: not probed, every endpoint counts as up.
    pub probe: Option<Settings>,
    pub outlier: OutlierRules,
    pub damping: DampingRules,
    /// How long an endpoint that is new or comes back takes to get its whole share; zero: no time.
    pub slow_start: Duration,
    pub placement: Placement,
    /// Of each endpoint.
    pub capacity: Capacity,
    pub connect_timeout: Duration,
    /// Endpoints come and go by a source: what an operator has set of one holds when it comes again.
    pub sourced: bool,
    pub endpoints: Vec<EndpointSpec>,
}

impl PoolSpec {
    /// A pool as a file means it that says no more.
    pub fn new(name: impl Into<Arc<str>>, balance: Settings, endpoints: Vec<EndpointSpec>) -> PoolSpec {
        PoolSpec {
            name: name.into(),
            balance,
            probe: None,
            outlier: OutlierRules::default(),
            damping: DampingRules::default(),
            slow_start: Duration::ZERO,
            placement: Placement::default(),
            capacity: Capacity::default(),
            connect_timeout: Duration::from_secs(2),
            sourced: false,
            endpoints,
        }
    }
}

/// What the file says of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// With a port in every pool that proxies use.
    pub address: EndpointAddr,
    pub weight: Weight,
    /// Where frames to it go; `None`: found by ARP or neighbour discovery. Of use to packet services only.
    pub mac: Option<MacAddr>,
    /// Serves only while no other is usable.
    pub backup: bool,
    pub zone: Option<Arc<str>>,
    /// Its source has it no more: what is under way there may finish, and nothing new goes there.
    pub leaving: bool,
}

impl EndpointSpec {
    pub fn new(address: impl Into<EndpointAddr>, weight: Weight) -> EndpointSpec {
        EndpointSpec { address: address.into(), weight, mac: None, backup: false, zone: None, leaving: false }
    }
}

pub struct Pool {
    pub id: PoolId,
    pub spec: PoolSpec,
    /// In file order, parallel to `spec.endpoints`.
    pub endpoints: Vec<Arc<Endpoint>>,
    pub cells: Arc<PerWorker<PoolCells>>,
    /// Who waits for a place at one of them.
    pub queue: Arc<Queue>,
    hash_key: HashKey,
    view: ArcSwap<PoolView>,
    /// Views published so far.
    epoch: AtomicU32,
}

/// The usable endpoints of a pool and the picker built over them, immutable.
pub struct PoolView {
    /// Parallel to `endpoints`.
    pub members: Vec<Member>,
    pub endpoints: Vec<Arc<Endpoint>>,
    pub picker: Box<dyn Picker>,
    /// What the picker looks at: a hash that nobody reads need not be computed.
    pub uses: Uses,
    pub epoch: u32,
    /// So few are usable that all serve but what the operator took out.
    pub panic: bool,
    /// Backups serve: no primary is usable.
    pub backup: bool,
    /// Only endpoints of this node's zone serve.
    pub local: bool,
}

impl PoolView {
    /// A usable endpoint that was not tried yet, and its index for `Pick::tried`; `None` when there is none.
    pub fn pick(&self, pick: &Pick<'_>) -> Option<(usize, &Arc<Endpoint>)> {
        let index = self.picker.pick(&self.members, pick)?;
        Some((index, self.endpoints.get(index)?))
    }
}

impl Pool {
    /// A pool with its first view. Endpoints, cells and queue are the caller's, so that they may be inherited.
    pub fn new(
        id: PoolId,
        spec: PoolSpec,
        endpoints: Vec<Arc<Endpoint>>,
        (cells, queue): (Arc<PerWorker<PoolCells>>, Arc<Queue>),
        hash_key: HashKey,
    ) -> Pool {
        let view = build_view(&spec, &endpoints, hash_key, 0);
        let (view, epoch) = (ArcSwap::from_pointee(view), AtomicU32::new(0));
        Pool { id, spec, endpoints, cells, queue, hash_key, view, epoch }
    }

    pub fn view(&self) -> arc_swap::Guard<Arc<PoolView>> {
        self.view.load()
    }

    /// Builds the view anew from the endpoints' statuses and publishes it. Control side only: two publishers would race.
    pub fn publish(&self) {
        let epoch = self.epoch.fetch_add(1, Relaxed) + 1;
        self.view.store(Arc::new(build_view(&self.spec, &self.endpoints, self.hash_key, epoch)));
        // There may be places that were not, or nobody left to wait for.
        self.queue.released();
    }

    /// A view like the published one, with a picker of its own: what is tried on it moves nobody's turn.
    pub fn rehearsal(&self) -> PoolView {
        build_view(&self.spec, &self.endpoints, self.hash_key, 0)
    }

    pub fn endpoint(&self, name: &str) -> Option<&Arc<Endpoint>> {
        self.endpoints.iter().find(|endpoint| &*endpoint.name == name)
    }

    pub fn hash_key(&self) -> HashKey {
        self.hash_key
    }
}

fn build_view(spec: &PoolSpec, endpoints: &[Arc<Endpoint>], hash_key: HashKey, epoch: u32) -> PoolView {
    // One look at each, or a status that changes between two looks could empty the view.
    let statuses: Vec<Status> = endpoints.iter().map(|endpoint| endpoint.status()).collect();
    let zone = spec.placement.local.as_ref().map(|local| &local.zone);
    let candidates: Vec<Candidate> = statuses
        .iter()
        .zip(&spec.endpoints)
        .map(|(status, said)| Candidate {
            // As if the operator had drained it: also a pool that panics gives it nothing.
            intent: if said.leaving && status.intent == Intent::Ready { Intent::Draining } else { status.intent },
            health: status.health,
            backup: said.backup,
            local: zone.is_some() && said.zone.as_ref() == zone,
        })
        .collect();
    let selection = health::select(&candidates, &spec.placement);
    let usable: Vec<(&Arc<Endpoint>, Status)> =
        selection.members.iter().filter_map(|&i| Some((endpoints.get(i)?, *statuses.get(i)?))).collect();
    // Tenths only while they matter: a whole weight is what tables of other nodes are built from.
    let warms = usable.iter().any(|(_, status)| !status.warmth.is_full());
    let members: Vec<Member> = usable
        .iter()
        .map(|(endpoint, status)| Member {
            identity: endpoint.identity,
            weight: if warms { status.weight.in_tenths(status.warmth.get()) } else { status.weight },
            load: endpoint.load.clone(),
        })
        .collect();
    // Settings only come from the catalogue's grammars, so the name is found.
    let algorithm = balance::find(spec.balance.name).unwrap_or(&balance::CATALOG[0]);
    PoolView {
        picker: (algorithm.build)(&spec.balance, &members, hash_key),
        uses: algorithm.uses,
        members,
        endpoints: usable.into_iter().map(|(endpoint, _)| endpoint.clone()).collect(),
        epoch,
        panic: selection.panic,
        backup: selection.backup,
        local: selection.local,
    }
}
