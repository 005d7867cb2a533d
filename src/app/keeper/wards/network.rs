//! Wiring: what probes tell of the network, over all endpoints: whether it is the prober that is cut off.

use std::sync::atomic::Ordering::Relaxed;

use super::{Kept, Ward, WardId, Wards};
use crate::base::Moment;
use crate::health::{Cause, Health, Reach};
use crate::observe::events;

impl Wards {
    /// Where nobody is left whose probes could tell that it is over, it is.
    pub(super) fn end_doubt(&self) {
        if self.cut_off.since().is_none() {
            self.tell_cut_off(false);
        }
    }

    /// Takes note of how far a probe came. Whose probes should be made at once, because this may be the prober's trouble.
    pub(in crate::app::keeper) fn reached(&mut self, id: WardId, reach: Reach, now: Moment) -> Vec<WardId> {
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

    pub(super) fn tells_of_network(&self, ward: &Ward) -> bool {
        self.all_here || !ward.endpoint.address.ip().is_loopback()
    }

    /// Endpoints that are probed, and believed to be alive.
    pub(super) fn alive(&self) -> impl Iterator<Item = WardId> {
        let alive = |ward: &Ward| {
            let believed = matches!(ward.machine.health(), Health::Up | Health::Probing);
            believed && ward.machine.wants_probes() && self.tells_of_network(ward)
        };
        self.wards.iter().filter(move |(_, ward)| alive(ward)).map(|(id, _)| *id)
    }

    /// Finds out whether the prober is cut off; those that its probes have taken out since then, wrongly.
    pub(in crate::app::keeper) fn wronged(&mut self, now: Moment) -> Vec<WardId> {
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

    /// Whether a probe of it that reached nobody is not believed: nobody can be reached, and traffic does not fail there.
    pub(in crate::app::keeper) fn disbelieves(&self, id: WardId) -> bool {
        self.crew.probes_static.load(Relaxed)
            && self.wards.get(&id).is_some_and(|ward| !fails_traffic(ward, self.pools.get(&ward.pool)))
    }

    /// Says when it begins and when it is over; whether it just did.
    pub(super) fn tell_cut_off(&self, is: bool) -> bool {
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
