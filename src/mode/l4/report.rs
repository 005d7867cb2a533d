//! Shell: how one connection ended, told when it is over: the drop counted, the access record written.
//!
//! A connection whose task is dropped or panics tells as well: nothing disappears without a named reason.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use crate::base::{Moment, Reason, clock};
use crate::net::Worker;
use crate::observe::access::{Format, Record};
use crate::state::{Endpoint, Kept, Pool, Service};

pub struct Report {
    worker: Rc<Worker>,
    kept: Arc<Kept>,
    peer: SocketAddr,
    began: Moment,
    tries: u32,
    /// Bytes received and sent so far.
    carried: Cell<(u64, u64)>,
    fate: Fate,
    /// What only a record needs; a service without them pays for none of it.
    record: Option<Names>,
}

enum Fate {
    Open,
    Ended(Option<Reason>),
}

struct Names {
    format: Format,
    at: SystemTime,
    service: Arc<str>,
    pool: Option<Arc<str>>,
    endpoint: Option<Arc<str>>,
}

impl Report {
    pub fn new(worker: &Rc<Worker>, service: &Service, peer: SocketAddr) -> Report {
        let record = service.spec.access.filter(|_| worker.crew.access.is_on()).map(|format| Names {
            format,
            at: clock::wall(),
            service: service.spec.name.clone(),
            pool: None,
            endpoint: None,
        });
        Report {
            worker: worker.clone(),
            kept: service.kept.clone(),
            peer,
            began: clock::now(),
            tries: 0,
            carried: Cell::default(),
            fate: Fate::Open,
            record,
        }
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub fn carried(&self) -> &Cell<(u64, u64)> {
        &self.carried
    }

    pub fn pool(&mut self, pool: &Pool) {
        if let Some(names) = &mut self.record {
            names.pool = Some(pool.spec.name.clone());
        }
    }

    pub fn endpoint(&mut self, endpoint: &Endpoint) {
        if let Some(names) = &mut self.record {
            names.endpoint = Some(endpoint.name.clone());
        }
    }

    pub fn tries(&mut self, tries: u32) {
        self.tries = tries;
    }

    /// The connection is over; without a reason all went well.
    pub fn end(mut self, reason: Option<Reason>) {
        self.fate = Fate::Ended(reason);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let reason = match self.fate {
            Fate::Ended(reason) => reason,
            Fate::Open if std::thread::panicking() => Some(Reason::Internal),
            // Tasks are dropped only with their worker, which ends when draining does.
            Fate::Open => Some(Reason::DrainDeadline),
        };
        let cells = self.kept.cells.row(self.worker.id);
        if let Some(reason) = reason {
            cells.drop(reason);
        }
        let Some(names) = &self.record else { return };
        let (bytes_received, bytes_sent) = self.carried.get();
        let record = Record {
            at: names.at,
            service: &names.service,
            client: self.peer,
            method: b"",
            host: b"",
            target: b"",
            protocol: "tcp",
            status: 0,
            bytes_received,
            bytes_sent,
            duration: clock::now().since(self.began),
            pool: names.pool.as_deref(),
            endpoint: names.endpoint.as_deref(),
            tries: self.tries,
            referer: b"",
            user_agent: b"",
            why: reason.map(Reason::word),
        };
        if !self.worker.crew.access.write(names.format, &record) {
            cells.access_records_lost.one();
        }
    }
}
