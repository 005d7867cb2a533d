//! Shell: HTTP/1.1. One task a client connection owns both ends of an exchange: it reads a head, routes it, sends it to an
//! endpoint of the pool and relays the answer, both bodies streamed.
//!
//! Why one task: channel hops and spawned halves are most of what a general HTTP library costs a proxy (`notes` in
//! DESIGN §5). Not here: framing (`wire/http1`), routes (`route`), picking (`balance`).
//!
//! Budget: a keep-alive exchange of small messages is two reads and two writes, and allocates nothing once its worker's
//! scratch space is warm but the boxed exchange itself.

mod attempt;
mod budget;
mod exchange;
mod io;
mod respond;
mod session;
mod splice;
mod upload;
mod upstream;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;

use self::budget::Budget;
use self::session::Session;
use self::upstream::Store;
use super::Spec;
use crate::base::{PoolId, Reason, clock, limits};
use crate::net::accept::Place;
use crate::net::{Buffer, Worker};
use crate::observe::access;
use crate::seam::{Accepted, Mode};
use crate::state::Service;
use crate::wire::http1::{Notice, Pieces, RequestHead, ResponseHead};

pub const SPEC: Spec = Spec { name: "l7", start: |worker| Rc::new(Http::new(worker)) };

/// The mode on one worker.
pub(super) struct Http {
    worker: Rc<Worker>,
    store: Store,
    /// By `PoolId`.
    budgets: RefCell<Vec<Option<Budget>>>,
    workers: usize,
    /// Exchanges without a request that wait for their client's next.
    warm: Cell<usize>,
    scratches: RefCell<Vec<Parsed>>,
}

/// What an exchange works in. Taken when a request's first byte arrives, given back when the connection idles.
struct Scratch {
    input: Buffer,
    parsed: Parsed,
}

/// The part of it that is kept warm.
#[derive(Default)]
struct Parsed {
    request: RequestHead,
    response: ResponseHead,
    pieces: Pieces,
    /// What is written next: a head, and a small body with it.
    out: Vec<u8>,
    /// Fields that we add.
    extra: Vec<u8>,
}

/// Scratch spaces kept warm by a worker; as many exchanges at once is a busy worker.
const SCRATCHES: usize = 64;

impl Http {
    fn new(worker: Rc<Worker>) -> Http {
        // Fixed for the life of the process.
        let workers = worker.snapshot().settings.workers;
        Http {
            worker,
            store: Store::default(),
            budgets: RefCell::default(),
            workers,
            warm: Cell::new(0),
            scratches: RefCell::default(),
        }
    }

    fn scratch(&self) -> Scratch {
        Scratch { input: self.worker.buffers.take(), parsed: self.scratches.borrow_mut().pop().unwrap_or_default() }
    }

    fn give_back(&self, scratch: Scratch) {
        let mut scratches = self.scratches.borrow_mut();
        // One huge message must not keep its memory for ever.
        if scratches.len() < SCRATCHES && scratch.parsed.out.capacity() <= limits::BUFFER_BULK_BYTES {
            scratches.push(scratch.parsed);
        }
    }

    fn with_budget<T>(&self, pool: PoolId, act: impl FnOnce(&mut Budget) -> T) -> T {
        let mut budgets = self.budgets.borrow_mut();
        if budgets.len() <= pool.index() {
            budgets.resize(pool.index() + 1, None);
        }
        // Just made to reach that far.
        act(budgets[pool.index()].get_or_insert_with(|| Budget::new(self.workers, clock::now())))
    }
}

impl Mode for Http {
    fn serve(self: Rc<Self>, accepted: Accepted) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(connection(self, accepted))
    }

    fn sweep(&self) {
        self.store.sweep(clock::now());
    }

    fn relieve(&self) {
        self.store.clear();
        self.scratches.take();
    }

    fn make_way(&self) {
        self.store.make_way(self.worker.id);
    }
}

/// Carries a client connection from its first byte to its end. While it idles, only this small future is alive.
async fn connection(mode: Rc<Http>, accepted: Accepted) {
    let snapshot = mode.worker.snapshot_of(accepted.service);
    let Some(service) = snapshot.and_then(|snapshot| snapshot.service(accepted.service).cloned()) else { return };
    let place = match Place::take(&mode.worker, &service.kept, &service.spec.limits, accepted.peer) {
        Ok(place) => place,
        Err(reason) => {
            service.cells(mode.worker.id).drop(reason);
            return Box::pin(refuse(&mode.worker, accepted, reason, &service)).await;
        }
    };
    drop(service);
    let mut session = Session::new(mode, accepted.stream, accepted.peer, accepted.service, place);
    while session.wait().await {
        // Boxed here, so that its size is not part of an idle connection's.
        match Box::pin(exchange::serve(session)).await {
            Some(kept) => session = kept,
            None => return,
        }
    }
    if session.served == 0 && !session.half_closed && !session.is_ending() && !session.shed {
        // It held a place for as long as a head may take, and sent nothing.
        session.drop_for(Reason::HeaderTimeout);
    }
}

/// A connection beyond the limits gets a word. What it has sent is read away first: closing would reset the word with it.
async fn refuse(worker: &Worker, accepted: Accepted, reason: Reason, service: &Service) {
    let Accepted { stream, peer, .. } = accepted;
    let began = clock::now();
    let cells = service.cells(worker.id);
    let mut out = Vec::new();
    Notice::error(reason.status(), session::shown(service, reason.word())).write(&mut out);
    // A fresh socket takes this at once, but one that another worker accepted is not known to be writable yet. If the client
    // has gone meanwhile, the close says enough.
    let told = stream.writable().await.is_ok() && stream.try_write(&out).is_ok_and(|written| written == out.len());
    if told {
        cells.responses.count(reason.status());
        cells.bytes_sent.add(out.len() as u64);
        // No waiting for it to finish: beyond the limits there is no place to wait in.
        let mut sent = [0; 4096];
        for _ in 0..limits::EARLY_DRAIN_BYTES / sent.len() as u64 {
            if !stream.try_read(&mut sent).is_ok_and(|n| n == sent.len()) {
                break;
            }
        }
    }
    let Some(format) = service.spec.access else { return };
    let record = access::Record {
        at: clock::wall(),
        service: &service.spec.name,
        client: peer,
        method: b"",
        host: b"",
        target: b"",
        protocol: "HTTP",
        status: if told { reason.status() } else { 0 },
        bytes_received: 0,
        bytes_sent: if told { out.len() as u64 } else { 0 },
        duration: clock::now().since(began),
        pool: None,
        endpoint: None,
        tries: 0,
        referer: b"",
        user_agent: b"",
        why: Some(reason.word()),
    };
    if !worker.crew.access.write(format, &record) {
        cells.access_records_lost.one();
    }
}
