//! Shell: the packet engine's taps and threads, and how a snapshot becomes theirs.
//!
//! `prepare` opens the taps that a snapshot needs and changes nothing; only `commit` lets anyone see it. `mend` does both for the
//! snapshot in force, when the machine has changed under it.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::control::{Control, packet_services};
use super::deaf;
use super::herald::Herald;
use super::inputs::Machine;
use super::interface::{Hands, Open, Opened, Wanted};
use super::look::{self, Ground};
use super::meter::Meter;
use super::replies;
use super::roster::Roster;
use super::through::{Passages, Scene, Wish};
use super::ways::{self, Said, Ways};
use crate::base::{HashKey, MacAddr, clock, limits};
use crate::flow::decide::{Event, Shared};
use crate::flow::tables::{Inputs, Tables};
use crate::observe::packets::Wayless;
use crate::observe::{Packets, events};
use crate::seam::through::Register;
use crate::state::{Endpoint, Forward, PacketSpec, Pool, Snapshot, VipMac};
use crate::sys::classify::Rule;
use crate::sys::link::{self, Link};
use crate::sys::packet::Speaker;

/// What workers decide by, swapped whole.
pub(super) struct Force {
    pub tables: Tables,
    pub roster: Roster,
    pub snapshot: Arc<Snapshot>,
}

impl Force {
    /// Nothing is served yet.
    pub fn none(snapshot: &Arc<Snapshot>, key: HashKey) -> Force {
        let nothing = Inputs {
            key,
            links: Vec::new(),
            own: Vec::new(),
            routes: Vec::new(),
            neighbors: Vec::new(),
            vips: Vec::new(),
            services: Vec::new(),
        };
        Force { tables: Tables::build(nothing), roster: Roster::default(), snapshot: snapshot.clone() }
    }
}

/// What the control thread is told.
pub(super) enum Order {
    /// A snapshot was committed. `done` is told once its tables are published.
    Adopt {
        snapshot: Arc<Snapshot>,
        interfaces: Vec<(Arc<str>, u32)>,
        machine: Machine,
        done: oneshot::Sender<()>,
    },
    Heard(Event),
    Stop,
}

/// The engine. Until a snapshot has packet services, it is nothing but this.
pub struct Engine {
    workers: usize,
    /// Of this process alone: nobody outside can aim at a place in its tables.
    secret: HashKey,
    packets: Arc<Packets>,
    running: Option<Running>,
    /// Whose packets are on their way through a VIP, and who sends them on where there are any.
    register: Arc<Register>,
    passages: Option<Passages>,
    /// What taps were last chosen by, and what stood in their way.
    ground: Option<Ground>,
    hindrances: Vec<String>,
    /// Another process serves still: taps hear nothing before the first commit.
    deaf: bool,
}

struct Running {
    force: Arc<ArcSwap<Force>>,
    shared: Arc<Shared>,
    packets: Arc<Packets>,
    control: SyncSender<Order>,
    thread: JoinHandle<()>,
    open: BTreeMap<Arc<str>, Open>,
}

/// Interfaces by name, with their indices.
type Interfaces = BTreeMap<Arc<str>, (u32, Wanted)>;

/// What a snapshot needs, opened.
pub struct Prepared {
    machine: Machine,
    interfaces: Vec<(Arc<str>, u32)>,
    opened: Vec<Opened>,
    /// Interfaces that are served already, and by which other frames are wanted now.
    changed: Vec<(Arc<str>, Wanted)>,
    /// For probes through VIPs. `None`: it is fulfilled.
    wish: Option<Wish>,
    /// Whom no way leads to.
    wayless: Vec<Wayless>,
}

impl Engine {
    /// `secret` is a key of this process, `packets` is where the engine tells of itself, `register` knows whose packets are on
    /// their way through a VIP.
    pub fn new(workers: usize, secret: HashKey, packets: Arc<Packets>, register: Arc<Register>) -> Engine {
        let (running, passages, ground, hindrances) = (None, None, None, Vec::new());
        Engine { workers, secret, packets, running, register, passages, ground, hindrances, deaf: false }
    }

