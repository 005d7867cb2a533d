//! Shell: packets of probes that go through a VIP: read from a device of ours, framed for the one endpoint that is probed, sent.
//!
//! A thread of its own with tables of its own, which hold every endpoint and no slots: the engine's are built when the first
//! probes have told who is up, and traffic must not make probes late. A packet whose endpoint has no MAC address yet is kept for
//! a moment: a SYN that is lost is repeated after a second, when its probe has failed. What passes here counts as probes, and as
//! no service's packets.
//!
//! Not here: which endpoint (`seam::through`), and how a frame is made (`flow`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::inputs::{self, Machine};
use super::look;
use super::worker::WAIT;
use crate::base::{HashKey, Moment, Reason, clock, limits};
use crate::flow::decide::{Action, Event, FrameBuf, Goal, Shared, towards};
use crate::flow::{Fragments, Nat, Records, Tables};
use crate::seam::through::{self, Ends, Fate, Register};
use crate::state::Snapshot;
use crate::sys::neighbour;
use crate::sys::packet::Speaker;
use crate::sys::tun::Tun;
use crate::wire::packet::Packet;

/// The thread. Ends when told to.
pub(super) struct Passages {
    register: Arc<Register>,
    scene: Arc<ArcSwap<Scene>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What packets are framed by.
pub(super) struct Scene {
    pub snapshot: Arc<Snapshot>,
    /// Those that frames may leave by.
    pub interfaces: Vec<(Arc<str>, u32)>,
}

/// What a snapshot needs, made before it is in force.
pub(super) struct Wish {
    wanted: bool,
    /// What there is not yet.
    made: Option<(Tun, Speaker)>,
}

impl Wish {
    /// # Errors
    /// The device or the socket that frames leave by cannot be had.
    pub fn of(next: &Snapshot, current: Option<&Passages>) -> Result<Wish, String> {
        let wanted = through::is_wanted(next);
        if !wanted || current.is_some_and(|current| !current.thread.is_finished()) {
            return Ok(Wish { wanted, made: None });
        }
        let said = |error: &dyn std::error::Error| format!("probes through a VIP: {error}");
        let tun = Tun::open().map_err(|error| said(&error))?;
        let speaker = Speaker::open().map_err(|error| said(&error))?;
        Ok(Wish { wanted, made: Some((tun, speaker)) })
    }

    /// Whether there is nothing to make.
    pub fn is_granted(&self) -> bool {
        self.made.is_none()
    }

    /// Makes `current` what was wished for.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn fulfil(self, current: &mut Option<Passages>, scene: Scene, register: &Arc<Register>) -> io::Result<()> {
        if (!self.wanted || self.made.is_some())
            && let Some(before) = current.take()
        {
            before.stop();
        }
        match (self.made, &*current) {
            (Some((tun, speaker)), _) => *current = Some(Passages::start(tun, speaker, scene, register.clone())?),
            (None, Some(current)) => current.scene.store(Arc::new(scene)),
            (None, None) => {}
        }
        Ok(())
    }
}

impl Passages {
    fn start(tun: Tun, speaker: Speaker, scene: Scene, register: Arc<Register>) -> io::Result<Passages> {
        let (scene, stop) = (Arc::new(ArcSwap::from_pointee(scene)), Arc::new(AtomicBool::new(false)));
        let [v4, v6] = [IpAddr::from([0; 4]), IpAddr::from([0; 16])].map(|any| tun.mark(any).unwrap_or(0));
        let mut reader = Reader::new(register.clone(), scene.clone(), speaker);
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("passages".to_owned()).spawn(move || {
            let outcome = reader.run(&tun, &stopped);
            // Whoever probes must not wait for answers to what nobody reads.
            reader.register.close();
            if let Err(error) = outcome {
                tracing::error!(%error, "the device for probes through a VIP is lost: they are made again after the next reload, or when links or addresses change");
            }
        })?;
        register.open(v4, v6);
        Ok(Passages { register, scene, stop, thread })
    }

    pub fn stop(self) {
        self.register.close();
        self.stop.store(true, Relaxed);
        if self.thread.join().is_err() {
            tracing::error!("the thread for probes through a VIP panicked");
        }
    }
}

struct Reader {
    register: Arc<Register>,
    scene: Arc<ArcSwap<Scene>>,
    speaker: Speaker,
    /// What `tables` were built from, and when the machine was looked at.
    built: Option<(Arc<Scene>, Machine)>,
    looked_at: Moment,
    tables: Tables,
    shared: Shared,
    kept: Vec<Kept>,
    random: fastrand::Rng,
}

/// A packet that waits for its way.
struct Kept {
    datagram: Vec<u8>,
    goal: Goal,
    fate: Arc<Mutex<Fate>>,
    until: Moment,
    asked: bool,
}

