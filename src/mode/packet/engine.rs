//! Shell: the packet engine's taps and threads, and how a snapshot becomes theirs.
//!
//! `prepare` opens the taps that a snapshot needs and changes nothing; only `commit` lets anyone see it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::control::Control;
use super::deaf;
use super::herald::Herald;
use super::inputs::Machine;
use super::look;
use super::roster::Roster;
use super::taps;
use super::through::{Passages, Scene, Wish};
use super::worker::{Post, WAIT, Want};
use crate::base::{HashKey, MacAddr, WorkerId, limits};
use crate::flow::decide::{Event, Shared};
use crate::flow::tables::{Inputs, Tables};
use crate::observe::Packets;
use crate::seam::through::Register;
use crate::state::{Forward, Io, PacketSpec, Snapshot, Traffic};
use crate::sys::classify::Rule;
use crate::sys::ingress::Ingress;
use crate::sys::packet::{Options, Speaker, Tap};
use crate::sys::{link, neighbour};

/// What workers decide by, swapped whole.
pub(super) struct Force {
    pub tables: Tables,
    pub roster: Roster,
    pub snapshot: Arc<Snapshot>,
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
}

struct Running {
    force: Arc<ArcSwap<Force>>,
    shared: Arc<Shared>,
    packets: Arc<Packets>,
    control: SyncSender<Order>,
    thread: JoinHandle<()>,
    open: BTreeMap<Arc<str>, Open>,
}

/// An interface that is served.
struct Open {
    index: u32,
    wanted: Wanted,
    /// Keeps the kernel from handling the same packets.
    ingress: Ingress,
    stop: Arc<AtomicBool>,
    workers: Vec<(SyncSender<Want>, JoinHandle<()>)>,
}

/// Which frames of an interface are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub rules: Vec<Rule>,
    pub macs: Vec<MacAddr>,
    /// By what they are to come, as the file has it.
    io: Option<Io>,
}

/// What a snapshot needs, opened.
pub struct Prepared {
    machine: Machine,
    interfaces: Vec<(Arc<str>, u32)>,
    opened: Vec<Opened>,
    /// Interfaces that are served already, and by which other frames are wanted now.
    changed: Vec<(Arc<str>, Wanted)>,
    /// For probes through VIPs. `None`: it is fulfilled.
    wish: Option<Wish>,
}

/// An interface whose taps are open, and whom nobody serves yet.
struct Opened {
    name: Arc<str>,
    index: u32,
    wanted: Wanted,
    io: Io,
    taps: Vec<Tap>,
    ingress: Ingress,
}

impl Engine {
    /// `secret` is a key of this process, `packets` is where the engine tells of itself, `register` knows whose packets are on
    /// their way through a VIP.
    pub fn new(workers: usize, secret: HashKey, packets: Arc<Packets>, register: Arc<Register>) -> Engine {
        Engine { workers, secret, packets, running: None, register, passages: None }
    }

    /// Opens what `next` needs and this does not have.
    ///
    /// # Errors
    /// Every interface that is not there, or on which no packet socket can be opened; nothing has changed then.
    pub fn prepare(&self, next: &Snapshot) -> Result<Prepared, Vec<String>> {
        let mut errors = Vec::new();
        let specs: Vec<&PacketSpec> = packet_services(next).collect();
        if self.running.as_ref().is_some_and(|running| !running.lend(&specs)) {
            errors.push(format!(
                "full NAT (`source`) has room for {} addresses beside those of before, on which flows have not ended yet: change fewer at a \
                 time, or try again later",
                limits::NAT_SOURCES
            ));
        }
        let wanted = wanted(next, &specs, &mut errors);
        let (mut opened, mut changed) = (Vec::new(), Vec::new());
        let known = self.running.as_ref().map(|running| &running.open);
        for (name, (index, wanted)) in &wanted {
            match known.and_then(|open| open.get(name)).filter(|open| open.index == *index) {
                Some(open) if open.wanted == *wanted => {}
                Some(open) if open.wanted.io == wanted.io => changed.push((name.clone(), wanted.clone())),
                _ => match Opened::new(name, *index, self.workers, wanted) {
                    Ok(taps) => opened.push(taps),
                    Err(error) => errors.push(format!("interface {name}: {error}")),
                },
            }
        }
        let interfaces: Vec<(Arc<str>, u32)> = wanted.iter().map(|(name, (index, _))| (name.clone(), *index)).collect();
        let machine = match look::machine(&interfaces) {
            Ok(machine) => machine,
            Err(error) => {
                errors.push(format!("links, routes and neighbours cannot be read: {error}"));
                Machine::default()
            }
        };
        let wish = Wish::of(next, self.passages.as_ref()).map_err(|error| errors.push(error)).ok();
        let prepared = Prepared { machine, interfaces, opened, changed, wish };
        if errors.is_empty() { Ok(prepared) } else { Err(errors) }
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
    /// A thread cannot be made.
    pub async fn commit(&mut self, prepared: Prepared, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        let Prepared { machine, interfaces, opened, changed, wish: _ } = prepared;
        if self.running.is_none() && interfaces.is_empty() {
            return Ok(());
        }
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(Running::start(snapshot, self.secret, self.packets.clone())?),
        };
        // The new tables first: a tap that opens finds them.
        running.publish(snapshot, &interfaces, machine).await;
        for (name, wanted) in changed {
            if let Some(open) = running.open.get_mut(&name) {
                open.want(&name, wanted).await;
            }
        }
        for opened in opened {
            let name = opened.name.clone();
            // Nobody serves twice. The kernel has been kept out by the new one since it was prepared.
            if let Some(before) = running.open.remove(&name) {
                before.close();
            }
            let open = running.serve(opened)?;
            running.open.insert(name, open);
        }
        let gone: Vec<Arc<str>> =
            running.open.keys().filter(|name| interfaces.iter().all(|(wanted, _)| wanted != *name)).cloned().collect();
        for name in gone {
            if let Some(open) = running.open.remove(&name) {
                open.close();
            }
            running.packets.forget(&name);
        }
        Ok(())
    }