    /// Another process serves the same packets until the first commit. What is prepared keeps the kernel out and hears nothing, so
    /// that no packet is forwarded twice.
    pub fn succeed(&mut self) {
        self.deaf = true;
    }

    /// Has the tables of `snapshot` made before the commit, which then finds them: first ones wait for probes.
    ///
    /// # Errors
    /// What the commit would say.
    pub async fn forestall(&mut self, prepared: &Prepared, snapshot: &Arc<Snapshot>) -> Result<(), String> {
        if prepared.interfaces.is_empty() {
            return Ok(());
        }
        let running = Running::start(snapshot, self.secret, self.packets.clone())
            .map_err(|error| format!("the packet engine cannot start: {error}"))?;
        let running = self.running.insert(running);
        running.publish(snapshot, &prepared.interfaces, prepared.machine.clone()).await
    }

    /// Opens what `next` needs and this does not have.
    ///
    /// # Errors
    /// Every interface that is not there, or on which no packet socket can be opened; nothing has changed then.
    pub fn prepare(&mut self, next: &Snapshot) -> Result<Prepared, Vec<String>> {
        let mut errors = Vec::new();
        let specs = specs(next);
        if self.running.as_ref().is_some_and(|running| !running.lend(&specs)) {
            errors.push(format!(
                "full NAT (`source`) has room for {} addresses beside those of before, on which flows have not ended yet: change fewer at a \
                 time, or try again later",
                limits::NAT_SOURCES
            ));
        }
        let (wanted, wayless) = wanted(next, &specs, self.running.as_ref().map(|running| &running.open), &mut errors);
        let (opened, changed) = self.open(&wanted, true, &mut errors);
        let interfaces: Vec<(Arc<str>, u32)> = wanted.iter().map(|(name, (index, _))| (name.clone(), *index)).collect();
        let machine = match look::machine(&interfaces) {
            Ok(machine) => machine,
            Err(error) => {
                errors.push(format!("links, routes and neighbours cannot be read: {error}"));
                Machine::default()
            }
        };
        let wish = Wish::of(next, self.passages.as_ref()).map_err(|error| errors.push(error)).ok();
        let prepared = Prepared { machine, interfaces, opened, changed, wish, wayless };
        if errors.is_empty() { Ok(prepared) } else { Err(errors) }
    }

    /// Opens what is wanted and not open, or open and of no more use; and what is open for other frames.
    /// `strict`: see [`Opened::new`].
    fn open(
        &mut self,
        wanted: &Interfaces,
        strict: bool,
        errors: &mut Vec<String>,
    ) -> (Vec<Opened>, Vec<(Arc<str>, Wanted)>) {
        let (mut opened, mut changed) = (Vec::new(), Vec::new());
        let mut known = self.running.as_mut().map(|running| &mut running.open);
        for (name, (index, wanted)) in wanted {
            match known
                .as_mut()
                .and_then(|open| open.get_mut(name))
                .filter(|open| open.index == *index && open.is_served())
            {
                Some(open) if open.wanted == *wanted => {}
                Some(open) if open.brings(wanted) => match strict.then(|| open.refuses(name, wanted)).flatten() {
                    Some(error) => errors.push(format!("interface {name}: {error}")),
                    None => changed.push((name.clone(), wanted.clone())),
                },
                _ => match Opened::new(name, *index, self.workers, wanted, (self.deaf, strict)) {
                    Ok(taps) => opened.push(taps),
                    Err(error) => errors.push(format!("interface {name}: {error}")),
                },
            }
        }
        (opened, changed)
    }

    /// Lets probes of `snapshot` go through its VIPs. Before the commit: the first tables wait for what probes find.
    ///
    /// # Errors
    /// A thread cannot be made.
    pub fn let_probes_through(&mut self, prepared: &mut Prepared, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        let scene = Scene { snapshot: snapshot.clone(), interfaces: prepared.interfaces.clone() };
        prepared.wish.take().map_or(Ok(()), |wish| wish.fulfil(&mut self.passages, scene, &self.register))
    }

