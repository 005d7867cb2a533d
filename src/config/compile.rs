//! Engine: `Config` to `Snapshot`: names become ids, settings become specs. Pure; building touches nothing that serves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::value::{Config, Endpoint, L4, L7, Limits, LogFormat, Packet, Pool, Process, Service, Traffic, Vip};
use crate::balance::{Capacity, HashBy};
use crate::base::{HashKey, PoolId, Ports, VipId};
use crate::doc::{Diagnostic, Span, codes};
use crate::flow::Policy;
use crate::health::{DampingRules, Local, OutlierRules, Placement};
use crate::state::snapshot::Names;
use crate::state::{
    self, EndpointSpec, L7Spec, PacketSpec, PoolSpec, ServiceSpec, Snapshot, Specs, Timeouts, TrafficSpec, VipSpec,
};

/// What the machine adds to the file.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub cores: usize,
    /// Fresh random bytes, for a file without `[cluster] hash_key`.
    pub random_key: HashKey,
}

/// The generation after `previous`. `config` must come without an error from `load`.
///
/// # Errors
/// When there are no ids left: names of removed services and pools keep theirs for the life of the process.
pub fn compile(config: &Config, previous: &Snapshot, machine: &Machine) -> Result<Snapshot, Vec<Diagnostic>> {
    let mut names = previous.names().clone();
    let pools: HashMap<Arc<str>, (PoolId, &Pool)> = pool_ids(config, &mut names).ok_or_else(exhausted)?;
    let vips: HashMap<Arc<str>, VipId> = vip_ids(config, &mut names).ok_or_else(exhausted)?;
    for service in &config.services {
        names.service(&service.name).ok_or_else(exhausted)?;
    }
    let settings = settings(config, previous, machine);
    let mut effective = serde_json::to_value(config).unwrap_or_default();
    if let Some(map) = effective.as_object_mut() {
        map.insert("workers".to_owned(), settings.workers.into());
    }
    let specs = Specs {
        vips: config.vips.iter().map(vip_spec).collect(),
        pools: config.pools.iter().map(|pool| pool_spec(pool, config.cluster.zone.as_ref())).collect(),
        services: config.services.iter().filter_map(|service| service_spec(service, &pools, &vips)).collect(),
    };
    Ok(previous.build(settings, names, specs, effective))
}

fn pool_ids<'c>(config: &'c Config, names: &mut Names) -> Option<HashMap<Arc<str>, (PoolId, &'c Pool)>> {
    config.pools.iter().map(|pool| Some((pool.name.value.clone(), (names.pool(&pool.name)?, pool)))).collect()
}

fn vip_ids(config: &Config, names: &mut Names) -> Option<HashMap<Arc<str>, VipId>> {
    config.vips.iter().map(|vip| Some((vip.name.value.clone(), names.vip(&vip.name)?))).collect()
}

fn exhausted() -> Vec<Diagnostic> {
    let message = "no id is left for a new name: this process has seen 65536 names come and go";
    vec![Diagnostic::new(&codes::TOO_MANY_NAMES, Span::default(), message).help("restart Strata, or reuse names")]
}

fn settings(config: &Config, previous: &Snapshot, machine: &Machine) -> state::Settings {
    let before = (previous.generation > 0).then_some(&previous.settings);
    let kept = before.map(|before| before.hash_key);
    state::Settings {
        // Nor be refused because the cores a container may use are others than at start.
        workers: config.workers.or(before.map(|before| before.workers)).unwrap_or(machine.cores).max(1),
        metrics: config.metrics.as_ref().map(|metrics| metrics.listen.value),
        admin: config.admin.as_ref().map(|admin| admin.listen.value.clone()),
        admin_token: config.admin.as_ref().and_then(|admin| admin.token.clone()),
        admin_read_only: config.admin.as_ref().is_some_and(|admin| admin.read_only),
        // A reload must not move every client because nobody chose a key.
        random_key: config.cluster.hash_key.is_none(),
        hash_key: config.cluster.hash_key.or(kept).unwrap_or(machine.random_key),
        packet_io: config.packets.io.value,
        drain_timeout: config.drain.timeout,
        log_level: config.log.level.word(),
        watch: config.watch,
        log_json: config.log.format == LogFormat::Json,
        log_output: config.log.output.clone(),
        access_output: config.access_log.output.clone(),
        process: process(&config.process),
    }
}

fn process(process: &Process) -> state::Process {
    let Process { max_connections, max_memory, user, keep_capabilities, upgrade_timeout } = process.clone();
    state::Process { max_connections, max_memory, user, keep_capabilities, upgrade_timeout }
}

fn vip_spec(vip: &Vip) -> VipSpec {
    VipSpec {
        name: vip.name.value.clone(),
        addresses: vip.addresses.iter().map(|address| address.value).collect(),
        interface: vip.interface.value.clone(),
        vlan: vip.vlan.map(|vlan| vlan.value),
        mac: vip.mac,
    }
}

