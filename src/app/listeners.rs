//! Wiring: which addresses are listened on, for whom, and what a new snapshot changes about that.
//!
//! `prepare` binds what is new and changes nothing; only `commit` hands sockets out. So a failed bind rejects a reload whole.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::worker::RETIRE;
use crate::base::{Listen, Moment, ServiceId, clock};
use crate::state::Snapshot;
use crate::sys::inherited::{Inherited, Listener};
use crate::sys::{self, Claim, ListenError};

/// The addresses that are open, and whose they are.
#[derive(Default)]
pub struct Listeners {
    open: BTreeMap<Listen, ServiceId>,
    /// Sockets that were retired lately and may still be open.
    retired: BTreeMap<Listen, Moment>,
    /// What this process was given, while somebody may ask for it.
    inherited: Rc<RefCell<Inherited>>,
}

/// What a snapshot needs, with the new sockets bound: for each new address those of each worker.
pub struct Prepared {
    pub opened: Vec<(Listen, ServiceId, Vec<Vec<Listener>>)>,
    pub assigned: Vec<(Listen, ServiceId)>,
    pub retired: Vec<Listen>,
}

impl Listeners {
    /// None is open; those in `inherited` need not be bound.
    pub fn new(inherited: Rc<RefCell<Inherited>>) -> Listeners {
        Listeners { inherited, ..Listeners::default() }
    }

    /// Binds what `next` needs and this does not have.
    ///
    /// # Errors
    /// Every address that cannot be bound; nothing has changed then.
    pub fn prepare(&self, next: &Snapshot, workers: usize) -> Result<Prepared, Vec<String>> {
        let wanted: BTreeMap<Listen, ServiceId> = next
            .services()
            .flat_map(|service| service.spec.listen.iter().map(|address| (*address, service.id)))
            .collect();
        let mut prepared = Prepared { opened: Vec::new(), assigned: Vec::new(), retired: Vec::new() };
        let mut errors = Vec::new();
        for (address, service) in &wanted {
            match self.open.get(address) {
                Some(owner) if owner == service => {}
                Some(_) => prepared.assigned.push((*address, *service)),
                None => match self.sockets(*address, workers) {
                    Ok(sockets) => prepared.opened.push((*address, *service, sockets)),
                    Err(error) => {
                        let name = next.service(*service).map_or("", |service| &*service.spec.name);
                        errors.push(format!("service {name}: {error}"));
                    }
                },
            }
        }
        prepared.retired = self.open.keys().filter(|address| !wanted.contains_key(address)).copied().collect();
        if errors.is_empty() { Ok(prepared) } else { Err(errors) }
    }

    /// Those that this process was given, or new ones, for each worker.
    fn sockets(&self, address: Listen, workers: usize) -> Result<Vec<Vec<Listener>>, ListenError> {
        let given = self.inherited.borrow_mut().take(address, workers);
        if let Some(given) = given.map_err(|cause| ListenError { address, cause })? {
            return Ok(given);
        }
        let own = sys::listen(address, workers, self.claim(address))?;
        Ok(own.into_iter().map(|socket| vec![Listener::own(socket)]).collect())
    }

    /// Remembers what `prepared` makes true.
    pub fn commit(&mut self, prepared: &Prepared) {
        for (address, service, _) in &prepared.opened {
            self.open.insert(*address, *service);
        }
        for (address, service) in &prepared.assigned {
            self.open.insert(*address, *service);
        }
        for address in &prepared.retired {
            self.open.remove(address);
            self.retired.insert(*address, clock::now());
        }
        self.retired.retain(|_, since| clock::now().since(*since) < 2 * RETIRE);
    }

    /// An address of our own that is still being retired may be bound beside it; otherwise a stranger's socket is an error.
    fn claim(&self, address: Listen) -> Claim {
        let ours = |other: &Listen| other.overlaps(address);
        if self.retired.keys().any(ours) || self.open.keys().any(ours) { Claim::Beside } else { Claim::Exclusive }
    }

    /// Every open address, forgotten: the process drains.
    pub fn take_all(&mut self) -> Vec<Listen> {
        std::mem::take(&mut self.open).into_keys().collect()
    }
}
