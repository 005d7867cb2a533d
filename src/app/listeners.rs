//! Wiring: which addresses are listened on, for whom, and what a new snapshot changes about that.
//!
//! `prepare` binds what is new and changes nothing; only `commit` hands sockets out. So a failed bind rejects a reload whole.

use std::collections::BTreeMap;

use super::worker::RETIRE;
use crate::base::{Listen, Moment, ServiceId, clock};
use crate::state::{Snapshot, Traffic};
use crate::sys::{self, Claim};

/// The addresses that are open, and whose they are.
#[derive(Default)]
pub struct Listeners {
    open: BTreeMap<Listen, ServiceId>,
    /// Sockets that were retired lately and may still be open.
    retired: BTreeMap<Listen, Moment>,
}

/// What a snapshot needs, with the new sockets bound: one a worker for each new address.
pub struct Prepared {
    pub opened: Vec<(Listen, ServiceId, Vec<std::net::TcpListener>)>,
    pub assigned: Vec<(Listen, ServiceId)>,
    pub retired: Vec<Listen>,
}

impl Listeners {
    /// Binds what `next` needs and this does not have.
    ///
    /// # Errors
    /// Every service that nothing here could carry, or every address that cannot be bound; nothing has changed then.
    pub fn prepare(&self, next: &Snapshot, workers: usize) -> Result<Prepared, Vec<String>> {
        engines(next)?;
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
                None => match sys::listen(*address, workers, self.claim(*address)) {
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

/// A service of packets listens nowhere, so it would come up without a word and serve nobody.
fn engines(next: &Snapshot) -> Result<(), Vec<String>> {
    let lacking = next.services().filter_map(|service| {
        let (name, mode) = (&service.spec.name, service.mode().word());
        match &service.traffic {
            Traffic::Packet(packet) if mode == "l4" => {
                Some(format!("service {name}: mode l4 with {} has no engine in this build yet", packet.forward.word()))
            }
            Traffic::Packet(_) => Some(format!("service {name}: mode {mode} has no engine in this build yet")),
            Traffic::L4(_) | Traffic::L7(_) => None,
        }
    });
    let lacking: Vec<String> = lacking.collect();
    if lacking.is_empty() { Ok(()) } else { Err(lacking) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::load::{self, Origin};

    #[test]
    fn a_service_without_an_engine_is_refused_by_name_and_nothing_is_bound() {
        const TEXT: &str = r#"
[vip.v]
address = "10.0.0.100"
interface = "eth0"
[service.frames]
mode = "l2"
vip = "v"
ports = "1/tcp"
pool = "p"
[service.tunnel]
mode = "l3"
forward = "ipip"
vip = "v"
ports = "2/tcp"
pool = "p"
[service.nat]
mode = "l4"
forward = "nat"
vip = "v"
ports = "3/tcp"
pool = "p"
[service.web]
mode = "l7"
listen = "127.0.0.1:1"
pool = "w"
[pool.p]
endpoints = "10.0.0.41"
[pool.w]
endpoints = "10.0.0.41:80"
"#;
        let mut loaded = load::read(&Origin::Text { name: "x", text: TEXT.to_owned() }).unwrap();
        assert!(loaded.is_valid(), "{}", loaded.render(false));
        let next = load::compile(&mut loaded, &load::nothing()).unwrap();
        let refused = Listeners::default().prepare(&next, 1).err().unwrap();
        assert_eq!(
            refused,
            [
                "service frames: mode l2 has no engine in this build yet",
                "service tunnel: mode l3 has no engine in this build yet",
                "service nat: mode l4 with nat has no engine in this build yet",
            ]
        );
    }
}
