//! Shell: one interface that packets are taken from: its taps, a thread for each, and what keeps the kernel out.
//!
//! Not here: which interfaces, and which frames (`engine`), and what a thread does (`worker`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::engine::{Force, Order};
use super::meter::Meter;
use super::taps;
use super::worker::{Post, WAIT, Want};
use crate::base::{MacAddr, WorkerId, clock};
use crate::flow::decide::Shared;
use crate::observe::Packets;
use crate::state::Io;
use crate::sys::classify::Rule;
use crate::sys::ingress::{Ingress, IngressError, PREFERENCE};
use crate::sys::packet::{Options, Tap};
use crate::sys::process;

/// Which frames of an interface are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub rules: Vec<Rule>,
    pub macs: Vec<MacAddr>,
    /// By what they are to come, as the file has it.
    pub io: Option<Io>,
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
    pub fn new(name: &Arc<str>, index: u32, workers: usize, wanted: &Wanted, deaf: bool) -> Result<Opened, String> {
        let rules: &[Rule] = if deaf { &[] } else { &wanted.rules };
        let options =
            Options { interface: index, rules: Some(rules), macs: &wanted.macs, wait: WAIT, ..Options::default() };
        let (io, taps) = taps::open((wanted.io, wanted.tagged), name, workers, &options)?;
        let ingress = Ingress::new(index, &wanted.rules).map_err(|error| error.to_string())?;
        Ok(Opened { name: name.clone(), index, wanted: wanted.clone(), io, taps, ingress, deaf })
    }

    /// Has it served, by a thread a tap.
    ///
    /// # Errors
    /// A thread cannot be made, and none is left; a tap stays deaf.
    pub fn serve(self, hands: &Hands) -> io::Result<Open> {
        let Opened { name, index, wanted, io, mut taps, ingress, deaf } = self;
        if deaf {
            for tap in &mut taps {
                tap.want(Some(&wanted.rules), &wanted.macs).map_err(io::Error::other)?;
            }
        }
        let cells = hands.packets.interface(&name);
        let count = taps.len();
        cells.set_engine(io.engine());
        tracing::info!(interface = &*name, io = io.word(), workers = taps.len(), "packets are taken from an interface");
        let stop = Arc::new(AtomicBool::new(false));
        let workers = start_all((0_u16..).zip(taps), &stop, |(worker, tap)| {
            let (wants, wanted) = sync_channel(WANTS);
            let post = Post {
                id: WorkerId(worker),
                interface: index,
                force: hands.force.clone(),
                shared: hands.shared.clone(),
                control: hands.control.clone(),
                packets: hands.packets.clone(),
                meter: Meter::new(&cells),
                wanted,
                stop: stop.clone(),
                beat: hands.packets.beats.begin(format!("packet worker {worker} of interface {index}"), clock::now()),
            };
            let thread = std::thread::Builder::new().name(format!("packets-{worker}"));
            Ok((wants, thread.spawn(move || run(post, tap, count))?))
        })?;
        Ok(Open { index, wanted, io, ingress, stop, workers })
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

    /// From now on other frames are wanted. The taps stay, so that no frame is lost and none is seen twice.
    ///
    /// # Errors
    /// What did not follow. The next reload or look tries again.
    pub async fn want(&mut self, name: &str, wanted: Wanted) -> Result<(), String> {
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
        self.ingress.replace(&wanted.rules).map_err(|error| not_kept_out(name, &error))?;
        if !all {
            return Err(format!("interface {name}: a packet socket hears what it did before"));
        }
        self.wanted = wanted;
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
        Ok(())
    }

    /// Whether every worker takes packets still.
    pub fn is_served(&self) -> bool {
        self.workers.iter().all(|(_, thread)| !thread.is_finished())
    }

    /// Has its workers end, as if they had lost their sockets.
    #[cfg(test)]
    pub fn end(&self) {
        self.stop.store(true, Relaxed);
    }

    pub fn close(self) {
        end_all(&self.stop, self.workers);
    }
}

fn not_kept_out(name: &str, error: &IngressError) -> String {
    format!("interface {name}: the kernel handles packets of the engine too: {error}")
}

type Worker = (SyncSender<Want>, JoinHandle<()>);

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

/// Orders that may wait for a worker: a reload waits for its own.
const WANTS: usize = 1;

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
            Ok((sync_channel(WANTS).0, thread))
        };
        let outcome = start_all(0..4, &stop, start);
        assert_eq!(outcome.map(|workers| workers.len()).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        assert_eq!(Arc::strong_count(&living), 1, "a thread lives on");
    }
}
