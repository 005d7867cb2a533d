//! Engine: what the control side keeps of each packet service: which index each endpoint has, and its slots.
//!
//! It follows the pool's published view, so that health, intent and weights mean here what they mean in every mode: an endpoint
//! that drains gets no new flows and keeps those it has; one that is down, ejected or in maintenance loses them, as
//! `on_down` says; one that left the file is gone.
//!
//! A reload is followed in the same way. Another pool is endpoints that left and others that joined; indices stay whose they are, with
//! their generations, for flows that are recorded or translated know their endpoints by these alone.
//!
//! Every picker fills the table: Maglev with its own, the others by being asked once for each slot. So a slot is all that a
//! packet needs, whatever the algorithm, and a change of members moves as many slots as the algorithm moves keys.
//!
//! Not here: addresses on the wire (`inputs`), and the threads that read the slots.

use std::collections::HashMap;
use std::sync::Arc;

use crate::balance::{self, Member, Pick, Tried, maglev};
use crate::base::{FlowHash, HashKey, Moment, ServiceId};
use crate::flow::{Endpoints, NOBODY, Records, Slots, Survey, records::Seen, slots::Changed};
use crate::health::{Health, Intent};
use crate::state::{Endpoint, Family, PacketSpec, Pool, PoolView};

/// One service's book, of one family where it matters.
pub struct Book {
    service: ServiceId,
    family: Family,
    spec: PacketSpec,
    /// What keys were hashed with.
    key: HashKey,
    endpoints: Endpoints,
    slots: Arc<Slots>,
    /// Of which endpoint each slot names, by what all nodes know it by.
    fingerprint: u64,
    /// By the index that slots name them by.
    members: Vec<Option<Arc<Endpoint>>>,
    /// The view that the slots follow. Held, so that another cannot take its place in memory.
    followed: Arc<PoolView>,
}

impl Book {
    /// A book whose slots are those of the pool as it is: nothing is in transition.
    pub fn open(service: ServiceId, family: Family, spec: &PacketSpec, pool: &Pool) -> Book {
        let mut endpoints = Endpoints::new(spec.policy);
        let mut members = Vec::new();
        let followed = pool.view().clone();
        join(&mut endpoints, &mut members, family, pool, &followed);
        let current = table(family, pool, &followed, &endpoints, spec.slots);
        let slots = Arc::new(Slots::new(&current, &endpoints));
        let key = pool.hash_key();
        let fingerprint = fingerprint(&current, &members, key);
        Book { service, family, spec: spec.clone(), key, endpoints, slots, fingerprint, members, followed }
    }

    /// Whether the table begins anew to follow these: every flow's slot is another one. What the service has recorded by then means
    /// nothing, and workers record more by the table before, so it is forgotten when the new one is in force.
    pub fn begins_anew(&self, spec: &PacketSpec, pool: &Pool) -> bool {
        spec.slots != self.spec.slots || spec.hash_by != self.spec.hash_by || pool.hash_key() != self.key
    }

    /// Follows the pool. `None`: nothing has changed. Before it, [`void`] what is recorded.
    pub fn follow(&mut self, spec: &PacketSpec, pool: &Pool, now: Moment) -> Option<Changed> {
        let view = pool.view().clone();
        if Arc::ptr_eq(&view, &self.followed) && *spec == self.spec {
            return None;
        }
        let anew = self.begins_anew(spec, pool);
        join(&mut self.endpoints, &mut self.members, self.family, pool, &view);
        // Who is back by now was kept, and so were its flows.
        self.endpoints.set_policy(spec.policy);
        let current = table(self.family, pool, &view, &self.endpoints, spec.slots);
        let (slots, changed) = if anew {
            // No slot has the flows that it had: there is nothing to be in transition from.
            (Slots::new(&current, &self.endpoints), Changed { moved: current.len(), marked: 0 })
        } else {
            let mut slots = Slots::clone(&self.slots);
            let changed = slots.change(&current, &self.endpoints, now);
            (slots, changed)
        };
        (self.spec, self.key, self.slots) = (spec.clone(), pool.hash_key(), Arc::new(slots));
        self.fingerprint = fingerprint(&current, &self.members, self.key);
        self.followed = view;
        Some(changed)
    }

    /// Lets go of the slots in which nothing is in transition any more; how many.
    pub fn settle(&mut self, survey: &Survey) -> usize {
        if self.slots.marked() == 0 {
            return 0;
        }
        let mut slots = Slots::clone(&self.slots);
        let settled = slots.unmark(survey);
        if settled > 0 {
            self.slots = Arc::new(slots);
        }
        settled
    }

    pub fn service(&self) -> ServiceId {
        self.service
    }

    pub fn family(&self) -> Family {
        self.family
    }

    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Equal on nodes whose tables send every flow to the same endpoint, whatever became of endpoints before. A slot in
    /// transition counts as what it names now (`strata_slots_fingerprint`).
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub fn spec(&self) -> &PacketSpec {
        &self.spec
    }

    /// By the index that slots name them by.
    pub fn members(&self) -> &[Option<Arc<Endpoint>>] {
        &self.members
    }
}

