//! Shell: one interface that packets are taken from: its taps, a thread for each, and what keeps the kernel out.
//!
//! Not here: which interfaces, and which frames (`engine`), and what a thread does (`worker`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::engine::{Force, Order};
use super::front::{Dealt, Front};
use super::meter::Meter;
use super::taps;
use super::worker::{Ask, Post, WAIT};
use crate::base::{MacAddr, WorkerId, clock, limits};
use crate::flow::decide::Shared;
use crate::observe::Packets;
use crate::observe::packets::InterfaceCells;
use crate::state::Io;
use crate::sys::classify::Rule;
use crate::sys::ingress::{Ingress, IngressError, PREFERENCE};
use crate::sys::packet::{Options, Queue, Tap};
use crate::sys::process;

/// Which frames of an interface are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub rules: Vec<Rule>,
    pub macs: Vec<MacAddr>,
    /// By what they are to come, as the file has it.
    pub io: Option<Io>,
    /// A VIP is there.
    pub clients: bool,
    /// Some have a VLAN tag.
    pub tagged: bool,
}

/// An interface whose taps are open, and whom nobody serves yet.
pub(super) struct Opened {
    pub name: Arc<str>,
    index: u32,
    wanted: Wanted,
    io: Io,
    taps: Vec<Tap>,
    ingress: Ingress,
    /// Where AF_XDP is asked for.
    front: Option<Front>,
    /// The taps hear nothing yet.
    deaf: bool,
}

/// An interface that is served.
pub(super) struct Open {
    pub index: u32,
    pub wanted: Wanted,
    io: Io,
    /// Keeps the kernel from handling the same packets.
    ingress: Ingress,
    front: Option<Front>,
    /// What the interface counts.
    cells: Arc<InterfaceCells>,
    stop: Arc<AtomicBool>,
    workers: Vec<Worker>,
}

/// What all workers have in common.
pub(super) struct Hands {
    pub force: Arc<ArcSwap<Force>>,
    pub shared: Arc<Shared>,
    pub packets: Arc<Packets>,
    pub control: SyncSender<Order>,
}

impl Opened {
    /// The kernel is kept out from here on: that needs a privilege which must not be found missing at the commit. `deaf`: the taps
    /// hear nothing before they are served, because another process serves.
    /// `strict`: where the file asks for AF_XDP and clients' packets come in, it is an error that it cannot be had; else the ring serves.
    pub fn new(
        name: &Arc<str>,
        index: u32,
        workers: usize,
        wanted: &Wanted,
        (deaf, strict): (bool, bool),
    ) -> Result<Opened, String> {
        let rules: &[Rule] = if deaf { &[] } else { &wanted.rules };
        let options =
            Options { interface: index, rules: Some(rules), macs: &wanted.macs, wait: WAIT, ..Options::default() };
        let (io, taps) = taps::open((wanted.io, wanted.tagged), name, workers, &options)?;
        let ingress = Ingress::new(index, &wanted.rules).map_err(|error| error.to_string())?;
        let mut front = (io == Io::AfXdp).then(|| Front::new(name, index, wanted));
        if let Some(front) = &mut front
            && let Err(error) = front.prepare(name)
            && strict
            && wanted.clients
        {
            return Err(error);
        }
        Ok(Opened { name: name.clone(), index, wanted: wanted.clone(), io, taps, ingress, front, deaf })
    }

    /// Has it served, by a thread a tap.
    ///
    /// # Errors
    /// A thread cannot be made, and none is left; a tap stays deaf.
    pub fn serve(self, hands: &Hands) -> io::Result<Open> {
        let Opened { name, index, wanted, io, mut taps, ingress, mut front, deaf } = self;
        if deaf {
            for tap in &mut taps {
                tap.want(Some(&wanted.rules), &wanted.macs).map_err(io::Error::other)?;
            }
        }
        let cells = hands.packets.interface(&name);
        let count = taps.len();
        let deal = |queue: Queue| match taps[queue.number() as usize % count].add(queue) {
            Ok(()) => Dealt::Had,
            Err(queue) => Dealt::Back(queue),
        };
        let io = front.as_mut().map_or(io, |front| front.hand_over(deal));
        cells.set_engine(io.engine());
        let stop = Arc::new(AtomicBool::new(false));
        let workers = start_all((0_u16..).zip(taps), &stop, |(worker, tap)| {
            let (asks, asked) = sync_channel(ASKS);
            let post = Post {
                id: WorkerId(worker),
                interface: index,
                force: hands.force.clone(),
                shared: hands.shared.clone(),
                control: hands.control.clone(),
                packets: hands.packets.clone(),
                meter: Meter::new(&cells),
                asked,
                stop: stop.clone(),
                beat: hands.packets.beats.begin(format!("packet worker {worker} of interface {index}"), clock::now()),
            };
            let thread = std::thread::Builder::new().name(format!("packets-{worker}"));
            Ok((asks, thread.spawn(move || run(post, tap, count))?))
        })?;
        let mut open = Open { index, wanted, io, ingress, front, cells, stop, workers };
        // Whatever queues are not bound yet, some milliseconds each: by now the taps are emptied meanwhile.
        open.go_before(&name);
        tracing::info!(interface = &*name, io = open.io.word(), workers = count, "packets are taken from an interface");
        Ok(open)
    }
}

