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

use std::sync::Arc;

use crate::balance::{self, Member, Pick, Tried, maglev};
use crate::base::{FlowHash, HashKey, Moment, ServiceId};
use crate::flow::{Endpoints, NOBODY, Slots, Survey, slots::Changed};
use crate::health::{Health, Intent};
use crate::state::{Endpoint, Family, PacketSpec, Pool, PoolView};

/// One service's book, of one family where it matters.
pub struct Book {
    service: ServiceId,
    family: Family,
    spec: PacketSpec,
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
        let fingerprint = fingerprint(&current, &members, pool.hash_key());
        Book { service, family, spec: spec.clone(), endpoints, slots, fingerprint, members, followed }
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
        self.fingerprint = fingerprint(&current, &self.members, pool.hash_key());
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
mod tests {
    use super::*;
    use crate::base::Weight;
    use crate::config::{self, Catalogs};
    use crate::state::{Snapshot, Status, Traffic};

    const MACHINE: config::Machine = config::Machine { cores: 1, random_key: HashKey::new([7; 16]) };

    /// One packet service `game` over `endpoints`, after `before`.
    fn snapshot(balance: &str, endpoints: &str, before: Option<&Snapshot>) -> Snapshot {
        generation(&configuration(balance, endpoints), before)
    }

    fn configuration(balance: &str, endpoints: &str) -> config::Config {
        let both = if endpoints.contains("fd00") { ", \"fd00::100\"" } else { "" };
        let text = format!(
            "[vip.v]\naddress = [\"10.0.0.100\"{both}]\ninterface = \"eth0\"\n[service.game]\nmode = \"l2\"\nvip = \"v\"\n\
             pool = \"p\"\nslots = 4099\n[pool.p]\nbalance = \"{balance}\"\nendpoints = [{endpoints}]\n"
        );
        let loaded = config::read("test", text.into_bytes(), &crate::doc::Nowhere, &Catalogs::default());
        loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
    }

    fn generation(config: &config::Config, before: Option<&Snapshot>) -> Snapshot {
        let empty;
        let before = match before {
            Some(before) => before,
            None => {
                empty = Snapshot::empty(crate::state::Settings {
                    workers: 1,
                    metrics: None,
                    admin: None,
                    admin_token: None,
                    admin_read_only: false,
                    random_key: false,
                    hash_key: MACHINE.random_key,
                    packet_io: None,
                    drain_timeout: std::time::Duration::ZERO,
                    watch: false,
                    log_level: "info",
                    log_json: false,
                    log_output: crate::observe::sink::Output::Stderr,
                    access_output: crate::observe::sink::Output::Stdout,
                    process: crate::state::Process::default(),
                });
                &empty
            }
        };
        config::compile(config, before, &MACHINE).unwrap()
    }

    fn parts(snapshot: &Snapshot) -> (ServiceId, &PacketSpec, &Arc<Pool>) {
        let service = snapshot.service_named("game").unwrap();
        let Traffic::Packet(spec) = &service.traffic else { panic!("a packet service") };
        (service.id, spec, snapshot.pool(spec.pool).unwrap())
    }

    fn open(snapshot: &Snapshot, family: Family) -> Book {
        let (id, spec, pool) = parts(snapshot);
        Book::open(id, family, spec, pool)
    }

    fn set(pool: &Pool, name: &str, change: impl FnOnce(&mut Status)) {
        let endpoint = pool.endpoint(name).unwrap();
        let mut status = endpoint.status();
        change(&mut status);
        endpoint.set_status(status);
        pool.publish();
    }

    /// Slots by the name of their endpoint.
    fn shares(book: &Book) -> std::collections::BTreeMap<String, usize> {
        let mut shares = std::collections::BTreeMap::new();
        for slot in book.slots().current() {
            let name = book.members().get(usize::from(*slot)).and_then(Option::as_ref).map_or("nobody", |e| &*e.name);
            *shares.entry(name.to_owned()).or_default() += 1;
        }
        shares
    }

    const FOUR: &str = "\"10.0.0.41\", \"fd00::41\", { address = \"10.0.0.42\", weight = 3 }, \"fd00::42\"";

    #[test]
    fn each_family_has_a_table_of_its_own_endpoints_by_their_weights() {
        let snapshot = snapshot("maglev", FOUR, None);
        let v4 = shares(&open(&snapshot, Family::V4));
        assert_eq!(v4.keys().collect::<Vec<_>>(), ["10.0.0.41", "10.0.0.42"]);
        assert!((1024..=1025).contains(&v4["10.0.0.41"]), "a quarter of 4099: {v4:?}");
        let v6 = shares(&open(&snapshot, Family::V6));
        assert_eq!(v6.keys().collect::<Vec<_>>(), ["fd00::41", "fd00::42"]);
        assert_eq!(shares(&open(&snapshot, Family::Any)).len(), 4);
    }

    #[test]
    fn a_fingerprint_tells_who_has_which_slot_and_not_how_that_came_about() {
        let of = |endpoints: &str, before: Option<&Snapshot>| {
            let snapshot = snapshot("maglev", endpoints, before);
            let book = open(&snapshot, Family::V4);
            (book.fingerprint(), book, snapshot)
        };
        let (plain, ..) = of("\"10.0.0.41\", \"10.0.0.42\"", None);
        assert_eq!(plain, of("\"10.0.0.42\", \"10.0.0.41\"", None).0, "the order of the file");
        let weighted = of("\"10.0.0.41\", { address = \"10.0.0.42\", weight = 2 }", None).0;
        let others = [weighted, of("\"10.0.0.41\"", None).0, of("\"10.0.0.43\"", None).0];
        assert!(others.iter().all(|other| *other != plain) && others[1] != others[2]);

        // Another node that had other endpoints before: its indices are others.
        let (_, mut book, first) = of("\"10.0.0.40\", \"10.0.0.42\"", None);
        let second = snapshot("maglev", "\"10.0.0.42\", \"10.0.0.41\"", Some(&first));
        let (_, spec, pool) = parts(&second);
        pool.endpoints.iter().for_each(|endpoint| set(pool, &endpoint.name, |status| status.health = Health::Up));
        book.follow(spec, pool, Moment::from_millis(1)).unwrap();
        let places: Vec<_> = book.members().iter().map(|member| member.as_ref().map(|e| &*e.name)).collect();
        assert_eq!(places, [None, Some("10.0.0.42"), Some("10.0.0.41")]);
        assert_eq!(book.fingerprint(), plain);
    }

