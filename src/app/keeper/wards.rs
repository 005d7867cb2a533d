//! Wiring: every endpoint in force with its state machine and its probe, and the views that follow from their states.
//!
//! The one place that sets an endpoint's status and publishes a pool's view. Views are built for all changes at once, and of
//! the snapshot in force as well as of the one kept here: between a commit and its adoption they differ.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Happening;
use crate::admin::EndpointReport;
use crate::base::{EndpointAddr, Moment, PoolId, Weight, clock, limits};
use crate::doc::Settings;
use crate::health::{
    Cause, CutOff, ErrorShare, Event, Excess, Health, Intent, Machine, Peers, Reach, Rules, Schedule, Start,
    Transition, Trouble, Warming, Warmth, Why, errors,
};
use crate::net::Crew;
use crate::observe::events;
use crate::probe;
use crate::seam::probe::{Aim, Failure, Pace, Probe, goes_through};
use crate::seam::through::{Passage, Path};
use crate::state::{Endpoint, EndpointSpec, Pool, Snapshot, Status};

/// Never given twice, so that the result of a probe cannot be taken for another endpoint's.
pub(super) type WardId = u64;

pub(super) struct Wards {
    crew: Arc<Crew>,
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

struct Kept {
    pool: Arc<Pool>,
    rules: Rules,
    checker: Option<Rc<Checker>>,
    /// The ways of a probe that goes through VIPs.
    paths: Vec<Path>,
    /// It was said that probes of it cannot be made.
    troubled: bool,
    /// What was said last of its view: it panics, backups serve.
    told: (bool, bool),
    /// When the counts of its traffic are read next; `None`: nobody judges them.
    next_sample: Option<Moment>,
}

/// A pool's probe as it was built.
pub(super) struct Checker {
    pub(super) probe: Box<dyn Probe>,
    pub(super) pace: Pace,
    settings: Settings,
}

/// First probes of a process are spread so far apart, and over [`SPREAD`] at most: small pools are judged at once, large ones
/// without a burst.
const APART: Duration = Duration::from_millis(2);
const SPREAD: Duration = Duration::from_secs(2);
/// Longest that a pool keeps its first view for want of results.
const SETTLING: Duration = Duration::from_secs(5);

impl Wards {
    pub(super) fn new(crew: Arc<Crew>) -> Wards {
        Wards {
            crew,
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
        Some(Happening { at: clock::wall(), pool, endpoint, transition })
    }

    /// What a transition means for the probe.
    pub(super) fn follow(
        &mut self,
        id: WardId,
        transition: &Transition,
        schedule: &mut Schedule<WardId>,
        random: &mut fastrand::Rng,
        now: Moment,
    ) {
        let interval = self.interval(id);
        match (interval, self.wants_probes(id)) {
            (Some(interval), true) => {
                schedule.add(id, interval, Start::Now, now, random.u64(..));
                if transition.to.1 == Health::Ejected {
                    schedule.hasten(id, now);
                }
            }
            _ => {
                self.stop_probing(id, schedule);
                self.end_doubt();
            }
        }
    }

    fn stop_probing(&mut self, id: WardId, schedule: &mut Schedule<WardId>) {
        schedule.remove(id);
        self.cut_off.forget(id);
    }

    /// Where nobody is left whose probes could tell that it is over, it is.
    fn end_doubt(&self) {
        if self.cut_off.since().is_none() {
            self.tell_cut_off(false);
        }
    }

    /// Builds and publishes the views of all pools that changed, but for those that settle.
    pub(super) fn publish(&mut self, now: Moment) {
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
    }

    /// The operator has spoken: the pool of this endpoint waits no longer for its first results.
    pub(super) fn settle(&mut self, id: WardId) {
        if let Some(ward) = self.wards.get(&id) {
            self.settling.remove(&ward.pool);
        }
    }

    /// How to probe an endpoint, and by which ways: none where no VIP leads to it.
    pub(super) fn checker(&self, id: WardId) -> Option<(Rc<Checker>, Vec<Aim>)> {
        let ward = self.wards.get(&id)?;
        let kept = self.pools.get(&ward.pool)?;
        let (checker, endpoint) = (kept.checker.clone()?, ward.endpoint.address);
        if !goes_through(&checker.settings) {
            return Some((checker, vec![Aim { endpoint, passage: None }]));
        }
        let paths = kept.paths.iter().filter(|path| path.leads_to(endpoint.ip())).take(limits::PROBE_PATHS);
        let aim = |path: &Path| Aim { endpoint, passage: Some(Passage::new(*path, &self.crew.passages)) };
        Some((checker, paths.map(aim).collect()))
    }

    fn interval(&self, id: WardId) -> Option<Duration> {
        let kept = self.pools.get(&self.wards.get(&id)?.pool)?;
        Some(kept.checker.as_ref()?.pace.interval)
    }

    fn wants_probes(&self, id: WardId) -> bool {
        self.wards.get(&id).is_some_and(|ward| ward.machine.wants_probes())
    }

    /// Counts a probe, and says so when none can be made. False: it was made by a probe that the pool has no more, and says
    /// nothing.
    pub(super) fn count_probe(
        &mut self,
        id: WardId,
        checker: &Rc<Checker>,
        took: Duration,
        result: &Result<(), Failure>,
    ) -> bool {
        let Some(ward) = self.wards.get_mut(&id) else { return false };
        let Some(kept) = self.pools.get_mut(&ward.pool) else { return false };
        if !kept.checker.as_ref().is_some_and(|current| Rc::ptr_eq(current, checker)) {
            return false;
        }
        let cells = ward.endpoint.cells.control();
        match result {
            Ok(()) => cells.probes_passed.one(),
            Err(Failure::Endpoint(_) | Failure::NoRoute(_) | Failure::Silent(_)) => cells.probes_failed.one(),
            Err(Failure::Ours(_)) => cells.probes_impossible.one(),
        }
        kept.pool.cells.control().probe_duration.observe(took);
        let trouble = match result {
            Err(Failure::Ours(why)) => Some(why.clone()),
            Ok(()) | Err(Failure::Endpoint(_) | Failure::NoRoute(_) | Failure::Silent(_)) => None,
        };
        self.note_trouble(id, trouble);
        true
    }

    /// Takes note of why an endpoint cannot be probed, and tells it once a pool: what hinders one probe hinders most. The first
    /// may only have been too early.
    fn note_trouble(&mut self, id: WardId, trouble: Option<Why>) {
        let Some(ward) = self.wards.get_mut(&id) else { return };
        let pool = ward.pool;
        ward.troubles = if trouble.is_some() { ward.troubles.saturating_add(1) } else { 0 };
        ward.trouble.clone_from(&trouble);
        let Some(kept) = self.pools.get_mut(&pool) else { return };
        let lasts = |ward: &Ward| ward.pool == pool && ward.troubles > 1;
        match trouble {
            Some(why) if !kept.troubled && lasts(ward) => {
                kept.troubled = true;
                tracing::error!(event = events::PROBES, pool = &*kept.pool.spec.name, %why, "probes cannot be made: no endpoint is taken out");
            }
            None if kept.troubled && !self.wards.values().any(lasts) => {
                kept.troubled = false;
                tracing::info!(event = events::PROBES, pool = &*kept.pool.spec.name, "probes can be made again");
            }
            _ => {}
        }
    }

    /// The ward of an endpoint that a worker speaks of.
    pub(super) fn of(&self, pool: PoolId, endpoint: &Endpoint) -> Option<WardId> {
        self.by_address.get(&(pool, endpoint.address)).copied()
    }

    /// What the machine needs to know of trouble: whether the endpoint is on trial, and its peers; `None` where it could not
    /// matter.
    pub(super) fn troubled(&self, id: WardId, trouble: Trouble) -> Option<(bool, Peers)> {
        let ward = self.wards.get(&id)?;
        let rules = &self.pools.get(&ward.pool)?.rules.outlier;
        let trial = ward.endpoint.is_on_trial();
        // Counting the others costs a walk over the pool, and under load most failures come after the ejection.
        let enough = match trouble {
            Trouble::Connects { in_a_row } => trial || in_a_row >= rules.failures,
            Trouble::Errors { in_a_row } => trial || in_a_row >= rules.consecutive_errors,
            Trouble::Share(_) => true,
        };
        let serves = matches!(ward.machine.health(), Health::Up | Health::Probing);
        if serves && enough { Some((trial, self.peers(ward)?)) } else { None }
    }

    fn peers(&self, of: &Ward) -> Option<Peers> {
        let kept = self.pools.get(&of.pool)?;
        let stay = kept.pool.endpoints.iter().zip(&kept.pool.spec.endpoints).filter(|(_, said)| !said.leaving);
        let others = stay.map(|(other, _)| other).filter(|other| !Arc::ptr_eq(other, &of.endpoint));
        Some(Peers::of(others.map(|other| other.status()).map(|status| (status.intent, status.health))))
    }

    /// The others of an endpoint's pool, where it is held down although its probes pass.
    pub(super) fn held_well(&self, id: WardId) -> Option<Peers> {
        let ward = self.wards.get(&id)?;
        if ward.machine.is_held_well() { self.peers(ward) } else { None }
    }

    /// An endpoint that has just come up warms, where there is a slow start and somebody who is warm: with what it
    /// begins, for the caller to put into force.
    fn welcome(&mut self, id: WardId, now: Moment) -> Option<Warmth> {
        let ward = self.wards.get(&id)?;
        let kept = self.pools.get(&ward.pool)?;
        if ward.up_since != Some(now) || ward.machine.intent() == Intent::Maintenance {
            return None;
        }
        let slow_start = kept.pool.spec.slow_start;
        let is_warm = |other: &Ward| {
            let up = other.up_since.is_some_and(|since| now.since(since) >= slow_start);
            up && other.warming.is_none() && other.machine.intent() == Intent::Ready
        };
        let others = kept.pool.endpoints.iter().filter_map(|other| self.by_address.get(&(kept.pool.id, other.address)));
        let mut others = others.filter(|other| **other != id).filter_map(|other| self.wards.get(other));
        let warming = Warming::begin(slow_start, kept.pool.view().uses.hash, now)?;
        if !others.any(is_warm) {
            return None;
        }
        let (warmth, _) = warming.now(now)?;
        self.wards.get_mut(&id)?.warming = Some(warming);
        self.warming.insert(id);
        self.changed.insert(self.wards.get(&id)?.pool);
        Some(warmth)
    }

    /// Gives those that warm up what is theirs by now.
    pub(super) fn warm(&mut self, now: Moment) {
        let (wards, changed) = (&mut self.wards, &mut self.changed);
        self.warming.retain(|id| {
            let Some(ward) = wards.get_mut(id) else { return false };
            let step = ward.warming.and_then(|warming| warming.now(now));
            let (status, warmth) = (ward.endpoint.status(), step.map_or(Warmth::FULL, |(warmth, _)| warmth));
            if status.warmth != warmth {
                ward.endpoint.set_status(Status { warmth, ..status });
                changed.insert(ward.pool);
            }
            if step.is_none() {
                ward.warming = None;
            }
            step.is_some()
        });
    }

    /// Reads the counts of the pools whose time it is: whose endpoints fail too much.
    pub(super) fn sample(&mut self, now: Moment) -> Vec<(WardId, Excess)> {
        let mut found = Vec::new();
        for kept in self.pools.values_mut().filter(|kept| kept.next_sample.is_some_and(|due| due <= now)) {
            let rules = &kept.rules.outlier;
            kept.next_sample = Some(now + errors::pace(rules));
            for endpoint in &kept.pool.endpoints {
                let Some(id) = self.by_address.get(&(kept.pool.id, endpoint.address)) else { continue };
                let Some(ward) = self.wards.get_mut(id) else { continue };
                let answered = endpoint.cells.sum(|row| row.answered.get());
                let failed = endpoint.cells.sum(|row| row.failed.get());
                found.extend(ward.errors.sample(rules, now, answered, failed).map(|excess| (*id, excess)));
            }
        }
        found
    }

    /// Takes note of how far a probe came. Whose probes should be made at once, because this may be the prober's trouble.
    pub(super) fn reached(&mut self, id: WardId, reach: Reach, now: Moment) -> Vec<WardId> {
        let Some(ward) = self.wards.get(&id) else { return Vec::new() };
        if !self.tells_of_network(ward) {
            return Vec::new();
        }
        let believed = matches!(ward.machine.health(), Health::Up | Health::Probing);
        // What is known to be down tells nothing by staying so.
        if reach != Reach::Answered && !believed && !self.cut_off.is_unreached(id) {
            return Vec::new();
        }
        let host = ward.endpoint.address.ip();
        let mut cut_off = std::mem::take(&mut self.cut_off);
        let answers = || self.alive().filter_map(|id| Some((id, answered(self.wards.get(&id)?)))).collect();
        let spreads = cut_off.probed(id, host, reach, now, answers);
        self.cut_off = cut_off;
        if reach == Reach::Answered {
            self.tell_cut_off(false);
        }
        if spreads { self.alive().collect() } else { Vec::new() }
    }

    fn tells_of_network(&self, ward: &Ward) -> bool {
        self.all_here || !ward.endpoint.address.ip().is_loopback()
    }

    /// Endpoints that are probed, and believed to be alive.
    fn alive(&self) -> impl Iterator<Item = WardId> {
        let alive = |ward: &Ward| {
            let believed = matches!(ward.machine.health(), Health::Up | Health::Probing);
            believed && ward.machine.wants_probes() && self.tells_of_network(ward)
        };
        self.wards.iter().filter(move |(_, ward)| alive(ward)).map(|(id, _)| *id)
    }

    /// Finds out whether the prober is cut off; those that its probes have taken out since then, wrongly.
    pub(super) fn wronged(&mut self, now: Moment) -> Vec<WardId> {
        let reached = self.alive().filter(|id| !self.cut_off.is_unreached(*id)).count();
        let wards = &self.wards;
        let is = self.cut_off.is_cut_off(reached, now, |id| wards.get(&id).map_or(0, answered));
        if !self.tell_cut_off(is) || !is {
            return Vec::new();
        }
        let since = self.cut_off.since().unwrap_or(now);
        let wrongly = |(id, ward): &(&WardId, &Ward)| {
            self.cut_off.is_unreached(**id)
                && ward.since >= since
                && matches!(ward.cause, Cause::ProbeFailed(_))
                && !fails_traffic(ward, self.pools.get(&ward.pool))
        };
        self.wards.iter().filter(wrongly).map(|(id, _)| *id).collect()
    }

    /// Tells when the next probe is due, or was.
    pub(super) fn next_probe_due(&self, due: Option<Moment>) {
        self.crew.next_probe_due(due);
    }

    /// Whether a probe of it that reached nobody is not believed: nobody can be reached, and traffic does not fail there.
    pub(super) fn disbelieves(&self, id: WardId) -> bool {
        self.crew.probes_static.load(Relaxed)
            && self.wards.get(&id).is_some_and(|ward| !fails_traffic(ward, self.pools.get(&ward.pool)))
    }

    /// Says when it begins and when it is over; whether it just did.
    fn tell_cut_off(&self, is: bool) -> bool {
        let was = self.crew.probes_static.swap(is, Relaxed);
        match (was, is) {
            (false, true) => tracing::error!(
                event = events::PROBES,
                "probes reach nobody, and it is this machine that is cut off: endpoints keep their state until one answers"
            ),
            (true, false) if self.alive().next().is_none() => {
                tracing::info!(event = events::PROBES, "nobody is probed any more");
            }
            (true, false) => tracing::info!(event = events::PROBES, "probes are answered again"),
            _ => {}
        }
        was != is
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

/// Traffic has failed there as well: as many connects in a row as would eject it.
fn fails_traffic(ward: &Ward, kept: Option<&Kept>) -> bool {
    let most = kept.map_or(1, |kept| kept.rules.outlier.failures.max(1));
    ward.endpoint.failures_in_row.load(Relaxed) >= most
}

/// What it has answered to traffic so far.
fn answered(ward: &Ward) -> u64 {
    ward.endpoint.cells.sum(|row| row.answered.get().wrapping_add(row.received.packets.get()))
}

impl Kept {
    /// `before` gives its probe where the settings are the same, so that results under way still count.
    fn of(pool: &Arc<Pool>, before: Option<Kept>, now: Moment) -> Kept {
        let troubled = before.as_ref().is_some_and(|before| before.troubled);
        let told = before.as_ref().map_or((false, false), |before| before.told);
        let checker = pool.spec.probe.as_ref().and_then(|settings| {
            let same = before.and_then(|before| before.checker).filter(|checker| checker.settings == *settings);
            same.or_else(|| {
                // Settings only come from the catalogue's grammars, so the name is found.
                let probe = (probe::find(settings.name)?.build)(settings);
                Some(Rc::new(Checker { probe, pace: Pace::of(settings), settings: settings.clone() }))
            })
        });
        let rules = Rules {
            probe: checker.as_ref().map(|checker| checker.pace.rules),
            outlier: pool.spec.outlier,
            damping: pool.spec.damping,
        };
        let next_sample = (rules.outlier.error_percent > 0).then_some(now);
        Kept { pool: pool.clone(), rules, checker, paths: Vec::new(), troubled, told, next_sample }
    }

    /// Says when the pool begins and ends to panic, and when backups take over and give back.
    fn note_view(&mut self) {
        let view = self.pool.view();
        let now = (view.panic, view.backup);
        let before = std::mem::replace(&mut self.told, now);
        let (pool, serving) = (&*self.pool.spec.name, view.endpoints.len());
        let percent = self.pool.spec.placement.panic_percent;
        match (before.0, now.0) {
            (false, true) => {
                let cause = format!("fewer than {percent} % of its endpoints are usable");
                tracing::warn!(
                    event = events::POOL,
                    pool,
                    serving,
                    cause,
                    "pool panics: all serve that are not drained"
                );
            }
            (true, false) => tracing::info!(event = events::POOL, pool, serving, "pool panics no more"),
            _ => {}
        }
        match (before.1, now.1) {
            (false, true) => tracing::warn!(event = events::POOL, pool, serving, "backups serve: no primary is usable"),
            (true, false) => tracing::info!(event = events::POOL, pool, serving, "primaries serve again"),
            _ => {}
        }
    }
}
