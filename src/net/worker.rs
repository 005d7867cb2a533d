//! Io: one worker: a thread with a runtime of its own, and what its connections share without locks.
//!
//! A worker's clones of the snapshot are `Rc`s, so that a request costs no shared reference count (DESIGN §5).

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use tokio::sync::mpsc;

use super::buffer::Buffers;
use super::pressure::Pressure;
use super::timer::Timers;
use crate::base::{Moment, PoolId, ServiceId, WorkerId, clock, limits};
use crate::observe::{Beats, Packets, access};
use crate::seam::through::Register;
use crate::state::{Endpoint, Snapshot};
use crate::sys::Pipes;

/// What the data path tells the control side. Sent without waiting; a full queue loses the news and counts it.
#[derive(Debug)]
pub enum ControlEvent {
    /// This many connects in a row have failed at an endpoint.
    ConnectFailing { pool: PoolId, endpoint: Arc<Endpoint>, failures: u32 },
    /// This many requests in a row have failed at an endpoint, connects included.
    Erring { pool: PoolId, endpoint: Arc<Endpoint>, errors: u32 },
}

/// What all workers of the process share.
pub struct Crew {
    /// The one cell that a reload swaps.
    pub snapshot: ArcSwap<Snapshot>,
    pub control: mpsc::Sender<ControlEvent>,
    pub control_lost: AtomicU64,
    pub access: access::Sink,
    /// Connections that each worker carries.
    loads: Box<[CachePadded<AtomicU32>]>,
    /// Where each worker takes connections that another one accepted.
    handover: Box<[mpsc::Sender<Handed>]>,
    draining: AtomicBool,
    /// The prober is cut off, and what is known of endpoints stays.
    pub probes_static: AtomicBool,
    /// When the probe that waits for longest was due, in ns; [`Moment::NEVER`] while none waits.
    probe_due: AtomicU64,
    /// How often probes have found an endpoint down, its pool's view without it published.
    downs: AtomicU64,
    pub pressure: Pressure,
    /// The loops that the process lives by.
    pub beats: Arc<Beats>,
    /// Where this host's default routes lead: a client of that address is hardly one (`state::Clients`).
    pub gateways: ArcSwap<Vec<IpAddr>>,
    /// What the packet engine tells of itself.
    pub packets: Arc<Packets>,
    /// Whose packets are on their way through a VIP.
    pub passages: Arc<Register>,
}

/// A connection on its way from the worker that accepted it to the one that carries it.
pub struct Handed {
    pub service: ServiceId,
    pub stream: std::net::TcpStream,
    pub peer: SocketAddr,
}

impl Crew {
    /// The crew of `workers` workers, and for each the receiving end of its handovers.
    pub fn new(
        workers: usize,
        snapshot: Arc<Snapshot>,
        control: mpsc::Sender<ControlEvent>,
        access: access::Sink,
    ) -> (Arc<Crew>, Vec<mpsc::Receiver<Handed>>) {
        let (handover, receivers): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| mpsc::channel(limits::HANDOVER_QUEUE)).unzip();
        let beats = Arc::<Beats>::default();
        let crew = Crew {
            snapshot: ArcSwap::new(snapshot),
            control,
            control_lost: AtomicU64::new(0),
            access,
            loads: (0..workers).map(|_| CachePadded::default()).collect(),
            handover: handover.into(),
            draining: AtomicBool::new(false),
            probes_static: AtomicBool::new(false),
            probe_due: AtomicU64::new(Moment::NEVER.0),
            downs: AtomicU64::new(0),
            pressure: Pressure::default(),
            packets: Arc::new(Packets::among(beats.clone())),
            beats,
            gateways: ArcSwap::default(),
            passages: Arc::default(),
        };
        (Arc::new(crew), receivers)
    }

    /// From now on connections finish what they carry and take no more.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whoever waits for an answer of an endpoint that is down now may look elsewhere.
    pub fn note_down(&self) {
        self.downs.fetch_add(1, Relaxed);
    }

    /// Connections open on all workers.
    pub fn connections(&self) -> u32 {
        self.loads.iter().map(|load| load.load(Relaxed)).sum()
    }

    pub fn load(&self, worker: WorkerId) -> &AtomicU32 {
        &self.loads[worker.index()]
    }

    /// The worker to carry a connection that `accepted_by` took: itself, unless another carries clearly less. The margin keeps
    /// a connection where its cache is warm while the kernel spreads well.
    pub fn carrier(&self, accepted_by: WorkerId) -> WorkerId {
        let own = self.load(accepted_by).load(Relaxed);
        let least = self.loads.iter().enumerate().min_by_key(|(_, load)| load.load(Relaxed));
        match least {
            Some((index, load)) if own > load.load(Relaxed) + own / 8 + 4 => {
                WorkerId(u16::try_from(index).unwrap_or(accepted_by.0))
            }
            _ => accepted_by,
        }
    }

    /// Hands a connection to `worker`.
    ///
    /// # Errors
    /// The connection, when the worker's queue is full.
    pub fn hand_over(&self, worker: WorkerId, handed: Handed) -> Result<(), Handed> {
        self.handover[worker.index()].try_send(handed).map_err(|error| match error {
            mpsc::error::TrySendError::Full(handed) | mpsc::error::TrySendError::Closed(handed) => handed,
        })
    }

    /// The next probe is due then; `None` while none waits. Told by the keeper of health whenever it has looked: where it does not
    /// come to look, the moment stays and passes.
    pub fn next_probe_due(&self, due: Option<Moment>) {
        self.probe_due.store(due.unwrap_or(Moment::NEVER).0, Relaxed);
    }

    /// How long the probe that waits for longest should have run by now.
    pub fn probes_overdue(&self, now: Moment) -> Duration {
        now.since(Moment(self.probe_due.load(Relaxed)))
    }

    /// Tells the control side, or counts that it could not be told.
    pub fn tell(&self, event: ControlEvent) {
        if self.control.try_send(event).is_err() {
            self.control_lost.fetch_add(1, Relaxed);
        }
    }
}

