//! Shell: the control side of the packet engine: one thread that follows configuration, health and the machine, and publishes
//! the tables that workers decide by.
//!
//! ```text
//!   snapshot, pool views ─▶ books (slots) ─┐
//!   links, routes, neighbours ─▶ machine ──┴─▶ Tables::build ─▶ one swap ─▶ workers
//!   events of workers ─▶ who must be asked for, who claims a VIP ─▶ herald
//! ```
//!
//! Not here: taps and their threads (`engine`, `interface`), what slots do (`flow`).

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::books::{self, Book};
use super::engine::{Force, Order};
use super::herald::Herald;
use super::inputs::{Machine, inputs};
use super::look;
use super::roster::Roster;
use crate::base::{MacAddr, Moment, ServiceId, clock, limits};
use crate::flow::decide::{Event, Shared};
use crate::flow::slots::Changed;
use crate::flow::tables::{LinkId, Route, Tables};
use crate::flow::{Cursor, Survey};
use crate::observe::{Beat, events};
use crate::state::{Family, PacketSpec, Snapshot, Traffic};
use crate::sys::neighbour::{self, Asker};
use crate::sys::too_big::TooBig;

/// How often pool views and records are looked at. A change of health shows within this.
const TICK: Duration = Duration::from_millis(50);
/// How often links, routes and neighbours are read again.
const MACHINE: Duration = Duration::from_secs(1);

pub(super) struct Control {
    snapshot: Arc<Snapshot>,
    books: HashMap<(ServiceId, Family), Book>,
    machine: Machine,
    /// Until when the first tables wait for the first probes, while they do.
    settling: Option<Moment>,
    /// What has moved and is not in force yet.
    moved: Vec<(ServiceId, Changed)>,
    /// Whose tables are gone, or begin anew, and still in force.
    gone: HashSet<ServiceId>,
    /// Whose tables in force have begun anew, with nothing in transition.
    anew: HashSet<ServiceId>,
    /// Who waits for tables to be published.
    waiting: Vec<oneshot::Sender<()>>,
    /// When next hops that were asked for on their behalf may have answered; `None` before they are asked for.
    answers: Option<Moment>,
    /// Names and indices of the interfaces that taps are open on.
    interfaces: Vec<(Arc<str>, u32)>,
    /// When all that is not told by an order is done next.
    turn_at: Moment,
    /// When links, routes and neighbours are read next.
    look_at: Moment,
    /// When it was last said that they could not be read.
    complained: Option<Moment>,
    /// Has the kernel know what fits into tunnels, while there are any.
    too_big: Option<TooBig>,
    /// Why it could not be asked for that, while it cannot.
    unlearned: Option<io::ErrorKind>,
    /// Whom was asked for, and when: the data path asks time and again.
    asked: HashMap<(LinkId, IpAddr), Moment>,
    /// Who claims a VIP, and when that was last said.
    conflicts: HashMap<(IpAddr, MacAddr), Moment>,
    herald: Herald,
    force: Arc<ArcSwap<Force>>,
    shared: Arc<Shared>,
    cursor: Cursor,
    nat_cursor: Cursor,
    surveys: HashMap<(ServiceId, Family), Survey>,
    beat: Beat,
}

impl Control {
    pub fn new(force: Arc<ArcSwap<Force>>, shared: Arc<Shared>, herald: Herald, beat: Beat) -> Control {
        Control {
            snapshot: force.load().snapshot.clone(),
            books: HashMap::new(),
            machine: Machine::default(),
            settling: Some(clock::now() + SETTLING),
            moved: Vec::new(),
            gone: HashSet::new(),
            anew: HashSet::new(),
            waiting: Vec::new(),
            answers: None,
            interfaces: Vec::new(),
            turn_at: Moment::ZERO,
            look_at: Moment::ZERO,
            complained: None,
            too_big: None,
            unlearned: None,
            asked: HashMap::new(),
            conflicts: HashMap::new(),
            herald,
            force,
            shared,
            cursor: Cursor::default(),
            nat_cursor: Cursor::default(),
            surveys: HashMap::new(),
            beat,
        }
    }

