//! Value: what differs between two snapshots, in the operator's words. A reload logs each; `prepare` acts on listeners.

use std::fmt;
use std::sync::Arc;

use super::packet::PacketSpec;
use super::pool::EndpointSpec;
use super::service::{ModeKind, TrafficSpec};
use super::snapshot::Snapshot;
use crate::base::{Listen, ServiceId};

#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    ServiceAdded {
        service: Arc<str>,
    },
    ServiceRemoved {
        service: Arc<str>,
    },
    ServiceChanged {
        service: Arc<str>,
        what: Vec<&'static str>,
    },
    ListenerAdded {
        service: Arc<str>,
        id: ServiceId,
        address: Listen,
    },
    ListenerRemoved {
        service: Arc<str>,
        id: ServiceId,
        address: Listen,
    },
    VipAdded {
        vip: Arc<str>,
    },
    VipRemoved {
        vip: Arc<str>,
    },
    VipChanged {
        vip: Arc<str>,
        what: Vec<&'static str>,
    },
    PoolAdded {
        pool: Arc<str>,
    },
    PoolRemoved {
        pool: Arc<str>,
    },
    PoolChanged {
        pool: Arc<str>,
        what: Vec<&'static str>,
    },
    EndpointAdded {
        pool: Arc<str>,
        endpoint: Arc<str>,
    },
    EndpointRemoved {
        pool: Arc<str>,
        endpoint: Arc<str>,
    },
    /// Its source has it no more: it gets no new work, and is removed once it is idle.
    EndpointLeaves {
        pool: Arc<str>,
        endpoint: Arc<str>,
    },
    EndpointReturns {
        pool: Arc<str>,
        endpoint: Arc<str>,
    },
    SettingsChanged {
        what: Vec<&'static str>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::ServiceAdded { service } => write!(f, "service {service} added"),
            Change::ServiceRemoved { service } => write!(f, "service {service} removed"),
            Change::ServiceChanged { service, what } => write!(f, "service {service}: {} changed", what.join(", ")),
            Change::ListenerAdded { service, address, .. } => write!(f, "service {service} listens on {address}"),
            Change::ListenerRemoved { service, address, .. } => write!(f, "service {service} leaves {address}"),
            Change::VipAdded { vip } => write!(f, "vip {vip} added"),
            Change::VipRemoved { vip } => write!(f, "vip {vip} removed"),
            Change::VipChanged { vip, what } => write!(f, "vip {vip}: {} changed", what.join(", ")),
            Change::PoolAdded { pool } => write!(f, "pool {pool} added"),
            Change::PoolRemoved { pool } => write!(f, "pool {pool} removed"),
            Change::PoolChanged { pool, what } => write!(f, "pool {pool}: {} changed", what.join(", ")),
            Change::EndpointAdded { pool, endpoint } => write!(f, "pool {pool}: endpoint {endpoint} added"),
            Change::EndpointRemoved { pool, endpoint } => write!(f, "pool {pool}: endpoint {endpoint} removed"),
            Change::EndpointLeaves { pool, endpoint } => write!(f, "pool {pool}: endpoint {endpoint} leaves"),
            Change::EndpointReturns { pool, endpoint } => write!(f, "pool {pool}: endpoint {endpoint} returns"),
            Change::SettingsChanged { what } => write!(f, "settings: {} changed", what.join(", ")),
        }
    }
}

/// Every change from `old` to `new`, services first.
pub fn diff(old: &Snapshot, new: &Snapshot) -> Vec<Change> {
    let mut changes = Vec::new();
    services(old, new, &mut changes);
    vips(old, new, &mut changes);
    pools(old, new, &mut changes);
    let (a, b) = (&old.settings, &new.settings);
    let what = named(&[
        ("metrics", a.metrics != b.metrics),
        ("admin", (&a.admin, &a.admin_token, a.admin_read_only) != (&b.admin, &b.admin_token, b.admin_read_only)),
        ("workers", a.workers != b.workers),
        ("hash_key", a.hash_key != b.hash_key),
        ("packets", a.packet_io != b.packet_io),
        ("drain", a.drain_timeout != b.drain_timeout),
        ("watch", a.watch != b.watch),
        ("log", (a.log_level, a.log_json, &a.log_output) != (b.log_level, b.log_json, &b.log_output)),
        ("access_log", a.access_output != b.access_output),
        ("process", a.process != b.process),
    ]);
    if old.generation > 0 && !what.is_empty() {
        changes.push(Change::SettingsChanged { what });
    }
    changes
}

fn services(old: &Snapshot, new: &Snapshot, changes: &mut Vec<Change>) {
    for service in new.services() {
        let name = service.spec.name.clone();
        let before = old.service(service.id);
        match before {
            None => changes.push(Change::ServiceAdded { service: name.clone() }),
            Some(before) if Arc::ptr_eq(before, service) => continue,
            Some(before) => {
                let (a, b) = (&before.spec, &service.spec);
                let mut what = named(&[
                    ("timeouts", a.timeouts != b.timeouts),
                    ("limits", a.limits != b.limits),
                    ("access_log", a.access != b.access),
                ]);
                what.extend(traffic(&a.traffic, &b.traffic));
                if !what.is_empty() {
                    changes.push(Change::ServiceChanged { service: name.clone(), what });
                }
            }
        }
        let listened = before.map_or(&[][..], |before| &before.spec.listen);
        for address in service.spec.listen.iter().filter(|address| !listened.contains(address)) {
            changes.push(Change::ListenerAdded { service: name.clone(), id: service.id, address: *address });
        }
        for address in listened.iter().filter(|address| !service.spec.listen.contains(address)) {
            changes.push(Change::ListenerRemoved { service: name.clone(), id: service.id, address: *address });
        }
    }
    for service in old.services().filter(|service| new.service(service.id).is_none()) {
        let name = service.spec.name.clone();
        for address in &service.spec.listen {
            changes.push(Change::ListenerRemoved { service: name.clone(), id: service.id, address: *address });
        }
        changes.push(Change::ServiceRemoved { service: name });
    }
}