    /// Ends every thread. Packets are not served from here on.
    pub fn stop(self) {
        self.passages.into_iter().for_each(Passages::stop);
        let Some(running) = self.running else { return };
        running.open.into_values().for_each(Open::close);
        let _ = running.control.send(Order::Stop);
        if running.thread.join().is_err() {
            tracing::error!("the packet engine's control thread panicked");
        }
    }
}

impl Running {
    fn start(snapshot: &Arc<Snapshot>, secret: HashKey, packets: Arc<Packets>) -> io::Result<Running> {
        let sources = sources(&packet_services(snapshot).collect::<Vec<_>>());
        let shared = Arc::new(Shared::new(&sources.iter().copied().collect::<Vec<_>>(), secret));
        let nothing = Inputs {
            key: secret,
            links: Vec::new(),
            routes: Vec::new(),
            neighbors: Vec::new(),
            vips: Vec::new(),
            services: Vec::new(),
        };
        let empty = Force { tables: Tables::build(nothing), roster: Roster::default(), snapshot: snapshot.clone() };
        let force = Arc::new(ArcSwap::from_pointee(empty));
        let (control, orders) = sync_channel(ORDERS);
        let herald = Herald::new(Speaker::open().map_err(io::Error::other)?);
        let side = Control::new(force.clone(), shared.clone(), herald);
        let thread = std::thread::Builder::new().name("packets".to_owned()).spawn(move || side.run(&orders))?;
        packets.began(shared.clone());
        Ok(Running { force, shared, packets, control, thread, open: BTreeMap::new() })
    }

    /// Has ports of full NAT's addresses to lend, those of the snapshot in force and those of the next. False when there is no room.
    fn lend(&self, next: &[&PacketSpec]) -> bool {
        let force = self.force.load();
        let mut all = sources(&packet_services(&force.snapshot).collect::<Vec<_>>());
        all.extend(sources(next));
        self.shared.nat.add_sources(&all.into_iter().collect::<Vec<_>>())
    }

    /// Returns once workers decide by the tables of `snapshot`.
    async fn publish(&self, snapshot: &Arc<Snapshot>, interfaces: &[(Arc<str>, u32)], machine: Machine) {
        let (snapshot, interfaces, (done, told)) = (snapshot.clone(), interfaces.to_vec(), oneshot::channel());
        // The thread ends only with the engine.
        let _ = self.control.send(Order::Adopt { snapshot, interfaces, machine, done });
        if !matches!(tokio::time::timeout(limits::TABLES_TIME, told).await, Ok(Ok(()))) {
            tracing::error!(patience = ?limits::TABLES_TIME, "the tables of packet services are late: the last ones serve on");
        }
    }

    fn serve(&self, opened: Opened) -> io::Result<Open> {
        let Opened { name, index, wanted, io, taps, ingress } = opened;
        let cells = self.packets.interface(&name);
        cells.set_engine(io.engine());
        tracing::info!(interface = &*name, io = io.word(), workers = taps.len(), "packets are taken from an interface");
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::with_capacity(taps.len());
        for (worker, tap) in (0_u16..).zip(taps) {
            let (wants, wanted) = sync_channel(WANTS);
            let post = Post {
                id: WorkerId(worker),
                interface: index,
                force: self.force.clone(),
                shared: self.shared.clone(),
                control: self.control.clone(),
                packets: self.packets.clone(),
                cells: cells.clone(),
                wanted,
                stop: stop.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("packets-{worker}"));
            workers.push((wants, thread.spawn(move || post.run(tap))?));
        }
        Ok(Open { index, wanted, ingress, stop, workers })
    }
}