    /// Runs until the engine ends.
    pub fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let adopted = match orders.recv_timeout(self.turn_at.since(clock::now())) {
                Ok(Order::Adopt { snapshot, interfaces, machine, done }) => {
                    (self.snapshot, self.interfaces, self.machine) = (snapshot, interfaces, machine);
                    self.waiting.push(done);
                    self.answers = None;
                    true
                }
                Ok(Order::Heard(event)) => {
                    self.heard(event);
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
            let now = clock::now();
            self.beat.beat(now);
            // However much is heard, the rest is done as often as ever.
            if !adopted && now < self.turn_at {
                continue;
            }
            self.turn(adopted, now);
            self.turn_at = (now + self.pause()).min(self.look_at.max(now + ANSWER));
        }
    }

    /// What is done time and again. `changed`: the tables have to be built anew for what was adopted.
    fn turn(&mut self, mut changed: bool, now: Moment) {
        if !self.is_settled(now) {
            return;
        }
        changed |= self.follow(now);
        // The first packet of a client should find its way known: what probes have asked for is here by now, gateways and what is
        // not probed answer soon. Only then is it said that packets are served.
        let asks = !self.waiting.is_empty() && self.answers.is_none();
        if asks {
            self.look_at = now;
        }
        changed |= self.look(now);
        if asks {
            self.look_at = now + ANSWER;
            self.answers = Some(self.look_at);
        }
        changed |= self.sweep(now);
        self.end_silent_flows(now);
        self.shared.records.turn(now);
        if changed {
            self.publish(now);
        }
        if self.answers.is_some_and(|at| at <= now) {
            self.answers = None;
            for done in self.waiting.drain(..) {
                // Who asked may not wait any more.
                let _ = done.send(());
            }
        }
        self.herald.speak(&self.snapshot, now);
    }

    /// How long orders are waited for: less while somebody waits for what they do.
    fn pause(&self) -> Duration {
        if self.settling.is_some() || self.answers.is_some() { ANSWER } else { TICK }
    }

    /// Whether tables may be built. The first ones wait until probed pools know who is up: one that was down when the process before
    /// this one ended would take flows that live elsewhere, and refuse them. Flows wait for it as for a lost packet.
    fn is_settled(&mut self, now: Moment) -> bool {
        let Some(until) = self.settling else { return true };
        let known = packet_services(&self.snapshot)
            .filter_map(|(_, spec)| self.snapshot.pool(spec.pool))
            .all(|pool| pool.spec.probe.is_none() || pool.view().epoch > 0);
        if self.waiting.is_empty() || !known && now < until {
            return false;
        }
        self.settling = None;
        true
    }

    /// Follows the configuration and the pools' views. True when something changed.
    fn follow(&mut self, now: Moment) -> bool {
        let mut changed = false;
        let snapshot = self.snapshot.clone();
        let wanted: HashMap<ServiceId, &PacketSpec> = packet_services(&snapshot).collect();
        let is_served = |(id, family): &(ServiceId, Family)| {
            wanted.get(id).is_some_and(|spec| Family::all_of(spec).contains(family))
        };
        let gone: Vec<_> = self.books.keys().filter(|key| !is_served(key)).copied().collect();
        for key in gone {
            changed = true;
            self.books.remove(&key);
            self.surveys.remove(&key);
            self.gone.insert(key.0);
        }
        let opened = |id: &ServiceId, spec: &PacketSpec| {
            Family::all_of(spec).iter().any(|family| !self.books.contains_key(&(*id, *family)))
        };
        let opened: HashSet<_> = wanted.iter().filter(|(id, spec)| opened(id, spec)).map(|(id, _)| *id).collect();
        // A service of this name before, or its table for another family, had other numbers for its endpoints.
        self.forget(&opened, now);
        let reloads = self.books.iter().filter_map(|((id, _), book)| Some((book, *wanted.get(id)?)));
        books::void(reloads, &self.shared.records);
        for (id, spec) in wanted {
            // The slots of very many services take their time, and that is no standstill.
            self.beat.beat(clock::now());
            let Some(pool) = snapshot.pool(spec.pool) else { continue };
            for family in Family::all_of(spec) {
                let key = (id, *family);
                let Some(book) = self.books.get_mut(&key) else {
                    self.books.insert(key, Book::open(id, *family, spec, pool));
                    changed = true;
                    continue;
                };
                let anew = book.begins_anew(spec, pool);
                let Some(moved) = book.follow(spec, pool, now) else { continue };
                changed = true;
                if anew {
                    self.gone.insert(id);
                }
                // A survey of slots that have changed since says nothing about them.
                self.surveys.remove(&key);
                if moved.moved > 0 {
                    self.moved.push((id, moved));
                }
            }
        }
        changed
    }

