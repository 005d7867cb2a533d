//! Wiring: endpoints that have just come up, and get their share little by little.

use super::{Ward, WardId, Wards};
use crate::base::Moment;
use crate::health::{Intent, Warming, Warmth};
use crate::state::Status;

impl Wards {
    /// An endpoint that has just come up warms, where there is a slow start and somebody who is warm: with what it
    /// begins, for the caller to put into force.
    pub(super) fn welcome(&mut self, id: WardId, now: Moment) -> Option<Warmth> {
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
    pub(in crate::app::keeper) fn warm(&mut self, now: Moment) {
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
}