    /// Serves `snapshot` with what was prepared for it. Once this returns, its packets are decided by its tables.
    ///
    /// # Errors
    /// What is not served as the snapshot says. The rest is; [`Engine::mend`] tries again.
    pub async fn commit(&mut self, prepared: Prepared, snapshot: &Arc<Snapshot>) -> Result<(), Vec<String>> {
        // What it stands on is looked at again at the next chance.
        self.ground = None;
        self.hindrances = self.adopt(prepared, snapshot).await;
        self.deaf = false;
        if self.hindrances.is_empty() { Ok(()) } else { Err(self.hindrances.clone()) }
    }

    /// What went wrong.
    async fn adopt(&mut self, prepared: Prepared, snapshot: &Arc<Snapshot>) -> Vec<String> {
        let Prepared { machine, interfaces, opened, changed, wish: _, wayless } = prepared;
        self.tell_of(wayless);
        if self.running.is_none() && interfaces.is_empty() {
            return Vec::new();
        }
        let running = match &mut self.running {
            Some(running) => running,
            none => match Running::start(snapshot, self.secret, self.packets.clone()) {
                Ok(running) => none.insert(running),
                Err(error) => return vec![format!("the packet engine cannot start: {error}")],
            },
        };
        // The new tables first: a tap that opens finds them.
        let mut errors: Vec<String> = running.publish(snapshot, &interfaces, machine).await.err().into_iter().collect();
        for (name, wanted) in changed {
            if let Some(open) = running.open.get_mut(&name) {
                errors.extend(open.want(&name, wanted).await.err());
            }
        }
        for opened in opened {
            let name = opened.name.clone();
            // To whoever counts workers, it is served throughout.
            let _stay = Meter::new(&running.packets.interface(&name));
            // Nobody serves twice. The kernel has been kept out by the new one since it was prepared.
            if let Some(before) = running.open.remove(&name) {
                before.close();
            }
            match opened.serve(&running.hands()) {
                Ok(open) => drop(running.open.insert(name, open)),
                Err(error) => errors.push(format!("interface {name}: its packets cannot be served: {error}")),
            }
        }
        let gone: Vec<Arc<str>> =
            running.open.keys().filter(|name| interfaces.iter().all(|(wanted, _)| wanted != *name)).cloned().collect();
        for name in gone {
            if let Some(open) = running.open.remove(&name) {
                open.close();
            }
        }
        for (name, _) in running.packets.interfaces() {
            // A VIP's that is missed shows that nobody serves it.
            let is_vips = || snapshot.vips().any(|vip| vip.spec.interface == name);
            if !running.open.contains_key(&name) && !is_vips() {
                running.packets.forget(&name);
            }
        }
        errors
    }

    /// Says whom no way leads to any more, and to whom one leads again. It costs nobody else anything, a tunnel's other end no more than
    /// that, so it is no reason to refuse a configuration.
    fn tell_of(&self, wayless: Vec<Wayless>) {
        let before = self.packets.set_wayless(wayless.clone());
        for Said { pool, endpoint, text } in ways::lost(&before, &wayless) {
            tracing::warn!(event = events::ENDPOINT, pool = &*pool, endpoint = endpoint.as_deref(), "{text}");
        }
        for Said { pool, endpoint, text } in ways::found(&before, &wayless) {
            tracing::info!(event = events::ENDPOINT, pool = &*pool, endpoint = endpoint.as_deref(), "{text}");
        }
    }