/// The keys of the file that lead to another answer.
fn traffic(old: &TrafficSpec, new: &TrafficSpec) -> Vec<&'static str> {
    match (old, new) {
        (TrafficSpec::L4 { pool: a, .. }, TrafficSpec::L4 { pool: b, .. }) if a != b => vec!["pool"],
        // What an l4 service has besides is its pool's: `balance` is named there.
        (TrafficSpec::L4 { .. }, TrafficSpec::L4 { .. }) => Vec::new(),
        (TrafficSpec::L7(a), TrafficSpec::L7(b)) => named(&[
            ("routes", a.routes != b.routes),
            ("trusted_proxies", a.trusted_proxies != b.trusted_proxies),
            ("reason_field", a.reason_field != b.reason_field),
            ("retries", a.retries != b.retries),
        ]),
        (TrafficSpec::Packet(a), TrafficSpec::Packet(b)) => {
            let idle = |spec: &PacketSpec| (spec.policy.tcp_idle, spec.policy.other_idle);
            named(&[
                ("mode", a.mode != b.mode),
                ("forward", a.forward != b.forward),
                ("vip", a.vip != b.vip),
                ("ports", a.ports != b.ports),
                ("source", a.sources != b.sources),
                ("engine", a.engine != b.engine),
                ("pool", a.pool != b.pool),
                ("on_down", a.policy.on_down != b.policy.on_down),
                ("affinity", a.policy.affinity != b.policy.affinity),
                ("slots", a.slots != b.slots),
                ("flow_timeouts", idle(a) != idle(b)),
            ])
        }
        (TrafficSpec::L4 { .. }, TrafficSpec::Packet(other)) | (TrafficSpec::Packet(other), TrafficSpec::L4 { .. })
            if other.mode == ModeKind::L4 =>
        {
            vec!["forward"]
        }
        _ => vec!["mode"],
    }
}

fn vips(old: &Snapshot, new: &Snapshot, changes: &mut Vec<Change>) {
    for vip in new.vips() {
        let name = vip.spec.name.clone();
        let Some(before) = old.vip(vip.id) else {
            changes.push(Change::VipAdded { vip: name });
            continue;
        };
        let (a, b) = (&before.spec, &vip.spec);
        let what = named(&[
            ("address", a.addresses != b.addresses),
            ("interface", a.interface != b.interface),
            ("vlan", a.vlan != b.vlan),
            ("mac", a.mac != b.mac),
        ]);
        if !what.is_empty() {
            changes.push(Change::VipChanged { vip: name, what });
        }
    }
    for vip in old.vips().filter(|vip| new.vip(vip.id).is_none()) {
        changes.push(Change::VipRemoved { vip: vip.spec.name.clone() });
    }
}

fn pools(old: &Snapshot, new: &Snapshot, changes: &mut Vec<Change>) {
    for pool in new.pools() {
        let name = pool.spec.name.clone();
        let Some(before) = old.pool(pool.id) else {
            changes.push(Change::PoolAdded { pool: name });
            continue;
        };
        if Arc::ptr_eq(before, pool) {
            continue;
        }
        for endpoint in pool.endpoints.iter().filter(|e| before.endpoint(&e.name).is_none()) {
            changes.push(Change::EndpointAdded { pool: name.clone(), endpoint: endpoint.name.clone() });
        }
        for endpoint in before.endpoints.iter().filter(|e| pool.endpoint(&e.name).is_none()) {
            changes.push(Change::EndpointRemoved { pool: name.clone(), endpoint: endpoint.name.clone() });
        }
        let (a, b) = (&before.spec, &pool.spec);
        let stayed = || {
            let after = |before: &EndpointSpec| b.endpoints.iter().find(|after| after.address == before.address);
            a.endpoints.iter().filter_map(move |before| Some((before, after(before)?)))
        };
        for (before, after) in stayed().filter(|(before, after)| before.leaving != after.leaving) {
            let (pool, endpoint) = (name.clone(), Arc::from(before.address.to_string()));
            changes.push(match after.leaving {
                true => Change::EndpointLeaves { pool, endpoint },
                false => Change::EndpointReturns { pool, endpoint },
            });
        }
        let weights = stayed().any(|(before, after)| before.weight != after.weight);
        let zones = stayed().any(|(before, after)| before.zone != after.zone);
        let backups = stayed().any(|(before, after)| before.backup != after.backup);
        let macs = stayed().any(|(before, after)| before.mac != after.mac);
        let what = named(&[
            ("balance", a.balance != b.balance),
            ("probe", a.probe != b.probe),
            ("outlier", a.outlier != b.outlier),
            ("damping", a.damping != b.damping),
            ("slow_start", a.slow_start != b.slow_start),
            ("panic_percent", a.placement.panic_percent != b.placement.panic_percent),
            ("zones", zones || a.placement.local != b.placement.local),
            ("limits", a.capacity != b.capacity),
            ("connect_timeout", a.connect_timeout != b.connect_timeout),
            ("source", a.sourced != b.sourced),
            ("weights", weights),
            ("backups", backups),
            ("macs", macs),
        ]);
        if !what.is_empty() {
            changes.push(Change::PoolChanged { pool: name, what });
        }
    }
    for pool in old.pools().filter(|pool| new.pool(pool.id).is_none()) {
        changes.push(Change::PoolRemoved { pool: pool.spec.name.clone() });
    }
}

fn named(changed: &[(&'static str, bool)]) -> Vec<&'static str> {
    changed.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect()
}
