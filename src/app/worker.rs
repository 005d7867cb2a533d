//! Wiring: a worker thread: its runtime, its modes, its listeners, and the orders it takes from the supervisor.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::base::address::AdminListen;
use crate::base::{Listen, Reason, ServiceId, WorkerId, clock, limits};
use crate::mode;
use crate::net::accept::{accept, accept_queued, receive};
use crate::net::worker::Handed;
use crate::net::{Crew, Worker};
use crate::observe::{Beat, events};
use crate::seam::{Accepted, Mode};
use crate::state::{ModeKind, Service};
use crate::sys::inherited::{Given, Listener};
use crate::sys::{self, privilege};

/// What the supervisor tells a worker. Acknowledged where the supervisor must know that it took effect.
pub enum Order {
    /// Accept on these sockets for this service: one, or more of a process before that had more workers.
    Listen { address: Listen, service: ServiceId, sockets: Vec<Listener> },
    /// The socket now belongs to another service.
    Assign { address: Listen, service: ServiceId },
    /// Take no new connection here, serve those that stand in the queue, then close. What systemd holds too is only let go.
    Retire { address: Listen },
    /// Take no new connection here: another process does, on the same socket.
    Release { address: Listen },
    /// Give the listening sockets once more, for another process.
    Lend { reply: oneshot::Sender<io::Result<Vec<Given>>> },
    /// A new snapshot was committed.
    Refresh { done: oneshot::Sender<()> },
    /// Descriptors or memory run out: give up what can be spared.
    Relieve,
    /// Finish what is open, start nothing.
    Drain,
    /// Drop everything and end the thread.
    Stop,
}

/// A running worker.
pub struct Handle {
    pub orders: mpsc::Sender<Order>,
    pub thread: std::thread::JoinHandle<()>,
}

/// Orders that may wait for a worker: control traffic, a few a reload.
const ORDERS: usize = 1024;
/// How long a retired socket is still served: handshakes under way end within a round trip or never.
pub const RETIRE: Duration = Duration::from_millis(300);

/// Starts worker `id` on a thread of its own. The kernel places it: it is not pinned to a core.
///
/// # Errors
/// The thread or its runtime could not be made.
pub fn start(id: WorkerId, crew: Arc<Crew>, handed: mpsc::Receiver<Handed>) -> io::Result<Handle> {
    let (orders, receiver) = mpsc::channel(ORDERS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("worker-{}", id.0)).spawn(move || {
        if let Err(error) = privilege::have_none() {
            tracing::warn!(%error, "a worker keeps privileges that it does not need");
        }
        let local = LocalSet::new();
        local.block_on(&runtime, work(Rc::new(Worker::new(id, crew)), receiver, handed));
    })?;
    Ok(Handle { orders, thread })
}

async fn work(worker: Rc<Worker>, mut orders: mpsc::Receiver<Order>, mut handed: mpsc::Receiver<Handed>) {
    let modes = Rc::new(Modes::start(&worker));
    let serve: Rc<dyn Fn(Accepted)> = {
        let (worker, modes) = (worker.clone(), modes.clone());
        Rc::new(move |accepted| modes.serve(&worker, accepted))
    };
    let beats = worker.crew.beats.clone();
    let beat = beats.begin(format!("worker {}", worker.id.0), clock::now());
    spawn_local(attended(beats.attend(format!("the timers of worker {}", worker.id.0)), worker.timers.clone().run()));
    let mut listeners = Listeners { worker: worker.clone(), serve: serve.clone(), open: HashMap::new() };
    let mut sweep = tokio::time::interval(Duration::from_secs(1));
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut way = tokio::time::interval(limits::TIMER_TICK);
    way.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Listen { address, service, sockets }) => listeners.open(address, service, sockets),
                Some(Order::Assign { address, service }) => listeners.assign(address, service),
                Some(Order::Retire { address }) => listeners.retire(address),
                Some(Order::Release { address }) => listeners.release(address),
                Some(Order::Lend { reply }) => {
                    // Whoever asked may have given up.
                    let _ = reply.send(listeners.lend());
                }
                Some(Order::Refresh { done }) => {
                    worker.refresh();
                    // The supervisor may have given up waiting; that is its business.
                    let _ = done.send(());
                }
                Some(Order::Relieve) => {
                    modes.relieve();
                    worker.relieve();
                }
                Some(Order::Drain) => worker.begin_drain(),
                Some(Order::Stop) | None => return,
            },
            Some(connection) = handed.recv() => receive(connection, &*serve),
            _ = way.tick() => {
                beat.beat(clock::now());
                modes.make_way();
                worker.look_for_downs();
            }
            _ = sweep.tick() => {
                modes.sweep();
                listeners.count_overflows();
                worker.forget_leaving(clock::now());
            }
        }
    }
}

/// A task that has to go on for as long as its thread: if it panics, that is seen.
async fn attended(beat: Beat, task: impl Future<Output = ()>) {
    task.await;
    drop(beat);
}

/// One instance of every mode.
struct Modes {
    by_kind: HashMap<&'static str, Rc<dyn Mode>>,
}

impl Modes {
    fn start(worker: &Rc<Worker>) -> Modes {
        Modes { by_kind: mode::CATALOG.iter().map(|spec| (spec.name, (spec.start)(worker.clone()))).collect() }
    }

