//! Engine: a part of the translated flows, and the order in which those of them may go before their time that need not stay.
//!
//! **What has proven nothing.** Who forges packets can make any number of such flows, so they have a part of the room, and there a
//! new one takes the place of the one whose client has been silent for longest, as in the SYN cache of the BSDs. A client who is there
//! answers back within a round trip; a flood has to fill all of that part in this time to be in its way, and when it ends nothing of
//! it is.
//!
//! **What closes.** Its end is awaited for two minutes, which would be the most connections a second that one table or one address
//! could have: 1000 and 500. So where there is no room it goes as well, as it does in Linux's NAT (`nf_nat_used_tuple_harder`).
//!
//! The orders are lists through the bindings, so that all of this costs a packet of a flow that lives nothing.
//! Not here: ways back and ports (`nat`).

use super::bound::{Bound, Class, Side};
use super::{Binding, FlowKey, Kind};
use crate::base::{Moment, ServiceId, limits};
use crate::flow::table::Table;

pub(super) struct Shard {
    pub(super) table: Table<Bound>,
    unproven: Order,
    unproven_capacity: usize,
    closing: Order,
    /// Those that had proven nothing and went for others to come.
    evicted: u64,
}

/// Flows of one class from the one that has been silent for longest on, by their places.
#[derive(Debug)]
struct Order {
    oldest: u32,
    newest: u32,
    len: usize,
}

/// Those before and after one in its order.
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
        let unproven_capacity = table.capacity().div_ceil(limits::FLOW_UNPROVEN_SHARE);
        Shard { table, unproven: Order::EMPTY, unproven_capacity, closing: Order::EMPTY, evicted: 0 }
    }

    pub(super) fn unproven(&self) -> usize {
        self.unproven.len
    }

    pub(super) fn unproven_capacity(&self) -> usize {
        self.unproven_capacity
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
        let (before, until) = (bound.class(), bound.expires);
        bound.packet(kind, side, now);
        let (after, binding) = (bound.class(), bound.binding);
        // What endpoints say is no sign of a client.
        let spoke = bound.expires != until && (side == Side::Client || after == Some(Class::Closing));
        if spoke {
            bound.heard = now;
        }
        if before != after || spoke {
            before.inspect(|class| self.unlink(*class, place));
            after.inspect(|class| self.link(*class, place));
        }
        Some(binding)
    }

    /// Puts in a flow that has proven nothing.
    pub(super) fn insert(&mut self, bound: Bound) -> Option<usize> {
        let class = bound.class();
        let place = self.table.insert(bound)?;
        class.inspect(|class| self.link(*class, place));
        Some(place)
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<Bound> {
        self.table.get(place)?.class().inspect(|class| self.unlink(*class, place));
        self.table.remove(place)
    }

    /// The place of a flow that has to go before another one can come, `Err` if there is none that may.
    pub(super) fn in_the_way(&mut self, now: Moment) -> Result<Option<usize>, ()> {
        if self.unproven.len >= self.unproven_capacity {
            return self.first(Class::Unproven, |_| true).map(Some).ok_or(());
        }
        if !self.table.is_full() {
            return Ok(None);
        }
        let expired = self.table.hunt(limits::FLOW_RECLAIM, |bound| bound.expires < now);
        expired.or_else(|| self.silent_for_longest(|_| true)).map(Some).ok_or(())
    }

    /// The place of a flow that may go and `fits`.
    pub(super) fn silent_for_longest(&self, fits: impl Fn(&Bound) -> bool) -> Option<usize> {
        let found = [Class::Unproven, Class::Closing].into_iter().filter_map(|class| self.first(class, &fits));
        found.min_by_key(|place| self.table.get(*place).map(|bound| bound.heard))
    }

    /// The place of the one among the first in its order that `fits`.
    fn first(&self, class: Class, fits: impl Fn(&Bound) -> bool) -> Option<usize> {
        let mut place = self.order(class).oldest;
        for _ in 0..limits::FLOW_RECLAIM {
            let bound = self.table.get(place as usize)?;
            if fits(bound) {
                return Some(place as usize);
            }
            place = bound.beside.newer;
        }
        None
    }

    /// Counts a flow that goes before its time, if it has proven nothing.
    pub(super) fn note_evicted(&mut self, bound: &Bound, now: Moment) {
        let early = bound.class() == Some(Class::Unproven) && bound.expires >= now;
        self.evicted = self.evicted.saturating_add(u64::from(early));
    }

    /// Puts a place at the end of an order.
    fn link(&mut self, class: Class, place: usize) {
        let Ok(own) = u32::try_from(place) else { return };
        let last = self.order(class).newest;
        if let Some(bound) = self.table.get_mut(place) {
            bound.beside = Beside { older: last, newer: NONE };
        }
        match self.table.get_mut(last as usize) {
            Some(bound) => bound.beside.newer = own,
            None => self.order_mut(class).oldest = own,
        }
        let order = self.order_mut(class);
        order.newest = own;
        order.len = order.len.saturating_add(1);
    }

    fn unlink(&mut self, class: Class, place: usize) {
        let Some(Beside { older, newer }) = self.table.get(place).map(|bound| bound.beside) else { return };
        match self.table.get_mut(older as usize) {
            Some(bound) => bound.beside.newer = newer,
            None => self.order_mut(class).oldest = newer,
        }
        match self.table.get_mut(newer as usize) {
            Some(bound) => bound.beside.older = older,
            None => self.order_mut(class).newest = older,
        }
        let order = self.order_mut(class);
        order.len = order.len.saturating_sub(1);
    }

    const fn order(&self, class: Class) -> &Order {
        match class {
            Class::Unproven => &self.unproven,
            Class::Closing => &self.closing,
        }
    }

    const fn order_mut(&mut self, class: Class) -> &mut Order {
        match class {
            Class::Unproven => &mut self.unproven,
            Class::Closing => &mut self.closing,
        }
    }
}

impl Order {
    const EMPTY: Order = Order { oldest: NONE, newest: NONE, len: 0 };
}

/// No place: a table has fewer.
const NONE: u32 = u32::MAX;

#[cfg(test)]
impl Shard {
    /// Panics where an order is not that of exactly its class, in the order in which they were heard.
    pub(super) fn check(&self) {
        for class in [Class::Unproven, Class::Closing] {
            let order = self.order(class);
            let (mut place, mut older, mut count, mut heard) = (order.oldest, NONE, 0, Moment::ZERO);
            while let Some(bound) = self.table.get(place as usize) {
                assert!(bound.class() == Some(class) && bound.beside.older == older && bound.heard >= heard);
                (older, place, count, heard) = (place, bound.beside.newer, count + 1, bound.heard);
            }
            let all = (0..self.table.places()).filter_map(|at| self.table.get(at));
            let of_class = all.filter(|bound| bound.class() == Some(class)).count();
            assert_eq!((place, older, count, order.len), (NONE, order.newest, of_class, of_class), "{class:?}");
        }
        assert!(self.unproven.len <= self.unproven_capacity);
    }
}