/// A worker's hold on a snapshot. Connections count their references to this, which no other worker touches.
pub struct Held(Arc<Snapshot>);

impl Held {
    pub fn shared(&self) -> &Arc<Snapshot> {
        &self.0
    }
}

impl std::ops::Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// What the connections of one worker share.
pub struct Worker {
    pub id: WorkerId,
    pub crew: Arc<Crew>,
    pub timers: Rc<Timers>,
    pub buffers: Rc<Buffers>,
    pub pipes: Rc<Pipes>,
    snapshot: RefCell<Rc<Held>>,
    /// Snapshots with services that the one in force does not have, and until when those are still served: what stood in a
    /// removed listener's queue, and requests on their way, must find their service.
    leaving: RefCell<Vec<(Moment, Rc<Held>)>>,
    random: RefCell<fastrand::Rng>,
    draining_since: Cell<Option<Moment>>,
    /// Of the crew's `downs`, those that this worker's connections were told of.
    downs: Cell<u64>,
}

impl Worker {
    pub fn new(id: WorkerId, crew: Arc<Crew>) -> Worker {
        let snapshot = crew.snapshot.load_full();
        Worker {
            id,
            crew,
            timers: Rc::new(Timers::new(clock::now())),
            buffers: Rc::default(),
            pipes: Rc::default(),
            snapshot: RefCell::new(Rc::new(Held(snapshot))),
            leaving: RefCell::default(),
            random: RefCell::new(fastrand::Rng::new()),
            draining_since: Cell::new(None),
            downs: Cell::new(0),
        }
    }

    /// The snapshot in force. Take it once a request or connection, and do not hold it across a tunnel.
    pub fn snapshot(&self) -> Rc<Held> {
        self.snapshot.borrow().clone()
    }

    /// The snapshot that has `service`: the one in force, or for a removed service that drains the last one that had it.
    pub fn snapshot_of(&self, service: ServiceId) -> Option<Rc<Held>> {
        let snapshot = self.snapshot();
        if snapshot.service(service).is_some() {
            return Some(snapshot);
        }
        let leaving = self.leaving.borrow();
        leaving.iter().rev().find(|(_, old)| old.service(service).is_some()).map(|(_, old)| old.clone())
    }

    /// Takes over the snapshot that was committed, and wakes whoever waits, so that connections of removed services end.
    pub fn refresh(&self) {
        let next = Rc::new(Held(self.crew.snapshot.load_full()));
        let old = self.snapshot.replace(next.clone());
        if old.services().any(|service| next.service(service.id).is_none()) {
            self.leaving.borrow_mut().push((clock::now() + next.settings.drain_timeout, old));
        }
        self.timers.wake_all();
    }

    /// Lets go of removed services whose time to drain is over, and wakes whoever still waits in one.
    pub fn forget_leaving(&self, now: Moment) {
        let mut leaving = self.leaving.borrow_mut();
        let before = leaving.len();
        leaving.retain(|(until, _)| now < *until);
        let over = leaving.len() < before;
        drop(leaving);
        if over {
            self.timers.wake_all();
        }
    }

    /// Wakes whoever waits, where an endpoint has gone down since: its answer may never come.
    pub fn look_for_downs(&self) {
        let downs = self.crew.downs.load(Relaxed);
        if self.downs.replace(downs) != downs {
            self.timers.wake_all();
        }
    }

    /// Gives back what is kept for later, and has idle connections look whether they stay.
    pub fn relieve(&self) {
        self.buffers.relieve();
        self.pipes.relieve();
        self.timers.wake_all();
    }

    /// Whether a connection that idles is to be closed for want of descriptors or memory. By chance, so that one look of the
    /// watch closes a part of them.
    pub fn sheds_one(&self) -> bool {
        self.crew.pressure.sheds() && self.entropy().is_multiple_of(limits::SHED_SHARE)
    }

    /// Notices that the process drains, and wakes whoever waits.
    pub fn begin_drain(&self) {
        if self.draining_since.get().is_none() {
            self.draining_since.set(Some(clock::now()));
            self.timers.wake_all();
        }
    }

    /// Since when this worker drains.
    pub fn draining_since(&self) -> Option<Moment> {
        self.draining_since.get()
    }

    /// 64 fresh random bits: for picks, not for secrets.
    pub fn entropy(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }
}
