//! Wiring: who is probed, how and by which ways, and what is said of probes that cannot be made.

use std::rc::Rc;
use std::time::Duration;

use super::{Checker, Ward, WardId, Wards};
use crate::base::{Moment, limits};
use crate::health::{Health, Schedule, Start, Transition, Why};
use crate::observe::events;
use crate::seam::probe::{Aim, Failure, goes_through};
use crate::seam::through::{Passage, Path};

impl Wards {
    /// How to probe an endpoint, and by which ways: none where no VIP leads to it.
    pub(in crate::app::keeper) fn checker(&self, id: WardId) -> Option<(Rc<Checker>, Vec<Aim>)> {
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

    pub(super) fn interval(&self, id: WardId) -> Option<Duration> {
        let kept = self.pools.get(&self.wards.get(&id)?.pool)?;
        Some(kept.checker.as_ref()?.pace.interval)
    }

    pub(super) fn wants_probes(&self, id: WardId) -> bool {
        self.wards.get(&id).is_some_and(|ward| ward.machine.wants_probes())
    }

    /// What a transition means for the probe.
    pub(in crate::app::keeper) fn follow(
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

    pub(super) fn stop_probing(&mut self, id: WardId, schedule: &mut Schedule<WardId>) {
        schedule.remove(id);
        self.cut_off.forget(id);
    }

    /// Counts a probe, and says so when none can be made. False: it was made by a probe that the pool has no more, and says
    /// nothing.
    pub(in crate::app::keeper) fn count_probe(
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
    pub(super) fn note_trouble(&mut self, id: WardId, trouble: Option<Why>) {
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

    /// Tells when the next probe is due, or was.
    pub(in crate::app::keeper) fn next_probe_due(&self, due: Option<Moment>) {
        self.crew.next_probe_due(due);
    }
}