impl Reader {
    fn new(register: Arc<Register>, scene: Arc<ArcSwap<Scene>>, speaker: Speaker) -> Reader {
        let key = scene.load().snapshot.settings.hash_key;
        let tables = Tables::build(inputs::of_probes(&scene.load().snapshot, &Machine::default()));
        let (kept, random) = (Vec::new(), fastrand::Rng::new());
        let (built, looked_at, shared) = (None, Moment::ZERO, nothing_shared(key));
        Reader { register, scene, speaker, built, looked_at, tables, shared, kept, random }
    }

    fn run(&mut self, tun: &Tun, stop: &AtomicBool) -> io::Result<()> {
        let mut buffer = vec![0; limits::PROBE_FRAME_BYTES];
        while !stop.load(Relaxed) {
            let wait = if self.kept.is_empty() { WAIT } else { AGAIN };
            let length = tun.receive(&mut buffer, wait)?;
            let now = clock::now();
            self.look(now);
            for packet in std::mem::take(&mut self.kept) {
                self.pass(packet, now);
            }
            // What else the kernel sends to any device (listeners of groups) is no probe's.
            if let Some(datagram) = buffer.get(..length)
                && let Some(ends) = ends(datagram)
                && let Some((goal, fate)) = self.register.find(&ends)
            {
                self.pass(Kept { datagram: datagram.to_vec(), goal, fate, until: now + KEPT, asked: false }, now);
            }
        }
        Ok(())
    }

    /// Looks at the configuration, and at the machine when it is time: soon, while packets wait for what the kernel hears.
    fn look(&mut self, now: Moment) {
        let scene = self.scene.load_full();
        let same = self.built.as_ref().filter(|(built, _)| Arc::ptr_eq(built, &scene));
        let every = if self.kept.is_empty() { MACHINE } else { AGAIN };
        if same.is_some() && now.since(self.looked_at) < every {
            return;
        }
        self.looked_at = now;
        match look::machine(&scene.interfaces) {
            Ok(machine) if same.is_some_and(|(_, before)| *before == machine) => {}
            Ok(machine) => {
                self.tables = Tables::build(inputs::of_probes(&scene.snapshot, &machine));
                self.built = Some((scene, machine));
            }
            // The engine says so; the last known serve on.
            Err(error) => tracing::debug!(%error, "links, routes and neighbours cannot be read"),
        }
    }

    /// Sends a packet on, or keeps it, or lets it go; its probe learns which.
    fn pass(&mut self, mut packet: Kept, now: Moment) {
        let mut room = [0; ROOM + limits::PROBE_FRAME_BYTES];
        let length = packet.datagram.len();
        if let Some(place) = room.get_mut(ROOM..ROOM + length) {
            place.copy_from_slice(&packet.datagram);
        }
        // The device takes no packet that is too long for this.
        let Some(mut frame) = FrameBuf::new(&mut room, ROOM, length, 0) else { return };
        let entropy = self.random.u64(..);
        let verdict = towards(&self.tables, &self.shared, now, entropy, packet.goal, &mut frame);
        match verdict.action {
            Action::Send { interface } => {
                *packet.fate.lock() = match self.speaker.say(interface, frame.bytes()) {
                    Ok(()) => Fate::Sent,
                    Err(error) => {
                        tracing::warn!(%error, interface, "a probe's packet cannot be sent");
                        Fate::Unsent
                    }
                };
            }
            Action::Drop(reason) => {
                // Not in the tables: they follow the configuration at once, so this is no word about the endpoint.
                let unknown = matches!(reason, Reason::NoEndpoint | Reason::NoService);
                *packet.fate.lock() = if unknown { Fate::Unsent } else { Fate::Lost(reason) };
                let Some(Event::Unresolved { link, address }) = verdict.event else { return };
                if !packet.asked {
                    packet.asked = true;
                    if let Err(error) = neighbour::solicit(link.interface, address) {
                        tracing::debug!(%address, %error, "the kernel does not ask for a neighbour");
                    }
                }
                if now < packet.until && self.kept.len() < limits::PROBES_IN_FLIGHT {
                    self.kept.push(packet);
                }
            }
            // None comes of one packet that goes to an endpoint.
            Action::Reply | Action::Divide | Action::Pass => {}
        }
    }
}

/// What packets change, for packets that change nothing.
fn nothing_shared(key: HashKey) -> Shared {
    let nat = Nat::new(1, &[], &limits::NAT_PORTS, key);
    Shared::with(Records::new(1, key), nat, Fragments::new(1, key), key)
}

/// Both ends of a connection that a packet of ours belongs to.
fn ends(datagram: &[u8]) -> Option<Ends> {
    let packet = Packet::parse(datagram).ok()?;
    let ports = packet.ports()?;
    let own = SocketAddr::new(packet.source, ports.source);
    Some(Ends::new(own, SocketAddr::new(packet.destination, ports.destination)))
}

/// Room before a datagram for what any service puts there.
const ROOM: usize = FrameBuf::HEADROOM + 64;
/// How long a packet waits for its way, and how often that is looked for. Longer, and TCP has repeated it.
const KEPT: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(10);
/// How often links, routes and neighbours are read again otherwise.
const MACHINE: Duration = Duration::from_secs(1);