    /// Brings taps in step with the machine: interfaces that went or came back, workers that ended, addresses of ours and ways to
    /// endpoints that have changed, classifiers that somebody removed. After [`Engine::stop`] it serves again whatever can be had. What
    /// stands in the way is logged once, and tried again at the next call.
    pub async fn mend(&mut self, snapshot: &Arc<Snapshot>) {
        if self.running.is_none() {
            if snapshot.vips().next().is_none() {
                return;
            }
            match Running::start(snapshot, self.secret, self.packets.clone()) {
                Ok(running) => self.running = Some(running),
                Err(error) => return self.hinder(vec![format!("the packet engine cannot start: {error}")]),
            }
        }
        let ground = match look::ground() {
            Ok(ground) => ground,
            // The control thread says so.
            Err(_) => return,
        };
        let mut errors = self.running.as_mut().map_or_else(Vec::new, |running| running.keep_out(&ground));
        let Some(running) = &self.running else { return };
        let is_served = running.open.values().all(Open::is_served);
        let is_well = errors.is_empty() && self.hindrances.is_empty() && self.packets.wayless().is_empty();
        if is_served && is_well && self.ground.as_ref() == Some(&ground) {
            return;
        }
        let specs = specs(snapshot);
        let (mut wanted, wayless) = wanted(snapshot, &specs, Some(&running.open), &mut errors);
        for (name, open) in &running.open {
            // A way that is not there may be back in a moment.
            if !wanted.contains_key(name) && ground.has(name, open.index) {
                wanted.insert(name.clone(), (open.index, open.wanted.clone()));
            }
        }
        let (opened, changed) = self.open(&wanted, false, &mut errors);
        let Some(running) = &self.running else { return };
        let is_there = |(name, (index, _)): (&Arc<str>, &(u32, Wanted))| {
            let is_open = running.open.get(name).is_some_and(|open| open.index == *index);
            (is_open || opened.iter().any(|opened| opened.name == *name)).then(|| (name.clone(), *index))
        };
        let interfaces: Vec<(Arc<str>, u32)> = wanted.iter().filter_map(is_there).collect();
        self.ground = Some(ground);
        let wish = Wish::of(snapshot, self.passages.as_ref()).map_err(|error| errors.push(error)).ok();
        let is_same = interfaces.len() == running.open.len()
            && opened.is_empty()
            && changed.is_empty()
            && wish.as_ref().is_none_or(Wish::is_granted);
        if is_same {
            self.tell_of(wayless);
        } else {
            match look::machine(&interfaces) {
                Ok(machine) => {
                    let mut prepared = Prepared { machine, interfaces, opened, changed, wish, wayless };
                    errors
                        .extend(self.let_probes_through(&mut prepared, snapshot).err().map(|error| error.to_string()));
                    errors.extend(self.adopt(prepared, snapshot).await);
                }
                Err(error) => errors.push(format!("links, routes and neighbours cannot be read: {error}")),
            }
        }
        self.hinder(errors);
    }

    /// Says what stands in the way now and did not before, or that nothing does any more.
    fn hinder(&mut self, errors: Vec<String>) {
        for error in errors.iter().filter(|error| !self.hindrances.contains(error)) {
            tracing::error!(
                "{error}: its packets are not served until that is mended, which is looked for each second"
            );
        }
        if errors.is_empty() && !self.hindrances.is_empty() {
            tracing::info!("packets are taken from every interface again");
        }
        self.hindrances = errors;
    }

    /// Whether there are packets that this process serves.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends every thread. Packets are not served from here on, until something is prepared and committed again, or mended.
    pub fn stop(&mut self) {
        (self.ground, self.hindrances) = (None, Vec::new());
        self.passages.take().into_iter().for_each(Passages::stop);
        let Some(running) = self.running.take() else { return };
        running.open.into_values().for_each(Open::close);
        let _ = running.control.send(Order::Stop);
        if running.thread.join().is_err() {
            tracing::error!("the packet engine's control thread panicked");
        }
    }
}

impl Running {
    fn start(snapshot: &Arc<Snapshot>, secret: HashKey, packets: Arc<Packets>) -> io::Result<Running> {
        let sources = sources(&specs(snapshot));
        let shared = Arc::new(Shared::new(&sources.iter().copied().collect::<Vec<_>>(), secret));
        let force = Arc::new(ArcSwap::from_pointee(Force::none(snapshot, secret)));
        let (control, orders) = sync_channel(ORDERS);
        let herald = Herald::new(Speaker::open().map_err(io::Error::other)?);
        let beat = packets.beats.begin("the control thread of packets", clock::now());
        let side = Control::new(force.clone(), shared.clone(), herald, beat);
        let thread = std::thread::Builder::new().name("packets".to_owned()).spawn(move || side.run(&orders))?;
        packets.began(shared.clone());
        Ok(Running { force, shared, packets, control, thread, open: BTreeMap::new() })
    }

    /// Has ports of full NAT's addresses to lend, those of the snapshot in force and those of the next. False when there is no room.
    fn lend(&self, next: &[&PacketSpec]) -> bool {
        let force = self.force.load();
        let mut all = sources(&specs(&force.snapshot));
        all.extend(sources(next));
        self.shared.nat.add_sources(&all.into_iter().collect::<Vec<_>>())
    }