impl Open {
    /// From now on other frames are wanted. The taps stay, so that no frame is lost and none is seen twice.
    async fn want(&mut self, name: &str, wanted: Wanted) {
        let mut waiting = Vec::with_capacity(self.workers.len());
        for (wants, _) in &self.workers {
            let (done, told) = oneshot::channel();
            let _ = wants.send(Want { wanted: wanted.clone(), done });
            waiting.push(told);
        }
        let mut all = true;
        for told in waiting {
            all &= told.await.unwrap_or(false);
        }
        // What the kernel is kept from must be served by then.
        match self.ingress.replace(&wanted.rules) {
            Err(error) => tracing::error!(interface = name, %error, "the kernel handles packets of the engine too"),
            // Otherwise the next reload tries again.
            Ok(()) if all => self.wanted = wanted,
            Ok(()) => {}
        }
    }

    fn close(self) {
        self.stop.store(true, Relaxed);
        for (_, thread) in self.workers {
            if thread.join().is_err() {
                tracing::error!("a packet worker panicked");
            }
        }
    }
}

impl Opened {
    /// The kernel is kept out from here on: that needs a privilege which must not be found missing at the commit.
    fn new(name: &Arc<str>, index: u32, workers: usize, wanted: &Wanted) -> Result<Opened, String> {
        let options = Options {
            interface: index,
            rules: Some(&wanted.rules),
            macs: &wanted.macs,
            wait: WAIT,
            ..Options::default()
        };
        let (io, taps) = taps::open(wanted.io, name, workers, &options).map_err(|error| error.to_string())?;
        let ingress = Ingress::new(index, &wanted.rules).map_err(|error| error.to_string())?;
        Ok(Opened { name: name.clone(), index, wanted: wanted.clone(), io, taps, ingress })
    }
}

fn packet_services(snapshot: &Snapshot) -> impl Iterator<Item = &PacketSpec> {
    snapshot.services().filter_map(|service| match &service.traffic {
        Traffic::Packet(spec) => Some(spec),
        Traffic::L4(_) | Traffic::L7(_) => None,
    })
}

fn sources(specs: &[&PacketSpec]) -> BTreeSet<IpAddr> {
    specs.iter().flat_map(|spec| spec.sources.iter().copied()).collect()
}

/// The interfaces that packets come in by: those of VIPs, and where endpoints' answers are translated back, theirs.
fn wanted(next: &Snapshot, specs: &[&PacketSpec], errors: &mut Vec<String>) -> BTreeMap<Arc<str>, (u32, Wanted)> {
    let mut all: BTreeMap<Arc<str>, (u32, Wanted)> = BTreeMap::new();
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
        for address in &vip.spec.addresses {
            wanted.rules.push(Rule::to(*address));
            let mac = vip.spec.mac.of(*address, found.mac.unwrap_or(MacAddr::ZERO));
            if found.mac != Some(mac) && !wanted.macs.contains(&mac) {
                wanted.macs.push(mac);
            }
        }
        errors.extend(deaf::why(&vip.spec, &found));
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
    for spec in specs.iter().filter(|spec| matches!(spec.forward, Forward::Nat | Forward::FullNat)) {
        let Some(pool) = next.pool(spec.pool) else { continue };
        for endpoint in &pool.endpoints {
            let address = endpoint.address.ip();
            let way = neighbour::route(address).and_then(|route| link::by_index(route.interface));
            match way {
                Ok(found) => {
                    let entry = all.entry(found.name.into()).or_insert_with(|| (found.index, Wanted::default()));
                    if spec.forward == Forward::Nat {
                        entry.1.rules.push(Rule::from(address));
                        entry.1.rules.extend(own.iter().map(|own| Rule::keep(*own)));
                    }
                    entry.1.rules.extend(spec.sources.iter().map(|source| Rule::to(*source)));
                }
                Err(error) => errors.push(format!("endpoint {}: no way to it: {error}", endpoint.name)),
            }
        }
    }
    for (_, wanted) in all.values_mut() {
        wanted.io = next.settings.packet_io;
        let mut seen = Vec::new();
        wanted.rules.retain(|rule| {
            !seen.contains(rule) && {
                seen.push(rule.clone());
                true
            }
        });
    }
    all
}

/// Orders and events that may wait for the control thread. Events beyond are heard with a later packet.
const ORDERS: usize = 256;
/// Orders that may wait for a worker: a reload waits for its own.
const WANTS: usize = 1;