    /// Forgets everything that names endpoints of these services by number.
    fn forget(&self, services: &HashSet<ServiceId>, now: Moment) {
        if !services.is_empty() {
            self.shared.forget(|service| services.contains(&service), now);
        }
    }

    /// Forgets the flows of tables that are not in force any more: others have use for their room and their ports. What a worker that is a
    /// batch behind still binds is forgotten when such a service begins.
    fn end_gone(&mut self, now: Moment) {
        let (ended, replaced): (HashSet<_>, HashSet<_>) = std::mem::take(&mut self.gone)
            .into_iter()
            .partition(|gone| self.books.keys().all(|(served, _)| served != gone));
        self.forget(&ended, now);
        // Where another table took its place, nothing is in transition yet: every record is of the one before.
        self.forget_records(&replaced);
        self.anew = replaced;
    }

    fn forget_records(&self, services: &HashSet<ServiceId>) {
        if !services.is_empty() {
            self.shared.records.forget(|seen| services.contains(&seen.service));
        }
    }

    /// Looks at the machine again when it is time. True when something changed.
    fn look(&mut self, now: Moment) -> bool {
        if now < self.look_at {
            return false;
        }
        self.look_at = now + MACHINE;
        self.asked.retain(|_, at| now.since(*at) < ASK);
        self.conflicts.retain(|_, at| now.since(*at) < SAY);
        if let Err(error) = self.refresh() {
            tracing::debug!(%error, "the kernel is not asked for neighbours");
        }
        let paths = match self.paths() {
            Ok(paths) => {
                if self.unlearned.take().is_some() {
                    tracing::info!("what fits into tunnels is learned again");
                }
                paths
            }
            Err(error) => {
                if self.unlearned != Some(error.kind()) {
                    self.unlearned = Some(error.kind());
                    tracing::warn!(%error, "what fits into tunnels cannot be learned: what was known holds");
                }
                self.machine.paths.clone()
            }
        };
        match look::machine(&self.interfaces).map(|machine| Machine { paths, ..machine }) {
            Ok(machine) if machine == self.machine => false,
            Ok(machine) => {
                self.machine = machine;
                true
            }
            Err(error) => {
                if self.complained.is_none_or(|at| now.since(at) >= SAY) {
                    self.complained = Some(now);
                    tracing::warn!(%error, "links, routes and neighbours cannot be read: the last known serve on");
                }
                false
            }
        }
    }

    /// What fits on the way to the other ends of tunnels.
    fn paths(&mut self) -> io::Result<Vec<(IpAddr, u32)>> {
        let tunnels = self.books.values().filter(|book| book.spec().forward.is_tunnel());
        let ends: BTreeSet<IpAddr> = tunnels.flat_map(members).collect();
        if ends.is_empty() {
            self.too_big = None;
            return Ok(Vec::new());
        }
        if self.too_big.is_none() {
            self.too_big = Some(TooBig::open()?);
        }
        look::paths(ends)
    }

    /// Frees records whose time is over, a part at a time, and after a whole round the slots in which nothing is left.
    fn sweep(&mut self, now: Moment) -> bool {
        if self.books.values().all(|book| book.slots().marked() == 0) && self.shared.records.fill().records == 0 {
            return false;
        }
        if self.cursor == Cursor::default() {
            self.surveys = self.books.iter().map(|(key, book)| (*key, Survey::begin(book.slots(), now))).collect();
        }
        let (books, surveys) = (&self.books, &mut self.surveys);
        let mut whole = false;
        for _ in 0..SWEEPS {
            whole = self.shared.records.sweep(&mut self.cursor, now, |seen| {
                let own = if seen.key.source().is_ipv6() { Family::V6 } else { Family::V4 };
                for key in [(seen.service, own), (seen.service, Family::Any)] {
                    if let (Some(survey), Some(book)) = (surveys.get_mut(&key), books.get(&key)) {
                        survey.see(book.slots(), seen);
                    }
                }
            });
            if whole {
                break;
            }
        }
        if !whole {
            return false;
        }
        let mut settled = 0;
        for (key, survey) in self.surveys.drain() {
            settled += self.books.get_mut(&key).map_or(0, |book| book.settle(&survey));
        }
        settled > 0
    }