/// Apart from its siblings and before ordinary threads: who forwards competes with whoever else is here, and what finds no room is
/// lost.
fn run(post: Post, tap: Tap, workers: usize) {
    if let Err(error) = process::stay_apart(post.id.0.into(), workers) {
        tracing::warn!(%error, "a packet worker runs on whichever core");
    }
    if let Err(error) = process::go_first()
        && post.id == WorkerId(0)
    {
        tracing::info!(%error, "packets are forwarded at ordinary priority: more takes CAP_SYS_NICE");
    }
    post.run(tap);
}

impl Open {
    /// Whether its taps can bring other frames as well.
    pub fn brings(&self, next: &Wanted) -> bool {
        self.wanted.io == next.io && !(next.tagged && self.io == Io::Pnet)
    }

    /// Why AF_XDP cannot have what is to come by it, of clients or with a tag, and did not before: as at a start, that is for whoever
    /// changes the file to know. What the machine has come to since is told in the log.
    pub fn refuses(&mut self, name: &str, next: &Wanted) -> Option<String> {
        let is_new = !self.wanted.clients || (next.tagged && !self.wanted.tagged);
        self.front.as_mut().filter(|_| next.clients && is_new).and_then(|front| front.refuses(name, next))
    }

    /// From now on other frames are wanted. The taps stay, so that no frame is lost and none is seen twice.
    ///
    /// # Errors
    /// What did not follow. The next reload or look tries again.
    pub async fn want(&mut self, name: &str, wanted: Wanted) -> Result<(), String> {
        let mut waiting = Vec::with_capacity(self.workers.len());
        for (asks, _) in &self.workers {
            let (done, told) = oneshot::channel();
            let _ = asks.send(Ask::Want { wanted: wanted.clone(), done });
            waiting.push(told);
        }
        let mut all = true;
        for told in waiting {
            all &= told.await.unwrap_or(false);
        }
        // What the kernel is kept from must be served by then.
        self.ingress.replace(&wanted.rules).map_err(|error| not_kept_out(name, &error))?;
        if let Some(front) = &mut self.front {
            front.replace(name, &wanted);
        }
        if !all {
            return Err(format!("interface {name}: a packet socket hears what it did before"));
        }
        self.wanted = wanted;
        self.go_before(name);
        Ok(())
    }

    /// Puts back what keeps the kernel out where somebody has taken it away.
    ///
    /// # Errors
    /// Why it cannot be put back.
    pub fn keep_out(&mut self, name: &str) -> Result<(), String> {
        if self.ingress.restore(&self.wanted.rules).map_err(|error| not_kept_out(name, &error))? {
            tracing::warn!(
                interface = name,
                "somebody took away what keeps the kernel from packets of the engine (its clsact qdisc, or filters of preference \
                 {PREFERENCE}): it is back"
            );
        }
        self.go_before(name);
        Ok(())
    }

    /// Has AF_XDP take frames where it could not before.
    fn go_before(&mut self, name: &str) {
        let Some(front) = &mut self.front else { return };
        let deal = |queue: Queue| {
            let (asks, _) = &self.workers[queue.number() as usize % self.workers.len()];
            let (done, told) = oneshot::channel();
            match asks.try_send(Ask::Add { queue, done }) {
                Err(
                    TrySendError::Full(Ask::Add { queue, .. }) | TrySendError::Disconnected(Ask::Add { queue, .. }),
                ) => Dealt::Back(queue),
                _ => Dealt::Sent(told),
            }
        };
        self.io = front.hold(name, deal);
        self.cells.set_engine(self.io.engine());
    }

    /// Whether every worker takes packets still, of any length that there may be.
    pub fn is_served(&self) -> bool {
        self.workers.iter().all(|(_, thread)| !thread.is_finished()) && self.front.as_ref().is_none_or(Front::has_room)
    }

    /// Has its workers end, as if they had lost their sockets.
    #[cfg(test)]
    pub fn end(&self) {
        self.stop.store(true, Relaxed);
    }

    pub fn close(self) {
        // Nothing goes to workers' sockets any more.
        drop(self.front);
        end_all(&self.stop, self.workers);
    }
}

fn not_kept_out(name: &str, error: &IngressError) -> String {
    format!("interface {name}: the kernel handles packets of the engine too: {error}")
}

type Worker = (SyncSender<Ask>, JoinHandle<()>);

/// Starts a worker for each, or ends those that were started: half of them would be taken for all.
fn start_all<T>(
    each: impl Iterator<Item = T>,
    stop: &AtomicBool,
    start: impl FnMut(T) -> io::Result<Worker>,
) -> io::Result<Vec<Worker>> {
    let mut workers = Vec::new();
    for outcome in each.map(start) {
        match outcome {
            Ok(worker) => workers.push(worker),
            Err(error) => {
                end_all(stop, workers);
                return Err(error);
            }
        }
    }
    Ok(workers)
}

fn end_all(stop: &AtomicBool, workers: Vec<Worker>) {
    stop.store(true, Relaxed);
    for (_, thread) in workers {
        if thread.join().is_err() {
            tracing::error!("a packet worker panicked");
        }
    }
}

/// What may wait for a worker: a queue each, and a reload that waits for its own.
const ASKS: usize = limits::PACKET_QUEUES + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_one_worker_cannot_be_started_those_before_it_end() {
        let (stop, living) = (Arc::new(AtomicBool::new(false)), Arc::new(()));
        let start = |number| {
            if number == 2 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let (stop, alive) = (stop.clone(), living.clone());
            let thread = std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    std::thread::yield_now();
                }
                drop(alive);
            });
            Ok((sync_channel(ASKS).0, thread))
        };
        let outcome = start_all(0..4, &stop, start);
        assert_eq!(outcome.map(|workers| workers.len()).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        assert_eq!(Arc::strong_count(&living), 1, "a thread lives on");
    }
}
