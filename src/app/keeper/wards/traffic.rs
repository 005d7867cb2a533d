//! Wiring: what traffic tells of endpoints: what workers report, and what they have counted.

use std::sync::Arc;

use super::{Ward, WardId, Wards};
use crate::base::{Moment, PoolId};
use crate::health::{Excess, Health, Peers, Trouble, errors};
use crate::state::Endpoint;

impl Wards {
    /// The ward of an endpoint that a worker speaks of.
    pub(in crate::app::keeper) fn of(&self, pool: PoolId, endpoint: &Endpoint) -> Option<WardId> {
        self.by_address.get(&(pool, endpoint.address)).copied()
    }

    /// What the machine needs to know of trouble: whether the endpoint is on trial, and its peers; `None` where it could not
    /// matter.
    pub(in crate::app::keeper) fn troubled(&self, id: WardId, trouble: Trouble) -> Option<(bool, Peers)> {
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

    pub(super) fn peers(&self, of: &Ward) -> Option<Peers> {
        let kept = self.pools.get(&of.pool)?;
        let stay = kept.pool.endpoints.iter().zip(&kept.pool.spec.endpoints).filter(|(_, said)| !said.leaving);
        let others = stay.map(|(other, _)| other).filter(|other| !Arc::ptr_eq(other, &of.endpoint));
        Some(Peers::of(others.map(|other| other.status()).map(|status| (status.intent, status.health))))
    }

    /// The others of an endpoint's pool, where it is held down although its probes pass.
    pub(in crate::app::keeper) fn held_well(&self, id: WardId) -> Option<Peers> {
        let ward = self.wards.get(&id)?;
        if ward.machine.is_held_well() { self.peers(ward) } else { None }
    }

    /// Reads the counts of the pools whose time it is: whose endpoints fail too much.
    pub(in crate::app::keeper) fn sample(&mut self, now: Moment) -> Vec<(WardId, Excess)> {
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
}
