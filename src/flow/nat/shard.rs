//! Engine: a part of the translated flows, and the order in which those of them may go before their time that need not stay.
//!
//! **What has proven nothing.** Who forges packets can make any number of such flows, so they have a part of the room, and there a
//! new one takes the place of the one whose client has been silent for longest, as in the SYN cache of the BSDs. A client who is there
//! answers back within a round trip; a flood has to fill all of that part in this time to be in its way, and when it ends nothing of
//! it is.
//!
//! **Datagrams that were answered.** They prove little, and yet most are of somebody who is there. They may have all the room that is
//! free, and make way where there is none: up to a share of it last of all, and beyond that like the others.
//!
//! **What closes.** Its end is awaited for two minutes, which would be the most connections a second that one table or one address
//! could have: 1000 and 500. So where there is no room it goes as well, as it does in Linux's NAT (`nf_nat_used_tuple_harder`).
//!
//! The orders are lists through the bindings, so that all of this costs a packet of a connection that lives nothing. Flows with a
//! port of one pool have one of their own: whoever needs a port finds the next one at once, whatever else a flood is made of.
//! Not here: ways back and ports (`nat`).

use super::bound::{Bound, Class, Side};
use super::{Binding, FlowKey, Kind};
use crate::base::{Moment, ServiceId, limits};
use crate::flow::ports::POOLS;
use crate::flow::table::Table;

pub(super) struct Shard {
    pub(super) table: Table<Bound>,
    unproven: Orders,
    unproven_capacity: usize,
    datagrams: Orders,
    datagram_share: usize,
    closing: Orders,
    /// Those that had proven nothing, or little, and went for others to come.
    evicted: u64,
}

/// Flows of one class: those without a port, and those with one of each pool.
struct Orders {
    of: Box<[Order]>,
    len: usize,
}

/// Flows from the one that has been silent for longest on, by their places.
#[derive(Clone, Copy)]
struct Order {
    oldest: u32,
    newest: u32,
}

