//! Io: taking connections from a listening socket, within the service's limits, and bringing each to the worker that
//! carries least.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::worker::{Handed, Worker};
use crate::base::{Reason, ServiceId, clock};
use crate::observe::{ServiceCells, events};
use crate::seam::Accepted;
use crate::state::{Kept, Limits};

/// How long accepting pauses when descriptors are out: the queue holds meanwhile, and nothing spins.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection's place in its service's counts, given back when dropped.
pub struct Place {
    kept: std::sync::Arc<Kept>,
    worker: Rc<Worker>,
    /// Set where the service bounds connections by source.
    source: Option<std::net::IpAddr>,
    /// Something is under way that will be counted at its end, by its own reason if it fails.
    busy: bool,
}

impl Place {
    /// Takes a place for a connection from `peer`.
    ///
    /// # Errors
    /// The limit that refuses it.
    pub fn take(
        worker: &Rc<Worker>,
        kept: &std::sync::Arc<Kept>,
        limits: &Limits,
        peer: SocketAddr,
    ) -> Result<Place, Reason> {
        let most = worker.crew.pressure.most_connections();
        if most != 0 && worker.crew.connections() >= most {
            return Err(Reason::ProcessFull);
        }
        let open = kept.open.fetch_add(1, Relaxed) + 1;
        if limits.max_connections != 0 && open > limits.max_connections {
            kept.open.fetch_sub(1, Relaxed);
            return Err(Reason::TooManyConnections);
        }
        let mut source = None;
        if limits.max_connections_per_source != 0 {
            let mut sources = kept.sources.lock();
            let count = sources.entry(peer.ip()).or_insert(0);
            if *count >= limits.max_connections_per_source {
                kept.open.fetch_sub(1, Relaxed);
                return Err(Reason::TooManyFromSource);
            }
            *count += 1;
            source = Some(peer.ip());
        }
        worker.crew.load(worker.id).fetch_add(1, Relaxed);
        kept.cells.row(worker.id).connections_opened.one();
        Ok(Place { kept: kept.clone(), worker: worker.clone(), source, busy: false })
    }

    pub fn cells(&self) -> &ServiceCells {
        self.kept.cells.row(self.worker.id)
    }

    /// An exchange begins: if the connection's task goes before [`Place::end`], that is counted.
    pub fn begin(&mut self) {
        self.busy = true;
    }

    /// The exchange is over and counted.
    pub fn end(&mut self) {
        self.busy = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.busy {
            // Tasks are dropped only with their worker, which ends when draining does.
            let panicking = std::thread::panicking();
            self.cells().drop(if panicking { Reason::Internal } else { Reason::DrainDeadline });
        }
        self.kept.open.fetch_sub(1, Relaxed);
        self.worker.crew.load(self.worker.id).fetch_sub(1, Relaxed);
        self.cells().connections_closed.one();
        if let Some(source) = self.source {
            let mut sources = self.kept.sources.lock();
            if let Some(count) = sources.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    sources.remove(&source);
                }
            }
        }
    }
}

/// Accepts until dropped, giving each connection to `serve` here or handing it to a less loaded worker.
pub async fn accept(
    worker: Rc<Worker>,
    service: Rc<Cell<ServiceId>>,
    listener: Rc<TcpListener>,
    serve: Rc<dyn Fn(Accepted)>,
) {
    // Counted once, however long it lasts.
    let mut paused = false;
    let mut said = false;
    loop {
        // What waits meanwhile waits in the kernel's queue, and is refused nothing.
        while worker.crew.pressure.is_full() {
            tokio::time::sleep(PAUSE).await;
        }
        match listener.accept().await {
            Ok((stream, peer)) => {
                paused = false;
                if std::mem::take(&mut said) {
                    tracing::info!(event = events::PRESSURE, "accepting goes on");
                }
                bring(&worker, service.get(), stream, peer, &*serve);
            }
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut paused, true) {
                    count_refusal(&worker, service.get(), Reason::NoDescriptor);
                    worker.crew.pressure.count_pause();
                    // With each descriptor that comes free, a pause ends and the next begins.
                    if worker.crew.pressure.may_say_pause(clock::now()) {
                        said = true;
                        tracing::warn!(event = events::PRESSURE, %error, "accepting pauses");
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Takes what stands in the accept queue, without waiting, and however much it is: what stays is reset when the socket closes.
pub async fn accept_queued(worker: &Rc<Worker>, service: ServiceId, listener: &TcpListener, serve: &dyn Fn(Accepted)) {
    let all = std::future::poll_fn(|cx| {
        loop {
            match listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, peer))) => bring(worker, service, stream, peer, serve),
                Poll::Ready(Err(error)) if is_connection_error(&error) => {}
                Poll::Ready(Err(_)) | Poll::Pending => return Poll::Ready(()),
            }
        }
    });
    // A task's turn ends after 128 connections otherwise, and looks like an empty queue.
    tokio::task::unconstrained(all).await;
}

fn bring(worker: &Rc<Worker>, service: ServiceId, stream: TcpStream, peer: SocketAddr, serve: &dyn Fn(Accepted)) {
    let carrier = worker.crew.carrier(worker.id);
    if carrier == worker.id {
        return begin(service, stream, peer, serve);
    }
    let Ok(stream) = stream.into_std() else { return };
    if let Err(handed) = worker.crew.hand_over(carrier, Handed { service, stream, peer }) {
        receive(handed, serve);
    }
}

/// Takes on a connection that another worker accepted.
pub fn receive(handed: Handed, serve: &dyn Fn(Accepted)) {
    if let Ok(stream) = TcpStream::from_std(handed.stream) {
        begin(handed.service, stream, handed.peer, serve);
    }
}

fn begin(service: ServiceId, stream: TcpStream, peer: SocketAddr, serve: &dyn Fn(Accepted)) {
    // Both fail only when the peer has reset already; the first read will say so.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    serve(Accepted { service, stream, peer: canonical(peer), local: canonical(local) });
}

fn count_refusal(worker: &Worker, service: ServiceId, reason: Reason) {
    if let Some(service) = worker.snapshot().service(service) {
        service.cells(worker.id).drop(reason);
    }
}

/// Errors of the one connection, which is gone; the listener is well.
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Listen;
    use crate::net::rig::{self, Rig};
    use crate::sys;

    #[tokio::test]
    async fn a_queue_is_emptied_however_long_it_is() {
        const QUEUED: usize = 300;
        rig::local(async {
            let rig = Rig::new(&[], |_| {});
            let anywhere = Listen::parse("127.0.0.1:0").unwrap();
            let socket = sys::listen(anywhere, 1, sys::Claim::Exclusive).unwrap().remove(0);
            let listener = TcpListener::from_std(socket).unwrap();
            let address = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..QUEUED).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            let taken = Cell::new(0);
            tokio::task::yield_now().await;
            accept_queued(&rig.worker, rig.service_id(), &listener, &|_| taken.set(taken.get() + 1)).await;
            assert_eq!(taken.get(), clients.len());
        })
        .await;
    }
}