    #[test]
    fn every_picker_fills_every_slot_with_its_shares() {
        for (balance, least) in [
            ("round-robin", 1360),
            ("weighted-round-robin", 1360),
            ("random", 1250),
            ("rendezvous", 1250),
            ("source-hash", 1250),
            ("maglev", 1366),
        ] {
            let snapshot = snapshot(balance, "\"10.0.0.41\", \"10.0.0.42\", \"10.0.0.43\"", None);
            let shares = shares(&open(&snapshot, Family::V4));
            assert_eq!(shares.values().sum::<usize>(), 4099, "{balance}");
            assert!(shares.len() == 3 && shares.values().all(|share| *share >= least), "{balance}: {shares:?}");
        }
        let first = snapshot("first", "\"10.0.0.41\", \"10.0.0.42\"", None);
        assert_eq!(shares(&open(&first, Family::V4)).len(), 1);
    }

    #[test]
    fn whoever_its_source_has_no_more_keeps_its_flows_until_it_is_removed() {
        let endpoints = "\"10.0.0.41\", \"10.0.0.42\"";
        let first = snapshot("maglev", endpoints, None);
        let (_, _, pool) = parts(&first);
        pool.endpoints.iter().for_each(|endpoint| set(pool, &endpoint.name, |status| status.health = Health::Up));
        let mut book = open(&first, Family::V4);
        let mut config = configuration("maglev", endpoints);
        config.pools[0].endpoints[0].leaving = true;
        let second = generation(&config, Some(&first));
        let (_, spec, pool) = parts(&second);
        let left = book.follow(spec, pool, Moment::from_millis(2)).unwrap();
        assert!(left.moved > 2000 && left.marked == left.moved, "as one that drains: {left:?}");
        assert_eq!(shares(&book).keys().collect::<Vec<_>>(), ["10.0.0.42"]);
        let index = book.members().iter().position(|member| member.as_ref().is_some_and(|m| &*m.name == "10.0.0.41"));
        let generation_of = |book: &Book| book.slots().generation(u16::try_from(index.unwrap()).unwrap());
        let before = generation_of(&book);
        assert!(book.slots().lives(u16::try_from(index.unwrap()).unwrap(), before.unwrap(), 6));
        // Removed, its flows are nobody's.
        config.pools[0].endpoints.remove(0);
        let third = generation(&config, Some(&second));
        let (_, spec, pool) = parts(&third);
        book.follow(spec, pool, Moment::from_millis(3)).unwrap();
        assert_ne!(generation_of(&book), before);
        assert_eq!(book.members().iter().flatten().count(), 1);
    }

    #[test]
    fn a_book_follows_what_becomes_of_its_endpoints() {
        let first = snapshot("maglev", "\"10.0.0.41\", \"10.0.0.42\"", None);
        let (_, spec, pool) = parts(&first);
        pool.endpoints.iter().for_each(|endpoint| set(pool, &endpoint.name, |status| status.health = Health::Up));
        let mut book = open(&first, Family::V4);
        let at = Moment::from_millis;
        assert!(book.follow(spec, pool, at(1)).is_none(), "nothing has changed");

        // One drains: no slot names it any more, and those that did remember it.
        set(pool, "10.0.0.41", |status| status.intent = Intent::Draining);
        let drained = book.follow(spec, pool, at(2)).unwrap();
        assert!(drained.moved > 2000 && drained.marked == drained.moved, "{drained:?}");
        assert_eq!(shares(&book).keys().collect::<Vec<_>>(), ["10.0.0.42"]);

        // It returns, and nothing needs to be remembered for longer than a survey takes.
        set(pool, "10.0.0.41", |status| status.intent = Intent::Ready);
        book.follow(spec, pool, at(3)).unwrap();
        assert_eq!(shares(&book).len(), 2);

        // One dies: its flows get other endpoints at once, and its slots have nobody to remember.
        let died = open(&first, Family::V4);
        let mut book = died;
        set(pool, "10.0.0.42", |status| status.health = Health::Down);
        let moved = book.follow(spec, pool, at(4)).unwrap();
        assert!(moved.moved > 2000, "{moved:?}");
        assert_eq!(moved.marked, 0, "on_down = rehash: there is nothing to follow");

        // A weight moves a part; an endpoint that leaves the file is no member any more.
        set(pool, "10.0.0.42", |status| (status.health, status.weight) = (Health::Up, Weight::new(3).unwrap()));
        book.follow(spec, pool, at(5)).unwrap();
        assert!(shares(&book)["10.0.0.42"] > 3000, "{:?}", shares(&book));
        let second = snapshot("maglev", "\"10.0.0.41\"", Some(&first));
        let (_, spec, pool) = parts(&second);
        book.follow(spec, pool, at(6)).unwrap();
        assert_eq!(shares(&book).keys().collect::<Vec<_>>(), ["10.0.0.41"]);
        assert_eq!(book.members().iter().flatten().count(), 1);
    }
}