/// Has `records` forget what other policies leave without a meaning, in one look at them for all these books: those that are to follow
/// such a specification.
pub fn void<'b>(reloads: impl IntoIterator<Item = (&'b Book, &'b PacketSpec)>, records: &Records) {
    let mut services: HashMap<ServiceId, Vec<(&Book, &PacketSpec)>> = HashMap::new();
    for (book, spec) in reloads.into_iter().filter(|(book, spec)| book.slots.voids_some(&spec.policy)) {
        services.entry(book.service).or_default().push((book, spec));
    }
    if services.is_empty() {
        return;
    }
    let is_void = |seen: &Seen, (book, spec): &(&Book, &PacketSpec)| {
        book.family.holds(seen.key.source().ip()) && book.slots.voids(seen, &spec.policy)
    };
    records
        .forget(|seen| services.get(&seen.service).is_some_and(|books| books.iter().any(|book| is_void(seen, book))));
}

/// Brings indices, standings and members to what the pool and its view say.
fn join(
    endpoints: &mut Endpoints,
    members: &mut Vec<Option<Arc<Endpoint>>>,
    family: Family,
    pool: &Pool,
    view: &PoolView,
) {
    for member in members.iter_mut() {
        if let Some(gone) = member
            && !pool.endpoints.iter().any(|endpoint| endpoint.identity == gone.identity)
        {
            endpoints.remove(gone.identity);
            *member = None;
        }
    }
    for endpoint in pool.endpoints.iter().filter(|endpoint| family.holds(endpoint.address.ip())) {
        let Some(index) = endpoints.join(endpoint.identity) else {
            // The file has at most as many endpoints as there are indices, and those of removed ones are free.
            continue;
        };
        let place = usize::from(index);
        if members.len() <= place {
            members.resize(place + 1, None);
        }
        members[place] = Some(endpoint.clone());
        if view.members.iter().any(|member| member.identity == endpoint.identity) || !is_lost(endpoint) {
            endpoints.returned(index);
        } else {
            endpoints.died(index);
        }
    }
}

/// Whether flows must not follow the endpoint any more.
fn is_lost(endpoint: &Endpoint) -> bool {
    let status = endpoint.status();
    status.intent == Intent::Maintenance || matches!(status.health, Health::Down | Health::Ejected)
}

/// An endpoint's index for each slot.
fn table(family: Family, pool: &Pool, view: &PoolView, endpoints: &Endpoints, slots: usize) -> Vec<u16> {
    let ours = view.members.iter().zip(&view.endpoints).filter(|(_, endpoint)| family.holds(endpoint.address.ip()));
    let members: Vec<Member> = ours.map(|(member, _)| member.clone()).collect();
    if members.is_empty() {
        return vec![NOBODY; slots];
    }
    let index: Vec<u16> = members.iter().map(|member| endpoints.find(member.identity).unwrap_or(NOBODY)).collect();
    let at = |member: usize| index.get(member).copied().unwrap_or(NOBODY);
    let (settings, key) = (&pool.spec.balance, pool.hash_key());
    if settings.name == MAGLEV {
        let table = maglev::Table::build(&members, key, slots);
        return table.slots().iter().map(|member| at(usize::from(*member))).collect();
    }
    // Settings only come from the catalogue's grammars, so the name is found.
    let algorithm = balance::find(settings.name).unwrap_or(&balance::CATALOG[0]);
    let picker = (algorithm.build)(settings, &members, key);
    let tried = Tried::new();
    (0..slots as u64)
        .map(|slot| {
            // The middle of what falls into the slot, so that pickers that hash see keys spread as clients' are.
            let hash = FlowHash(((slot << 32) + (1 << 31)) / slots as u64 * (1 << 32));
            let pick = Pick { hash, now: Moment::ZERO, entropy: key.mix(slot, ENTROPY), tried: &tried };
            picker.pick(&members, &pick).map_or(NOBODY, at)
        })
        .collect()
}

/// A hash of the table with its endpoints' ranks in place of their indices, which depend on who came when.
fn fingerprint(current: &[u16], members: &[Option<Arc<Endpoint>>], key: HashKey) -> u64 {
    let mut named = vec![false; members.len()];
    for slot in current {
        if let Some(named) = named.get_mut(usize::from(*slot)) {
            *named = true;
        }
    }
    let named = members.iter().enumerate().filter(|(index, _)| named[*index]);
    let mut order: Vec<(u64, usize)> = named.filter_map(|(index, m)| Some((m.as_ref()?.identity, index))).collect();
    order.sort_unstable();
    let mut ranks = vec![NOBODY; members.len()];
    for (rank, (_, index)) in (0_u16..).zip(&order) {
        ranks[*index] = rank;
    }
    let rank = |slot: &u16| ranks.get(usize::from(*slot)).copied().unwrap_or(NOBODY);
    let identities = order.iter().flat_map(|(identity, _)| identity.to_le_bytes());
    let bytes: Vec<u8> = identities.chain(current.iter().flat_map(|slot| rank(slot).to_le_bytes())).collect();
    key.hash(&bytes)
}

/// The picker whose table is the slots themselves.
const MAGLEV: &str = "maglev";
/// Sets the random bits of a slot apart from other uses of the key ("slot").
const ENTROPY: u64 = 0x736c_6f74;

#[cfg(test)]
mod tests;
