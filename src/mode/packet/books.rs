//! Engine: what the control side keeps of each packet service: which index each endpoint has, and its slots.
//!
//! It follows the pool's published view, so that health, intent and weights mean here what they mean in every mode: an endpoint
//! that drains gets no new flows and keeps those it has; one that is down, ejected or in maintenance loses them, as
//! `on_down` says; one that left the file is gone.
//!
//! Every picker fills the table: Maglev with its own, the others by being asked once for each slot. So a slot is all that a
//! packet needs, whatever the algorithm, and a change of members moves as many slots as the algorithm moves keys.
//!
//! Not here: addresses on the wire (`inputs`), and the threads that read the slots.

use std::net::IpAddr;
use std::sync::Arc;

use crate::balance::{self, Member, Pick, Tried, maglev};
use crate::base::{FlowHash, Moment, ServiceId};
use crate::flow::{Endpoints, NOBODY, Slots, Survey, slots::Changed};
use crate::health::{Health, Intent};
use crate::state::{Endpoint, PacketSpec, Pool, PoolView};

/// Which of a service's endpoints a table is of. A translation keeps the family, and a frame goes to who speaks its own, so a
/// service with both has a table for each; a tunnel may cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
    Any,
}

impl Family {
    /// The tables that a service needs.
    pub fn all_of(spec: &PacketSpec) -> &'static [Family] {
        if spec.forward.is_tunnel() { &[Family::Any] } else { &[Family::V4, Family::V6] }
    }

    pub fn holds(self, address: IpAddr) -> bool {
        match self {
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
            Family::Any => true,
        }
    }
}

/// One service's book, of one family where it matters.
pub struct Book {
    service: ServiceId,
    family: Family,
    spec: PacketSpec,
    endpoints: Endpoints,
    slots: Arc<Slots>,
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
        Book { service, family, spec: spec.clone(), endpoints, slots, members, followed }
    }

    /// Follows the pool. `None`: nothing has changed.
    pub fn follow(&mut self, spec: &PacketSpec, pool: &Pool, now: Moment) -> Option<Changed> {
        let view = pool.view().clone();
        if Arc::ptr_eq(&view, &self.followed) && *spec == self.spec {
            return None;
        }
        if spec.slots != self.spec.slots || spec.policy != self.spec.policy || spec.pool != self.spec.pool {
            // A table of another size, or other endpoints altogether: there is nothing to be in transition from.
            *self = Book::open(self.service, self.family, spec, pool);
            return Some(Changed { moved: self.slots.len(), marked: 0 });
        }
        self.spec = spec.clone();
        join(&mut self.endpoints, &mut self.members, self.family, pool, &view);
        let current = table(self.family, pool, &view, &self.endpoints, spec.slots);
        let mut slots = Slots::clone(&self.slots);
        let changed = slots.change(&current, &self.endpoints, now);
        self.slots = Arc::new(slots);
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

    pub fn spec(&self) -> &PacketSpec {
        &self.spec
    }

    /// By the index that slots name them by.
    pub fn members(&self) -> &[Option<Arc<Endpoint>>] {
        &self.members
    }
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

/// The picker whose table is the slots themselves.
const MAGLEV: &str = "maglev";
/// Sets the random bits of a slot apart from other uses of the key ("slot").
const ENTROPY: u64 = 0x736c_6f74;
