//! Engine: which listener, and so which service, a connection reaches.

use std::net::IpAddr;
use std::sync::Arc;

use super::question::{Destination, Fault};
use crate::base::Listen;
use crate::doc::{quote, suggest};
use crate::state::{Service, Snapshot, Traffic};

/// Who takes the connection.
pub(super) enum Reached<'s> {
    /// `listen` is absent where the service was named and the address is none of its own.
    Service { service: &'s Arc<Service>, listen: Option<Listen> },
    /// A sentence: what there is instead.
    Nobody(String),
}

/// # Errors
/// The service that was named is none, or it takes a name to tell.
pub(super) fn reach<'s>(
    snapshot: &'s Snapshot,
    to: Option<&Destination>,
    named: Option<&str>,
) -> Result<Reached<'s>, Fault> {
    let takes = |service: &Service| {
        let to = to?;
        service.spec.listen.iter().copied().find(|listen| covers(*listen, to.address, to.port))
    };
    if let Some(name) = named {
        let service = snapshot.service_named(name).ok_or_else(|| unknown(snapshot, name))?;
        if matches!(service.traffic, Traffic::Packet(_)) {
            let why = format!("{name} is of packets ({}), not of requests: {PACKET}", service.mode().word());
            return Err(Fault::new("service", why));
        }
        return Ok(Reached::Service { service, listen: takes(service) });
    }
    let listens = || snapshot.services().filter(|service| !service.spec.listen.is_empty());
    let found: Vec<&Arc<Service>> = match to {
        Some(_) => listens().filter(|service| takes(service).is_some()).collect(),
        None => listens().filter(|service| matches!(service.traffic, Traffic::L7(_))).collect(),
    };
    match (found.as_slice(), to) {
        ([service], _) => Ok(Reached::Service { service, listen: takes(service) }),
        ([], Some(to)) => Ok(Reached::Nobody(nobody(snapshot, to))),
        ([], None) => Ok(Reached::Nobody("there is no service of requests (mode l7)".to_owned())),
        (several, _) => {
            let names = several.iter().map(|service| &*service.spec.name);
            Err(Fault::new("service", format!("which one is meant? {} could be", suggest::one_of(names))))
        }
    }
}

/// Whether the kernel gives a connection to `port` to this listener. Which address a name has is not known: any.
fn covers(listen: Listen, address: Option<IpAddr>, port: u16) -> bool {
    if listen.port() != port {
        return false;
    }
    match (listen, address.map(|address| address.to_canonical())) {
        (Listen::Any(_), _) | (_, None) => true,
        (Listen::At(at), Some(address)) => {
            at.ip() == address || at.ip().is_unspecified() && at.is_ipv4() == address.is_ipv4()
        }
    }
}

fn unknown(snapshot: &Snapshot, name: &str) -> Fault {
    let names = || snapshot.services().map(|service| &*service.spec.name);
    let help = match suggest::nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there is {}", suggest::one_of(names())),
    };
    Fault::new("service", format!("{} is no service: {help}", quote(name)))
}

fn nobody(snapshot: &Snapshot, to: &Destination) -> String {
    let Destination { host, port, address } = to;
    if let Some(vip) = address.and_then(|address| snapshot.vips().find(|vip| vip.spec.addresses.contains(&address))) {
        return format!("{host} is the VIP {}, which takes packets: {PACKET}", vip.spec.name);
    }
    let listeners = snapshot
        .services()
        .flat_map(|service| service.spec.listen.iter().map(|listen| format!("{listen} ({})", service.spec.name)));
    let mut listeners: Vec<String> = listeners.collect();
    let more = listeners.len().saturating_sub(SHOWN);
    listeners.truncate(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    match listeners.as_slice() {
        [] => format!("nobody listens on port {port}, nor on any other"),
        some => format!("nobody listens on {host} port {port}; there is {}{more}", some.join(", ")),
    }
}

const PACKET: &str = "explain those as in 'tcp 198.51.100.7:4242 > 10.0.0.100:80'";
/// Listeners that are named.
const SHOWN: usize = 8;