/// Whether a flow may go.
pub(super) enum Fit {
    Goes,
    /// Perhaps the one after it.
    Next,
    /// None of this order.
    Never,
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
        let datagram_share = table.capacity().div_ceil(limits::NAT_DATAGRAM_SHARE);
        let [unproven, datagrams, closing] = [(); 3].map(|()| Orders::new());
        Shard { table, unproven, unproven_capacity, datagrams, datagram_share, closing, evicted: 0 }
    }

    pub(super) fn places(&self) -> usize {
        self.table.places()
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

    /// Puts in a flow that begins.
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
            return self.first(Class::Unproven, &|_| Fit::Goes).map(Some).ok_or(());
        }
        if !self.table.is_full() {
            return Ok(None);
        }
        let expired = self.table.hunt(limits::FLOW_RECLAIM, |bound| bound.expires < now);
        expired.or_else(|| self.silent_for_longest(|_| Fit::Goes)).map(Some).ok_or(())
    }

    /// The place of a flow that may go and `fits`.
    pub(super) fn silent_for_longest(&self, fits: impl Fn(&Bound) -> Fit) -> Option<usize> {
        let others = [Class::Unproven, Class::Closing].into_iter().filter_map(|class| self.first(class, &fits));
        let found = others.min_by_key(|place| self.heard(*place));
        if found.is_some() && self.datagrams.len < self.datagram_share {
            return found;
        }
        found.into_iter().chain(self.first(Class::Datagram, &fits)).min_by_key(|place| self.heard(*place))
    }

    /// The place of the flow of a class that `fits` and has been silent for longest.
    fn first(&self, class: Class, fits: &impl Fn(&Bound) -> Fit) -> Option<usize> {
        let found = self.orders(class).of.iter().filter_map(|order| self.first_of(order, fits));
        found.min_by_key(|place| self.heard(*place))
    }

    fn first_of(&self, order: &Order, fits: &impl Fn(&Bound) -> Fit) -> Option<usize> {
        let mut place = order.oldest;
        for _ in 0..limits::FLOW_RECLAIM {
            let bound = self.table.get(place as usize)?;
            match fits(bound) {
                Fit::Goes => return Some(place as usize),
                Fit::Next => place = bound.beside.newer,
                Fit::Never => return None,
            }
        }
        None
    }

    fn heard(&self, place: usize) -> Option<Moment> {
        self.table.get(place).map(|bound| bound.heard)
    }

    /// Counts a flow that goes before its time, unless that is over already.
    pub(super) fn note_evicted(&mut self, bound: &Bound, now: Moment) {
        let early = matches!(bound.class(), Some(Class::Unproven | Class::Datagram)) && bound.expires >= now;
        self.evicted = self.evicted.saturating_add(u64::from(early));
    }

    /// Puts a place at the end of an order.
    fn link(&mut self, class: Class, place: usize) {
        let (Ok(own), Some(bound)) = (u32::try_from(place), self.table.get(place)) else { return };
        let pool = pool_of(bound);
        let mut order = self.order(class, pool);
        if let Some(bound) = self.table.get_mut(place) {
            bound.beside = Beside { older: order.newest, newer: NONE };
        }
        match self.table.get_mut(order.newest as usize) {
            Some(bound) => bound.beside.newer = own,
            None => order.oldest = own,
        }
        order.newest = own;
        let orders = self.orders_mut(class);
        orders.put(pool, order);
        orders.len = orders.len.saturating_add(1);
    }

    fn unlink(&mut self, class: Class, place: usize) {
        let Some((Beside { older, newer }, pool)) = self.table.get(place).map(|bound| (bound.beside, pool_of(bound)))
        else {
            return;
        };
        let mut order = self.order(class, pool);
        match self.table.get_mut(older as usize) {
            Some(bound) => bound.beside.newer = newer,
            None => order.oldest = newer,
        }
        match self.table.get_mut(newer as usize) {
            Some(bound) => bound.beside.older = older,
            None => order.newest = older,
        }
        let orders = self.orders_mut(class);
        orders.put(pool, order);
        orders.len = orders.len.saturating_sub(1);
    }

    fn order(&self, class: Class, pool: usize) -> Order {
        self.orders(class).of.get(pool).copied().unwrap_or(Order::EMPTY)
    }

    const fn orders(&self, class: Class) -> &Orders {
        match class {
            Class::Unproven => &self.unproven,
            Class::Datagram => &self.datagrams,
            Class::Closing => &self.closing,
        }
    }

    const fn orders_mut(&mut self, class: Class) -> &mut Orders {
        match class {
            Class::Unproven => &mut self.unproven,
            Class::Datagram => &mut self.datagrams,
            Class::Closing => &mut self.closing,
        }
    }
}

impl Orders {
    fn new() -> Orders {
        // The last one is of those without a port.
        Orders { of: vec![Order::EMPTY; POOLS.saturating_add(1)].into(), len: 0 }
    }

    fn put(&mut self, pool: usize, order: Order) {
        if let Some(place) = self.of.get_mut(pool) {
            *place = order;
        }
    }
}

impl Order {
    const EMPTY: Order = Order { oldest: NONE, newest: NONE };
}

fn pool_of(bound: &Bound) -> usize {
    bound.pool().unwrap_or(POOLS)
}

/// No place: a table has fewer.
const NONE: u32 = u32::MAX;

#[cfg(test)]
impl Shard {
    /// Panics where an order is not that of exactly its class, in the order in which they were heard.
    pub(super) fn check(&self) {
        for class in [Class::Unproven, Class::Datagram, Class::Closing] {
            let mut count = 0;
            for (pool, order) in self.orders(class).of.iter().enumerate() {
                let (mut place, mut older, mut heard) = (order.oldest, NONE, Moment::ZERO);
                while let Some(bound) = self.table.get(place as usize) {
                    assert!(bound.class() == Some(class) && pool_of(bound) == pool);
                    assert!(bound.beside.older == older && bound.heard >= heard);
                    (older, place, count, heard) = (place, bound.beside.newer, count + 1, bound.heard);
                }
                assert_eq!((place, older), (NONE, order.newest), "{class:?}");
            }
            let all = (0..self.table.places()).filter_map(|at| self.table.get(at));
            let of_class = all.filter(|bound| bound.class() == Some(class)).count();
            assert_eq!((count, self.orders(class).len), (of_class, of_class), "{class:?}");
        }
        assert!(self.unproven.len <= self.unproven_capacity);
    }
}