    /// Ends translated flows that were silent for too long, a part at a time, and with them their hold on lent ports.
    fn end_silent_flows(&mut self, now: Moment) {
        if self.shared.nat.fill().flows == 0 {
            return;
        }
        for _ in 0..SWEEPS {
            if self.shared.nat.sweep(&mut self.nat_cursor, now) {
                return;
            }
        }
    }

    fn heard(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Unresolved { link, address } => {
                // Whoever floods us with clients that are not there fills neither this nor the kernel's table.
                if self.asked.len() < limits::NEXT_HOPS_ASKED
                    && let Entry::Vacant(place) = self.asked.entry((link, address))
                {
                    place.insert(now);
                    if let Err(error) = neighbour::solicit(link.interface, address) {
                        not_asked(address, &error);
                    }
                    // Its answer is worth a look before the next second.
                    self.look_at = self.look_at.min(now + ANSWER);
                    self.turn_at = self.turn_at.min(self.look_at);
                }
            }
            Event::Conflict { address, mac } => {
                self.herald.contested(address, &self.snapshot, now);
                // Whoever floods the link with claims fills neither the memory nor the log.
                let room = self.conflicts.len() < limits::VIP_CLAIMANTS;
                if (room || self.conflicts.contains_key(&(address, mac)))
                    && self.conflicts.insert((address, mac), now).is_none()
                {
                    tracing::error!(event = events::VIP, vip = %address, %mac, "another machine claims the VIP");
                }
            }
        }
    }

    /// Has the kernel ask again for gateways, and for endpoints on our links, so that one that has another card is noticed.
    fn refresh(&self) -> io::Result<()> {
        let routes = self.machine.routes.iter();
        let gateways = routes.clone().filter_map(|route| Some((route.link, route.gateway?)));
        // Of many routes few are of our links.
        let near: Vec<Route> = routes.filter(|route| route.gateway.is_none()).copied().collect();
        let on_link = |address| Some((Route::on_link(&near, address)?.link, address));
        // Many routes may have one gateway, and many services one endpoint.
        let hops: BTreeSet<(LinkId, IpAddr)> =
            gateways.chain(self.books.values().flat_map(members).filter_map(on_link)).collect();
        let mut asker = Asker::open()?;
        for (link, address) in hops {
            if let Err(error) = asker.solicit(link.interface, address) {
                not_asked(address, &error);
            }
        }
        Ok(())
    }

    fn publish(&mut self, now: Moment) {
        for book in self.books.values() {
            if let Some(service) = self.snapshot.service(book.service()) {
                service.kept.slots(book.family()).set(book.slots().marked(), book.fingerprint());
            }
        }
        let inputs = inputs(&self.snapshot, self.books.values(), &self.machine);
        self.herald.follow(&inputs, &self.machine, now);
        let tables = Tables::build(inputs);
        let roster = Roster::new(self.books.values());
        // What workers that were a batch behind have recorded by tables of before: those in force have had no use for records.
        let anew = std::mem::take(&mut self.anew);
        self.forget_records(&anew);
        self.force.store(Arc::new(Force { tables, roster, snapshot: self.snapshot.clone() }));
        self.end_gone(now);
        for (id, Changed { moved, marked }) in self.moved.drain(..) {
            let service = self.snapshot.service(id).map_or("", |service| &*service.spec.name);
            tracing::info!(service, moved, marked, "slots moved");
        }
    }
}

/// The addresses of a service's endpoints.
fn members(book: &Book) -> impl Iterator<Item = IpAddr> {
    book.members().iter().flatten().map(|endpoint| endpoint.address.ip())
}

fn not_asked(address: IpAddr, error: &io::Error) {
    tracing::debug!(%address, %error, "the kernel does not ask for a neighbour");
}

/// How long a next hop that is asked for is not asked for again, and how soon its answer is looked for.
const ASK: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_millis(20);
/// How long the first tables wait: longer than the keeper of health does before it says who is up.
const SETTLING: Duration = Duration::from_secs(6);
/// How long a claim to a VIP is not told again.
const SAY: Duration = Duration::from_secs(10);
/// Parts of the records that are swept each tick: all of them in a few seconds.
const SWEEPS: usize = 16;

pub(super) fn packet_services(snapshot: &Snapshot) -> impl Iterator<Item = (ServiceId, &PacketSpec)> {
    snapshot.services().filter_map(|service| match &service.traffic {
        Traffic::Packet(spec) => Some((service.id, spec)),
        Traffic::L4(_) | Traffic::L7(_) => None,
    })
}

#[cfg(test)]
mod tests;