fn pool_spec(pool: &Pool, zone: Option<&Arc<str>>) -> PoolSpec {
    // A pool of packet services has these too, and nothing that would look at them.
    let dialled = pool.dialled.clone().unwrap_or_default();
    let endpoint = |endpoint: &Endpoint| EndpointSpec {
        address: endpoint.address.value,
        weight: endpoint.weight,
        mac: endpoint.mac,
        backup: endpoint.backup,
        zone: endpoint.zone.clone(),
        leaving: endpoint.leaving,
    };
    let local = pool.zones.as_ref().zip(zone).map(|(zones, zone)| Local::of(zones, zone.clone()));
    PoolSpec {
        name: pool.name.value.clone(),
        balance: pool.balance.value.clone(),
        probe: pool.probe.as_ref().map(|probe| probe.value.clone()),
        outlier: OutlierRules::of(&dialled.outlier),
        damping: DampingRules::of(&pool.damping),
        slow_start: dialled.slow_start.map_or(Duration::ZERO, |time| time.value),
        placement: Placement { panic_percent: pool.panic_percent.unwrap_or(0).into(), local },
        capacity: Capacity::of(&dialled.limits),
        connect_timeout: dialled.connect_timeout,
        sourced: pool.source.is_some() || pool.found.is_some(),
        endpoints: pool.endpoints.iter().map(endpoint).collect(),
    }
}

/// `None` when it leads to a pool or vip that is not there, which `load` has reported.
fn service_spec(
    service: &Service,
    pools: &HashMap<Arc<str>, (PoolId, &Pool)>,
    vips: &HashMap<Arc<str>, VipId>,
) -> Option<ServiceSpec> {
    let target = |name: &Arc<str>| {
        let (id, pool) = pools.get(name)?;
        Some((*id, HashBy::of(&pool.balance).unwrap_or(HashBy::SourceAddress)))
    };
    let (traffic, timeouts) = match &service.traffic {
        Traffic::L4(l4) => {
            let (pool, hash_by) = target(&l4.pool)?;
            (TrafficSpec::L4 { pool, hash_by }, l4_timeouts(l4))
        }
        Traffic::L7(l7) => (TrafficSpec::L7(l7_spec(l7, target)?), l7_timeouts(l7)),
        Traffic::Packet(packet) => {
            let (id, pool) = pools.get(&packet.pool.value)?;
            let packet = packet_spec(packet, *vips.get(&packet.vip.value)?, *id, pool);
            (TrafficSpec::Packet(packet), NO_TIMEOUTS)
        }
    };
    Some(ServiceSpec {
        name: service.name.value.clone(),
        listen: service.listen.iter().map(|listen| listen.value).collect(),
        timeouts,
        limits: limits(&service.limits),
        access: service.access_log,
        traffic,
    })
}

fn l7_spec(l7: &L7, target: impl Fn(&Arc<str>) -> Option<(PoolId, HashBy)>) -> Option<L7Spec> {
    let routes = l7.routes.iter().map(|route| {
        let (pool, hash_by) = target(&route.pool)?;
        Some(state::Route {
            url: route.url.clone().unwrap_or_default(),
            pattern: route.pattern.value.clone(),
            priority: route.priority,
            pool,
            hash_by,
            place: route.place.clone(),
        })
    });
    Some(L7Spec {
        routes: routes.collect::<Option<_>>()?,
        trusted_proxies: l7.trusted_proxies.clone(),
        reason_field: l7.reason_field,
        retries: l7.retries,
    })
}

fn packet_spec(packet: &Packet, vip: VipId, pool_id: PoolId, pool: &Pool) -> PacketSpec {
    PacketSpec {
        mode: packet.mode,
        forward: packet.forward,
        vip,
        ports: packet.ports.as_ref().map(|ports| Ports::new(ports.iter().map(|range| range.value))),
        sources: packet.sources.iter().map(|source| source.value).collect(),
        engine: packet.engine,
        pool: pool_id,
        // Flows are what a picker spreads that hashes nothing.
        hash_by: HashBy::of(&pool.balance).unwrap_or(HashBy::SourceAddressPort),
        policy: Policy {
            on_down: packet.on_down,
            affinity: packet.affinity,
            tcp_idle: packet.flow_timeouts.tcp,
            other_idle: packet.flow_timeouts.other,
        },
        slots: packet.slots.value,
    }
}

fn limits(limits: &Limits) -> state::Limits {
    state::Limits {
        max_connections: limits.max_connections.unwrap_or(0),
        max_connections_per_source: limits.max_connections_per_source.unwrap_or(0),
        max_body_bytes: limits.max_body.unwrap_or(0),
        max_requests: limits.max_requests.unwrap_or(0),
    }
}

/// A relay knows two waits; the others are an exchange's.
fn l4_timeouts(l4: &L4) -> Timeouts {
    let L4 { timeouts: own, .. } = l4;
    Timeouts { idle: own.idle, client: own.idle, tunnel: own.idle, half_close: own.half_close, ..NO_TIMEOUTS }
}

fn l7_timeouts(l7: &L7) -> Timeouts {
    let own = &l7.timeouts;
    Timeouts {
        header: own.header,
        idle: own.idle,
        response: own.response,
        body: own.body,
        client: own.client,
        tunnel: own.tunnel,
        half_close: own.half_close,
    }
}

/// Nothing waits.
const NO_TIMEOUTS: Timeouts = Timeouts {
    header: Duration::ZERO,
    idle: Duration::ZERO,
    response: Duration::ZERO,
    body: Duration::ZERO,
    client: Duration::ZERO,
    tunnel: Duration::ZERO,
    half_close: Duration::ZERO,
};
