//! Wiring: every endpoint in force with its state machine and its probe, and the views that follow from their states.
//!
//! The one place that sets an endpoint's status and publishes a pool's view. Views are built for all changes at once, and of
//! the snapshot in force as well as of the one kept here: between a commit and its adoption they differ.
//! Not here: who is probed (`probing`), and what is made of traffic (`traffic`), of the network (`network`), of time (`warming`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Happening;
use crate::admin::EndpointReport;
use crate::base::{EndpointAddr, Moment, PoolId, Weight, clock, limits};
use crate::health::{
    Cause, CutOff, ErrorShare, Event, Health, Intent, Machine, Rules, Schedule, Start, Transition, Warming, Warmth, Why,
};
use crate::net::Crew;
use crate::observe::{Beat, events};
use crate::seam::probe::goes_through;
use crate::seam::through::Path;
use crate::state::{Endpoint, EndpointSpec, Snapshot, Status};

mod kept;
mod network;
mod probing;
mod traffic;
mod warming;

pub(super) use kept::Checker;
use kept::Kept;

/// Never given twice, so that the result of a probe cannot be taken for another endpoint's.
pub(super) type WardId = u64;

pub(super) struct Wards {
    crew: Arc<Crew>,
    /// Tables take their time: each one that is built shows that the thread goes on.
    beat: Beat,
    wards: HashMap<WardId, Ward>,
    pools: HashMap<PoolId, Kept>,
    by_address: HashMap<(PoolId, EndpointAddr), WardId>,
    /// What an operator has set of endpoints that a source has no more; it may have them again.
    wishes: HashMap<(PoolId, EndpointAddr), Wish>,
    next_id: WardId,
    /// Endpoints that time alone changes.
    timed: HashSet<WardId>,
    /// Those that warm up.
    warming: HashSet<WardId>,
    cut_off: CutOff<WardId>,
    /// Every endpoint is on this machine, as in a lab; else those that are tell nothing of the network.
    all_here: bool,
    /// Pools whose view is not what their endpoints say.
    changed: HashSet<PoolId>,
    /// Pools that keep their first view, in which everyone serves, until all are judged, or until this moment.
    settling: HashMap<PoolId, Moment>,
    /// Some endpoint has gone down since the last views.
    went_down: bool,
}

struct Ward {
    pool: PoolId,
    endpoint: Arc<Endpoint>,
    machine: Machine,
    /// The weight in the file, to notice when it changes.
    weight: Weight,
    cause: Cause,
    since: Moment,
    /// Since when it is up, whatever the operator wants.
    up_since: Option<Moment>,
    warming: Option<Warming>,
    errors: ErrorShare,
    /// Why the last probe of it could not be made, and how many in a row could not.
    trouble: Option<Why>,
    troubles: u32,
}

#[derive(Clone, Copy)]
struct Wish {
    intent: Intent,
    /// Where it is not the file's.
    weight: Option<Weight>,
}

/// First probes of a process are spread so far apart, and over [`SPREAD`] at most: small pools are judged at once, large ones
/// without a burst.
const APART: Duration = Duration::from_millis(2);
const SPREAD: Duration = Duration::from_secs(2);
/// Longest that a pool keeps its first view for want of results.
const SETTLING: Duration = Duration::from_secs(5);

impl Wards {
    pub(super) fn new(crew: Arc<Crew>, beat: Beat) -> Wards {
        Wards {
            crew,
            beat,
            wards: HashMap::new(),
            pools: HashMap::new(),
            by_address: HashMap::new(),
            wishes: HashMap::new(),
            next_id: 0,
            timed: HashSet::new(),
            warming: HashSet::new(),
            cut_off: CutOff::default(),
            all_here: true,
            changed: HashSet::new(),
            settling: HashMap::new(),
            went_down: false,
        }
    }

