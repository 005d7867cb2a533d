//! Engine: a part of the translated flows, and the order in which those of them may go that have proven nothing.
//!
//! Who forges packets can make any number of such flows, so they have a part of the room, and there a new one takes the place of
//! the one whose client has been silent for longest, as in the SYN cache of the BSDs. A client who is there answers back within a
//! round trip; a flood has to fill all of that part in this time to be in its way, and when it ends nothing of it is.
//!
//! The order is a list through the bindings, so that all of this costs a packet of a proven flow nothing.
//! Not here: ways back and ports (`nat`).

use super::bound::{Bound, Side};
use super::{Binding, FlowKey, Kind};
use crate::base::{Moment, ServiceId, limits};
use crate::flow::table::Table;

pub(super) struct Shard {
    pub(super) table: Table<Bound>,
    /// Those that have proven nothing, and the first and last of them.
    soft: usize,
    soft_capacity: usize,
    oldest: u32,
    newest: u32,
    /// Those of them that went for others to come.
    evicted: u64,
}

/// The flows before and after one that has proven nothing, by their places.
#[derive(Clone, Copy)]
pub(super) struct Beside {
    older: u32,
    newer: u32,
}

impl Beside {
    pub(super) const NOBODY: Beside = Beside { older: NONE, newer: NONE };
}

impl Shard {
    pub(super) fn new(capacity: usize) -> Shard {
        let table = Table::new(capacity);
        let soft_capacity = table.capacity().div_ceil(limits::FLOW_UNPROVEN_SHARE);
        Shard { table, soft: 0, soft_capacity, oldest: NONE, newest: NONE, evicted: 0 }
    }

    pub(super) fn soft(&self) -> usize {
        self.soft
    }

    pub(super) fn soft_capacity(&self) -> usize {
        self.soft_capacity
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn find(&self, tag: u32, service: ServiceId, inside: &FlowKey) -> Option<usize> {
        self.table.find(tag, |bound| bound.binding.inside == *inside && bound.binding.service == service)
    }

    /// The binding at a place after a packet of it, `None` if it has expired.
    pub(super) fn packet(&mut self, place: usize, kind: Kind, side: Side, now: Moment) -> Option<Binding> {
        let bound = self.table.get_mut(place).filter(|bound| bound.expires >= now)?;
        let (was_soft, until) = (bound.is_soft(), bound.expires);
        bound.packet(kind, side, now);
        let (is_soft, binding) = (bound.is_soft(), bound.binding);
        // What endpoints say is no sign of a client.
        let spoke = is_soft && side == Side::Client && bound.expires != until;
        if was_soft && (!is_soft || spoke) {
            self.unlink(place);
        }
        if is_soft && (!was_soft || spoke) {
            self.link(place);
        }
        Some(binding)
    }

    /// Puts in a flow that has proven nothing.
    pub(super) fn insert(&mut self, bound: Bound) -> Option<usize> {
        let place = self.table.insert(bound)?;
        self.link(place);
        Some(place)
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<Bound> {
        if self.table.get(place)?.is_soft() {
            self.unlink(place);
        }
        self.table.remove(place)
    }

    /// The place of a flow that has to go before another one can come, `Err` if there is none that may.
    pub(super) fn in_the_way(&mut self, now: Moment) -> Result<Option<usize>, ()> {
        let oldest = || self.oldest_of(|_| true).ok_or(());
        if self.soft >= self.soft_capacity {
            return oldest().map(Some);
        }
        if !self.table.is_full() {
            return Ok(None);
        }
        let oldest = oldest();
        let expired = self.table.hunt(limits::FLOW_RECLAIM, |bound| bound.expires < now);
        expired.map_or(oldest, Ok).map(Some)
    }

    /// The place of the one among the oldest that have proven nothing that `fits`.
    pub(super) fn oldest_of(&self, fits: impl Fn(&Bound) -> bool) -> Option<usize> {
        let mut place = self.oldest;
        for _ in 0..limits::FLOW_RECLAIM {
            let bound = self.table.get(place as usize)?;
            if fits(bound) {
                return Some(place as usize);
            }
            place = bound.beside.newer;
        }
        None
    }

    /// Counts a flow that goes before its time.
    pub(super) fn note_evicted(&mut self, bound: &Bound, now: Moment) {
        self.evicted = self.evicted.saturating_add(u64::from(bound.expires >= now));
    }

    /// Puts a place at the end of the order.
    fn link(&mut self, place: usize) {
        let Ok(own) = u32::try_from(place) else { return };
        let last = self.newest;
        if let Some(bound) = self.table.get_mut(place) {
            bound.beside = Beside { older: last, newer: NONE };
        }
        match self.table.get_mut(last as usize) {
            Some(bound) => bound.beside.newer = own,
            None => self.oldest = own,
        }
        self.newest = own;
        self.soft = self.soft.saturating_add(1);
    }

    fn unlink(&mut self, place: usize) {
        let Some(Beside { older, newer }) = self.table.get(place).map(|bound| bound.beside) else { return };
        match self.table.get_mut(older as usize) {
            Some(bound) => bound.beside.newer = newer,
            None => self.oldest = newer,
        }
        match self.table.get_mut(newer as usize) {
            Some(bound) => bound.beside.older = older,
            None => self.newest = older,
        }
        self.soft = self.soft.saturating_sub(1);
    }
}

/// No place: a table has fewer.
const NONE: u32 = u32::MAX;

#[cfg(test)]
impl Shard {
    /// Panics where the order is not that of exactly those that have proven nothing.
    pub(super) fn check(&self) {
        let (mut place, mut older, mut count) = (self.oldest, NONE, 0);
        while let Some(bound) = self.table.get(place as usize) {
            assert!(bound.is_soft() && bound.beside.older == older);
            (older, place, count) = (place, bound.beside.newer, count + 1);
        }
        let soft = (0..self.table.places()).filter_map(|at| self.table.get(at)).filter(|bound| bound.is_soft()).count();
        assert_eq!((place, older, count, self.soft), (NONE, self.newest, soft, soft));
        assert!(soft <= self.soft_capacity);
    }
}