    fn serve(&self, worker: &Rc<Worker>, accepted: Accepted) {
        let snapshot = worker.snapshot_of(accepted.service);
        let kind = snapshot.and_then(|snapshot| {
            let service = snapshot.service(accepted.service)?;
            watch_clients(worker, service, accepted.peer.ip());
            Some(service.mode())
        });
        // Only a service whose time to drain is over as well is not there: the client sees a clean close.
        let Some(mode) = kind.and_then(|kind: ModeKind| self.by_kind.get(kind.word())) else { return };
        spawn_local(Contained { work: mode.clone().serve(accepted) });
    }

    fn make_way(&self) {
        self.by_kind.values().for_each(|mode| mode.make_way());
    }

    fn sweep(&self) {
        self.by_kind.values().for_each(|mode| mode.sweep());
    }

    fn relieve(&self) {
        self.by_kind.values().for_each(|mode| mode.relieve());
    }
}

/// Says so once every client seems to be a gateway.
fn watch_clients(worker: &Worker, service: &Service, peer: IpAddr) {
    if !service.trusts(peer) && service.kept.clients.saw(peer, &worker.crew.gateways.load()) {
        tracing::warn!(
            event = events::CLIENTS,
            service = &*service.spec.name,
            gateway = %peer,
            "every client seems to be this host's gateway: their addresses are lost on the way; docs/docker.md says how to keep them"
        );
    }
}

/// A connection's task. A panic in it costs this connection only (hardening J12); `observe::panics` counts it.
struct Contained {
    work: Pin<Box<dyn Future<Output = ()>>>,
}

impl Future for Contained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let work = &mut self.work;
        match std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(_) => {
                tracing::error!(
                    reason = Reason::Internal.word(),
                    "a connection's task panicked; the connection is closed"
                );
                Poll::Ready(())
            }
        }
    }
}

/// The listening sockets of one worker.
struct Listeners {
    worker: Rc<Worker>,
    serve: Rc<dyn Fn(Accepted)>,
    open: HashMap<Listen, Open>,
}

struct Open {
    service: Rc<Cell<ServiceId>>,
    sockets: Vec<Accepting>,
}

struct Accepting {
    listener: Rc<TcpListener>,
    /// Systemd listens on it too.
    activated: bool,
    task: JoinHandle<()>,
    /// What the kernel had dropped there when it was last asked.
    overflows: Cell<u32>,
}

impl Listeners {
    fn open(&mut self, address: Listen, service: ServiceId, sockets: Vec<Listener>) {
        let service = Rc::new(Cell::new(service));
        let mut open = Vec::with_capacity(sockets.len());
        for Listener { socket, activated } in sockets {
            match TcpListener::from_std(socket) {
                Ok(listener) => {
                    let listener = Rc::new(listener);
                    let beat =
                        self.worker.crew.beats.attend(format!("accepting at {address} by worker {}", self.worker.id.0));
                    let task = accept(self.worker.clone(), service.clone(), listener.clone(), self.serve.clone());
                    let task = attended(beat, task);
                    // One of a process before this one has a past.
                    let overflows = Cell::new(sys::overflows(&listener).unwrap_or(0));
                    open.push(Accepting { listener, activated, task: spawn_local(task), overflows });
                }
                Err(error) => tracing::error!(%address, %error, "the runtime does not take the listening socket"),
            }
        }
        self.open.insert(address, Open { service, sockets: open });
    }

    fn assign(&mut self, address: Listen, service: ServiceId) {
        if let Some(open) = self.open.get(&address) {
            open.service.set(service);
        }
    }

    /// Closing a listening socket resets what stands in its queue, so first the kernel is told to begin nothing new.
    fn retire(&mut self, address: Listen) {
        let Some(open) = self.open.remove(&address) else { return };
        for Accepting { listener, activated, task: accepting, .. } in open.sockets {
            if activated {
                // Its queue is for whom systemd starts next, and must go on growing.
                accepting.abort();
                continue;
            }
            if let Err(error) = sys::refuse_new(&listener) {
                tracing::warn!(%address, %error, "cannot refuse new handshakes; a late client may be reset");
            }
            let (worker, serve, service) = (self.worker.clone(), self.serve.clone(), open.service.clone());
            spawn_local(async move {
                tokio::time::sleep(RETIRE).await;
                accepting.abort();
                accept_queued(&worker, service.get(), &listener, &*serve).await;
            });
        }
    }

    /// The socket lives on in the other process, with what stands in its queue.
    fn release(&mut self, address: Listen) {
        let Some(open) = self.open.remove(&address) else { return };
        open.sockets.iter().for_each(|socket| socket.task.abort());
    }

    /// Asks the kernel what it has dropped for want of room in accept queues (hardening J17).
    fn count_overflows(&self) {
        let snapshot = self.worker.snapshot();
        for open in self.open.values() {
            let Some(service) = snapshot.service(open.service.get()) else { continue };
            for socket in &open.sockets {
                if let Ok(now) = sys::overflows(&socket.listener) {
                    let more = now.wrapping_sub(socket.overflows.replace(now));
                    service.cells(self.worker.id).listen_overflows.add(more.into());
                }
            }
        }
    }

    fn lend(&self) -> io::Result<Vec<Given>> {
        let all =
            self.open.iter().flat_map(|(address, open)| open.sockets.iter().map(move |socket| (*address, socket)));
        all.map(|(address, Accepting { listener, activated, .. })| {
            let sockets = vec![listener.as_fd().try_clone_to_owned()?];
            Ok(Given { at: AdminListen::Tcp(address), sockets, activated: *activated })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