    /// Keeps the kernel out of every interface that is there. What stands in the way.
    fn keep_out(&mut self, ground: &Ground) -> Vec<String> {
        let open = self.open.iter_mut().filter(|(name, open)| ground.has(name, open.index));
        open.filter_map(|(name, open)| open.keep_out(name).err()).collect()
    }

    /// Returns once workers decide by the tables of `snapshot`.
    async fn publish(
        &self,
        snapshot: &Arc<Snapshot>,
        interfaces: &[(Arc<str>, u32)],
        machine: Machine,
    ) -> Result<(), String> {
        let (snapshot, interfaces, (done, told)) = (snapshot.clone(), interfaces.to_vec(), oneshot::channel());
        // The thread ends only with the engine.
        let _ = self.control.send(Order::Adopt { snapshot, interfaces, machine, done });
        match tokio::time::timeout(limits::TABLES_TIME, told).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(format!(
                "the tables of packet services are late by {:?}: the last ones serve on",
                limits::TABLES_TIME
            )),
        }
    }

    fn hands(&self) -> Hands {
        Hands {
            force: self.force.clone(),
            shared: self.shared.clone(),
            packets: self.packets.clone(),
            control: self.control.clone(),
        }
    }
}

fn specs(snapshot: &Snapshot) -> Vec<&PacketSpec> {
    packet_services(snapshot).map(|(_, spec)| spec).collect()
}

fn sources(specs: &[&PacketSpec]) -> BTreeSet<IpAddr> {
    specs.iter().flat_map(|spec| spec.sources.iter().copied()).collect()
}

/// The interfaces that packets come in by: those of VIPs, and where endpoints' answers are translated back, theirs. And the endpoints
/// for which there is none. `open`: what packets come in by now.
fn wanted(
    next: &Snapshot,
    specs: &[&PacketSpec],
    open: Option<&BTreeMap<Arc<str>, Open>>,
    errors: &mut Vec<String>,
) -> (Interfaces, Vec<Wayless>) {
    let mut all = Interfaces::new();
    for vip in next.vips() {
        let name = &vip.spec.interface;
        let found = match link::by_name(name) {
            Ok(found) => found,
            Err(error) => {
                errors.push(format!("vip {}: interface {name}: {error}", vip.spec.name));
                continue;
            }
        };
        let (_, wanted) = all.entry(name.clone()).or_insert_with(|| (found.index, Wanted::default()));
        wanted.clients = true;
        wanted.tagged |= vip.spec.vlan.is_some();
        for address in &vip.spec.addresses {
            wanted.rules.push(Rule::to(*address));
            let mac = vip.spec.mac.of(*address, found.mac.unwrap_or(MacAddr::ZERO));
            if found.mac != Some(mac) && !wanted.macs.contains(&mac) {
                wanted.macs.push(mac);
            }
        }
        let deaf = deaf::why(&found, found.whole().as_deref(), vip.spec.mac != VipMac::Interface);
        errors.extend(deaf.map(|deaf| {
            let (vip, what, cure) = (&vip.spec.name, deaf.what(), deaf.cure());
            format!("vip {vip}: interface {name} {what}: {cure}")
        }));
    }
    let own: Vec<IpAddr> = match link::addresses() {
        Ok(addresses) => addresses.into_iter().map(|address| address.address).collect(),
        Err(error) => {
            errors.push(format!("this machine's addresses cannot be read: {error}"));
            Vec::new()
        }
    };
    for source in sources(specs).iter().filter(|source| own.contains(source)) {
        errors.push(format!(
            "full NAT cannot use {source}: it is an address of this machine, which would answer endpoints itself; name one that \
             nobody has"
        ));
    }
    let wayless = answers(next, specs, open, &mut all);
    for (name, (_, wanted)) in &mut all {
        wanted.io = next.settings.packet_io;
        if wanted.rules.iter().any(Rule::is_source) {
            wanted.rules.extend(replies::own(own.iter().copied()).map(Rule::keep));
            // An endpoint may be a client: the kernel would forward that to an address that nobody has.
            wanted
                .rules
                .extend(next.vips().flat_map(|vip| vip.spec.addresses.iter().map(|address| Rule::to(*address))));
        }
        let mut seen = HashSet::new();
        wanted.rules.retain(|rule| seen.insert(rule.clone()));
        errors.extend(replies::excess(name, &wanted.rules));
    }
    (all, wayless)
}

