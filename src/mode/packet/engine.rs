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

use super::control::Control;
use super::deaf;
use super::herald::Herald;
use super::inputs::Machine;
use super::look;
use super::roster::Roster;
use super::taps;
use super::worker::{Post, WAIT};
use crate::base::{HashKey, MacAddr, WorkerId};
use crate::flow::decide::{Event, Shared};
use crate::flow::tables::{Inputs, Tables};
use crate::observe::Packets;
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
    /// A snapshot was committed.
    Adopt {
        snapshot: Arc<Snapshot>,
        interfaces: Vec<(Arc<str>, u32)>,
        machine: Machine,
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
}

struct Running {
    force: Arc<ArcSwap<Force>>,
    shared: Arc<Shared>,
    packets: Arc<Packets>,
    /// The addresses whose ports full NAT lends, fixed while the process lives.
    sources: BTreeSet<IpAddr>,
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
    threads: Vec<JoinHandle<()>>,
}

/// Which frames of an interface are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    rules: Vec<Rule>,
    macs: Vec<MacAddr>,
    /// By what they are to come, as the file has it.
    io: Option<Io>,
}

/// What a snapshot needs, opened.
pub struct Prepared {
    machine: Machine,
    interfaces: Vec<(Arc<str>, u32)>,
    opened: Vec<Opened>,
}

/// An interface whose taps are open, and whom nobody serves yet.
struct Opened {
    name: Arc<str>,
    index: u32,
    wanted: Wanted,
    io: Io,
    taps: Vec<Tap>,
}

impl Engine {
    /// `secret` is a key of this process, `packets` is where the engine tells of itself.
    pub fn new(workers: usize, secret: HashKey, packets: Arc<Packets>) -> Engine {
        Engine { workers, secret, packets, running: None }
    }

    /// Opens what `next` needs and this does not have.
    ///
    /// # Errors
    /// Every interface that is not there, or on which no packet socket can be opened; nothing has changed then.
    pub fn prepare(&self, next: &Snapshot) -> Result<Prepared, Vec<String>> {
        let mut errors = Vec::new();
        let specs: Vec<&PacketSpec> = packet_services(next).collect();
        if let Some(running) = &self.running
            && sources(&specs) != running.sources
        {
            errors.push(
                "the addresses of full NAT (`source`) cannot change while running: restart to change them".to_owned(),
            );
        }
        let wanted = wanted(next, &specs, &mut errors);
        let mut opened = Vec::new();
        let known = self.running.as_ref().map(|running| &running.open);
        for (name, (index, wanted)) in &wanted {
            if known
                .is_some_and(|open| open.get(name).is_some_and(|open| open.index == *index && open.wanted == *wanted))
            {
                continue;
            }
            let options = Options {
                interface: *index,
                rules: Some(&wanted.rules),
                macs: &wanted.macs,
                wait: WAIT,
                ..Options::default()
            };
            match taps::open(wanted.io, name, self.workers, &options) {
                Ok((io, taps)) => {
                    opened.push(Opened { name: name.clone(), index: *index, wanted: wanted.clone(), io, taps });
                }
                Err(error) => errors.push(format!("interface {name}: {error}")),
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
        if errors.is_empty() { Ok(Prepared { machine, interfaces, opened }) } else { Err(errors) }
    }

    /// Serves `snapshot` with what was prepared for it.
    ///
    /// # Errors
    /// A thread cannot be made.
    pub fn commit(&mut self, prepared: Prepared, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        let Prepared { machine, interfaces, opened } = prepared;
        if self.running.is_none() && interfaces.is_empty() {
            return Ok(());
        }
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(Running::start(snapshot, self.secret, self.packets.clone())?),
        };
        // The new tables first: a tap that opens finds them.
        let order = Order::Adopt { snapshot: snapshot.clone(), interfaces: interfaces.clone(), machine };
        // It ends only with the engine.
        let _ = running.control.send(order);
        for opened in opened {
            let name = opened.name.clone();
            // Nobody serves twice, and the kernel stays out of it in between.
            let before = running.open.remove(&name).map(Open::close);
            let open = running.serve(opened)?;
            drop(before);
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
        let Some(running) = self.running else { return };
        running.open.into_values().map(Open::close).for_each(drop);
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
        Ok(Running { force, shared, packets, sources, control, thread, open: BTreeMap::new() })
    }

    fn serve(&self, opened: Opened) -> io::Result<Open> {
        let Opened { name, index, wanted, io, taps } = opened;
        let cells = self.packets.interface(&name);
        cells.set_engine(io.engine());
        tracing::info!(interface = &*name, io = io.word(), workers = taps.len(), "packets are taken from an interface");
        let ingress = Ingress::new(index, &wanted.rules).map_err(io::Error::other)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::with_capacity(taps.len());
        for (worker, tap) in (0_u16..).zip(taps) {
            let post = Post {
                id: WorkerId(worker),
                interface: index,
                force: self.force.clone(),
                shared: self.shared.clone(),
                control: self.control.clone(),
                packets: self.packets.clone(),
                cells: cells.clone(),
                stop: stop.clone(),
            };
            threads.push(std::thread::Builder::new().name(format!("packets-{worker}")).spawn(move || post.run(tap))?);
        }
        Ok(Open { index, wanted, ingress, stop, threads })
    }
}

impl Open {
    /// Ends its threads. Until what this gives is dropped, the kernel does not get the packets.
    fn close(self) -> Ingress {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a packet worker panicked");
            }
        }
        self.ingress
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