    /// Takes over a snapshot: what it keeps goes on, what it has not goes, what is new is probed.
    pub(super) fn adopt(
        &mut self,
        snapshot: &Snapshot,
        schedule: &mut Schedule<WardId>,
        random: &mut fastrand::Rng,
        now: Moment,
    ) -> Vec<Happening> {
        let mut happenings = Vec::new();
        let first = self.next_id == 0;
        let endpoints: usize = snapshot.pools().map(|pool| pool.endpoints.len()).sum();
        let window = APART.saturating_mul(u32::try_from(endpoints).unwrap_or(u32::MAX)).min(SPREAD);
        self.forget_missing(snapshot, schedule);
        for pool in snapshot.pools() {
            let kept = self.pools.remove(&pool.id);
            if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.pool, pool)) {
                self.pools.extend(kept.map(|kept| (pool.id, kept)));
                continue;
            }
            if kept.is_some() || !first {
                self.changed.insert(pool.id);
            }
            let kept = Kept::of(pool, kept, now);
            let (rules, pace) = (kept.rules, kept.checker.as_ref().map(|checker| checker.pace));
            self.pools.insert(pool.id, kept);
            if first && let Some(pace) = pace {
                self.settling.insert(pool.id, now + (window + pace.timeout).min(SETTLING));
            }
            for (endpoint, EndpointSpec { weight, .. }) in pool.endpoints.iter().zip(&pool.spec.endpoints) {
                let id = self.ward(pool.id, endpoint, *weight, rules, (first, now));
                happenings.extend(self.change_rules(id, rules, now));
                self.change_weight(id, *weight);
                happenings.extend(self.recall(id, now));
                match pace {
                    Some(pace) if self.wants_probes(id) => {
                        let start = if first { Start::Within(window) } else { Start::Now };
                        schedule.add(id, pace.interval, start, now, random.u64(..));
                    }
                    _ => self.stop_probing(id, schedule),
                }
            }
        }
        self.end_doubt();
        self.all_here = self.wards.values().all(|ward| ward.endpoint.address.ip().is_loopback());
        // Services and VIPs may have changed where pools have not.
        for kept in self.pools.values_mut() {
            kept.paths = match &kept.checker {
                Some(checker) if goes_through(&checker.settings) => Path::all_to(snapshot, kept.pool.id),
                _ => Vec::new(),
            };
        }
        happenings
    }

    /// Drops endpoints that `snapshot` has not, or has anew.
    fn forget_missing(&mut self, snapshot: &Snapshot, schedule: &mut Schedule<WardId>) {
        let stays = |ward: &Ward| {
            snapshot
                .pool(ward.pool)
                .is_some_and(|pool| pool.endpoints.iter().any(|endpoint| Arc::ptr_eq(endpoint, &ward.endpoint)))
        };
        let gone: Vec<WardId> = self.wards.iter().filter(|(_, ward)| !stays(ward)).map(|(id, _)| *id).collect();
        for id in gone {
            self.stop_probing(id, schedule);
            self.timed.remove(&id);
            self.warming.remove(&id);
            if let Some(ward) = self.wards.remove(&id) {
                self.by_address.remove(&(ward.pool, ward.endpoint.address));
                self.remember(snapshot, &ward);
            }
        }
        self.pools.retain(|id, _| snapshot.pool(*id).is_some());
        self.wishes.retain(|(id, _), _| snapshot.pool(*id).is_some_and(|pool| pool.spec.sourced));
    }

    /// A name server that forgets a machine for a minute does not undo what an operator has said of it.
    fn remember(&mut self, snapshot: &Snapshot, ward: &Ward) {
        let (intent, weight) = (ward.machine.intent(), ward.endpoint.status().weight);
        let weight = (weight != ward.weight).then_some(weight);
        let sourced = snapshot.pool(ward.pool).is_some_and(|pool| pool.spec.sourced);
        let says = intent != Intent::Ready || weight.is_some();
        if sourced && says && self.wishes.len() < limits::POOL_ENDPOINTS {
            self.wishes.insert((ward.pool, ward.endpoint.address), Wish { intent, weight });
        }
    }

    /// What was set of an endpoint the last time that it was here.
    fn recall(&mut self, id: WardId, now: Moment) -> Option<Happening> {
        let ward = self.wards.get(&id)?;
        let Wish { intent, weight } = self.wishes.remove(&(ward.pool, ward.endpoint.address))?;
        if let Some(weight) = weight {
            self.set_weight(id, weight, "operator");
        }
        self.apply(id, Event::SetIntent(intent), now)
    }

    /// The ward of an endpoint, made if it is new. `first`: so are all.
    fn ward(
        &mut self,
        pool: PoolId,
        endpoint: &Arc<Endpoint>,
        weight: Weight,
        rules: Rules,
        (first, now): (bool, Moment),
    ) -> WardId {
        if let Some(id) = self.by_address.get(&(pool, endpoint.address)) {
            return *id;
        }
        let id = self.next_id;
        self.next_id += 1;
        let machine = Machine::new(rules);
        let (intent, health) = (machine.intent(), machine.health());
        endpoint.changed_at.store(now.0, Relaxed);
        let cause = Cause::Start;
        let address = endpoint.address;
        let up_since = (health == Health::Up).then_some(now);
        let ward = Ward {
            pool,
            endpoint: endpoint.clone(),
            machine,
            weight,
            cause,
            since: now,
            up_since,
            warming: None,
            errors: ErrorShare::default(),
            trouble: None,
            troubles: 0,
        };
        self.wards.insert(id, ward);
        self.by_address.insert((pool, address), id);
        let begins = if first { None } else { self.welcome(id, now) };
        endpoint.set_status(Status { intent, health, weight, warmth: begins.unwrap_or(Warmth::FULL) });
        id
    }

    fn change_rules(&mut self, id: WardId, rules: Rules, now: Moment) -> Option<Happening> {
        let transition = self.wards.get_mut(&id)?.machine.set_rules(rules)?;
        self.settled(id, transition, now)
    }

    /// A weight that changed in the file replaces what the operator set; one that did not leaves it.
    fn change_weight(&mut self, id: WardId, weight: Weight) {
        let Some(ward) = self.wards.get_mut(&id) else { return };
        if ward.weight != weight {
            ward.weight = weight;
            self.set_weight(id, weight, "configuration");
        }
    }

    pub(super) fn set_weight(&mut self, id: WardId, weight: Weight, cause: &'static str) {
        let Some(ward) = self.wards.get(&id) else { return };
        let status = ward.endpoint.status();
        if status.weight == weight {
            return;
        }
        ward.endpoint.set_status(Status { weight, ..status });
        self.changed.insert(ward.pool);
        let pool = self.pools.get(&ward.pool).map(|kept| kept.pool.spec.name.clone()).unwrap_or_default();
        let (from, to) = (status.weight.get(), weight.get());
        let endpoint = &*ward.endpoint.name;
        tracing::info!(event = events::WEIGHT, pool = &*pool, endpoint, from, to, cause, "endpoint changed weight");
    }

    /// Feeds the machine, and puts its answer into force.
    pub(super) fn apply(&mut self, id: WardId, event: Event, now: Moment) -> Option<Happening> {
        let ward = self.wards.get_mut(&id)?;
        let failed = match &event {
            Event::ProbeFailed { why, .. } => Some(why.clone()),
            _ => None,
        };
        if let (Event::ProbeSucceeded { .. }, Cause::ProbeImpossible(_)) = (&event, &ward.cause) {
            // It was taken to be up, and now it is known.
            ward.cause = Cause::ProbePassed;
        }
        match ward.machine.handle(event, now) {
            Some(transition) => self.settled(id, transition, now),
            None => {
                // It was refused and now it answers 503: the last reason is the one to look into.
                if let (Some(why), Health::Down) = (failed, ward.machine.health()) {
                    ward.cause = Cause::ProbeFailed(why);
                }
                None
            }
        }
    }

    fn settled(&mut self, id: WardId, transition: Transition, now: Moment) -> Option<Happening> {
        let ward = self.wards.get_mut(&id)?;
        let (intent, health) = transition.to;
        ward.endpoint.changed_at.store(now.0, Relaxed);
        let returns = transition.from.1 == Health::Ejected && matches!(health, Health::Up | Health::Probing);
        if returns || matches!(health, Health::Down | Health::Ejected) {
            ward.endpoint.set_trial(returns);
        }
        if health == Health::Up {
            // Failures of its last life are none of this one's.
            ward.endpoint.failures_in_row.store(0, Relaxed);
            ward.endpoint.errors_in_row.store(0, Relaxed);
            ward.errors.forget();
            ward.up_since = ward.up_since.or(Some(now));
        } else {
            ward.up_since = None;
            ward.warming = None;
            self.warming.remove(&id);
        }
        if transition.from.0 == Intent::Maintenance {
            ward.up_since = ward.up_since.map(|_| now);
        }
        self.went_down |= health == Health::Down && transition.from.1 != Health::Down;
        (ward.cause, ward.since) = (transition.cause.clone(), now);
        if ward.machine.deadline().is_some() {
            self.timed.insert(id);
        } else {
            self.timed.remove(&id);
        }
        self.changed.insert(ward.pool);
        let (pool, endpoint) = (ward.pool, ward.endpoint.clone());
        let begins = self.welcome(id, now);
        // Last, and at once: a view built meanwhile must not find it up with all of its weight.
        let status = endpoint.status();
        let warmth = begins.unwrap_or(if health == Health::Up { status.warmth } else { Warmth::FULL });
        endpoint.set_status(Status { intent, health, warmth, ..status });
        let endpoint = endpoint.name.clone();
        let pool = self.pools.get(&pool).map(|kept| kept.pool.spec.name.clone()).unwrap_or_default();
        Some(Happening { pool, endpoint, transition })
    }

    /// Builds and publishes the views of all pools that changed, but for those that settle.
    pub(super) fn publish(&mut self, now: Moment) {
        self.beat.beat(now);
        let pools = &self.pools;
        self.settling.retain(|id, until| {
            let judged = |kept: &Kept| kept.pool.endpoints.iter().all(|e| e.status().health != Health::Probing);
            now < *until && pools.get(id).is_some_and(|kept| !judged(kept))
        });
        if self.changed.is_empty() {
            return;
        }
        let current = self.crew.snapshot.load();
        let settling = &self.settling;
        let ready: Vec<PoolId> = self.changed.iter().filter(|id| !settling.contains_key(id)).copied().collect();
        for id in ready {
            self.beat.beat(clock::now());
            self.changed.remove(&id);
            let kept = self.pools.get_mut(&id);
            let pool = kept.as_ref().map(|kept| kept.pool.clone());
            if let Some(kept) = kept {
                kept.pool.publish();
                kept.note_view();
            }
            if let Some(current) = current.pool(id)
                && !pool.is_some_and(|kept| Arc::ptr_eq(&kept, current))
            {
                current.publish();
            }
        }
        // After the views: who looks for another endpoint must not find this one.
        if std::mem::take(&mut self.went_down) {
            self.crew.note_down();
        }
    }

    /// The operator has spoken: the pool of this endpoint waits no longer for its first results.
    pub(super) fn settle(&mut self, id: WardId) {
        if let Some(ward) = self.wards.get(&id) {
            self.settling.remove(&ward.pool);
        }
    }

    /// Endpoints that time has changed.
    pub(super) fn due(&self, now: Moment) -> Vec<WardId> {
        let due = |id: &&WardId| {
            self.wards.get(id).and_then(|ward| ward.machine.deadline()).is_some_and(|deadline| deadline <= now)
        };
        self.timed.iter().filter(due).copied().collect()
    }

    /// When time alone changes something.
    pub(super) fn next_timer(&self, now: Moment) -> Option<Moment> {
        let ejections = self.timed.iter().filter_map(|id| self.wards.get(id)?.machine.deadline());
        let warming = self.warming.iter().filter_map(|id| Some(self.wards.get(id)?.warming?.step_after(now)));
        let samples = self.pools.values().filter_map(|kept| kept.next_sample);
        ejections.chain(warming).chain(samples).chain(self.settling.values().copied()).min()
    }

    pub(super) fn find(&self, pool: &str, endpoint: &str) -> Option<WardId> {
        let kept = self.pools.values().find(|kept| &*kept.pool.spec.name == pool)?;
        let endpoint = kept.pool.endpoint(endpoint)?;
        self.by_address.get(&(kept.pool.id, endpoint.address)).copied()
    }

    pub(super) fn report(&self, schedule: &Schedule<WardId>, now: Moment) -> Vec<EndpointReport> {
        let mut pools: Vec<&Kept> = self.pools.values().collect();
        pools.sort_by_key(|kept| kept.pool.id);
        let endpoints = pools.iter().flat_map(|kept| {
            kept.pool
                .endpoints
                .iter()
                .zip(&kept.pool.spec.endpoints)
                .map(move |(endpoint, said)| (kept, endpoint, said))
        });
        endpoints
            .filter_map(|(kept, endpoint, said)| {
                let id = self.by_address.get(&(kept.pool.id, endpoint.address))?;
                let ward = self.wards.get(id)?;
                Some(EndpointReport {
                    pool: kept.pool.spec.name.clone(),
                    endpoint: endpoint.name.clone(),
                    cause: match (&ward.trouble, ward.machine.held(now)) {
                        _ if said.leaving => Some("its source has it no more".to_owned()),
                        (Some(why), _) => Some(format!("cannot be probed: {why}")),
                        (None, Some(held)) => Some(held.to_string()),
                        (None, None) => (ward.cause != Cause::Start).then(|| ward.cause.to_string()),
                    },
                    since: Some(now.since(ward.since)),
                    next_probe: schedule.due(*id).map(|due| due.since(now)),
                })
            })
            .collect()
    }
}