/// Adds where endpoints' answers come in. The endpoints that no way leads to.
fn answers(
    next: &Snapshot,
    specs: &[&PacketSpec],
    open: Option<&BTreeMap<Arc<str>, Open>>,
    all: &mut Interfaces,
) -> Vec<Wayless> {
    let (mut wayless, mut ways) = (Vec::new(), Ways::look());
    let before = LazyCell::new(|| taken(open));
    for spec in specs {
        let Some(pool) = next.pool(spec.pool) else { continue };
        for endpoint in pool.endpoints.iter().filter(|endpoint| asks_routes(spec, pool, endpoint)) {
            let no_way = |why| Wayless { pool: pool.spec.name.clone(), endpoint: endpoint.name.clone(), why };
            match ways.to(endpoint.address.ip()) {
                Ok(found) if carries_no_frames(found) => {
                    wayless.push(no_way(format!("{} is no Ethernet interface", found.name)));
                }
                // Nothing comes back by here, and a route may come later.
                _ if spec.forward.is_direct() => {}
                Ok(found) => {
                    let (name, index) = (found.name.as_str().into(), found.index);
                    let (_, wanted) = all.entry(name).or_insert_with(|| (index, Wanted::default()));
                    wanted.rules.extend(replies_of(spec, endpoint));
                }
                Err(why) => {
                    wayless.push(no_way(why.to_owned()));
                    // It may be back in a moment: its answers are taken where they were.
                    for (name, index, rules) in before.iter() {
                        let kept: Vec<Rule> = replies_of(spec, endpoint).filter(|rule| rules.contains(rule)).collect();
                        if !kept.is_empty() {
                            let (_, wanted) = all.entry(name.clone()).or_insert_with(|| (*index, Wanted::default()));
                            wanted.rules.extend(kept);
                        }
                    }
                }
            }
        }
    }
    // Services may share a pool.
    let mut seen = HashSet::new();
    wayless.retain(|one| seen.insert((one.pool.clone(), one.endpoint.clone())));
    wayless
}

/// What may be an answer of an endpoint to be translated back.
fn replies_of(spec: &PacketSpec, endpoint: &Endpoint) -> impl Iterator<Item = Rule> {
    let is_nat = spec.forward == Forward::Nat;
    let rules = if is_nat { replies::rules(spec.ports.as_ref(), endpoint.address) } else { Vec::new() };
    rules.into_iter().chain(spec.sources.iter().map(|source| Rule::to(*source)))
}

/// What is taken from interfaces that are still there.
fn taken(open: Option<&BTreeMap<Arc<str>, Open>>) -> Vec<(Arc<str>, u32, HashSet<Rule>)> {
    let is_there =
        |(name, open): &(&Arc<str>, &Open)| link::by_index(open.index).is_ok_and(|link| *link.name == ***name);
    let rules =
        |(name, open): (&Arc<str>, &Open)| (name.clone(), open.index, open.wanted.rules.iter().cloned().collect());
    open.into_iter().flatten().filter(is_there).map(rules).collect()
}

/// Whether packets for an endpoint leave by the way to it: a frame to a MAC address of the file leaves by the VIP's interface.
fn asks_routes(spec: &PacketSpec, pool: &Pool, endpoint: &Endpoint) -> bool {
    let said = || pool.spec.endpoints.iter().find(|said| said.address == endpoint.address);
    spec.forward != Forward::Mac || said().is_none_or(|said| said.mac.is_none())
}

/// By a loopback one an endpoint is this machine, and a packet for it a loop, which is told of by that name.
fn carries_no_frames(link: &Link) -> bool {
    link.kind != link::Kind::Loopback && !deaf::is_ethernet(link)
}

/// Orders and events that may wait for the control thread. Events beyond are heard with a later packet.
const ORDERS: usize = 256;

#[cfg(test)]
mod tests;
