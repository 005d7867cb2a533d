//! Value: the documents of the admin API, made from the snapshot in force and what the health keeper reports.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::control::{Control, EndpointReport, SourceState, unix_ms};
use super::document;
use super::ready::{Of, readiness};
use crate::base::{Moment, Reason, clock};
use crate::doc::codes;
use crate::observe::cells::{DURATION_BOUNDS_US, UpstreamError};
use crate::observe::packets::Wayless;
use crate::observe::{Cells, Histogram, Packets, PerWorker, events};
use crate::route::Pattern;
use crate::state::{Endpoint, EndpointSpec, ModeKind, Pool, PoolView, Service, Snapshot, Traffic};
use crate::wire::http1::Reject;

mod packets;

pub use packets::{Carriers, answers_here, engine, families, fill, marked};

pub fn status(control: &Control, uptime: Duration, reports: &[EndpointReport]) -> document::Status {
    let crew = &control.crew;
    let snapshot = crew.snapshot.load_full();
    document::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: snapshot.generation,
        uptime_ms: ms(uptime),
        pid: std::process::id(),
        ready: readiness(control, &Of::Process).is_some_and(|readiness| readiness.ready),
        draining: crew.draining(),
        workers: snapshot.settings.workers,
        connections: snapshot.services().map(|service| u64::from(service.kept.open.load(Relaxed))).sum(),
        last_reload_successful: control.reloads.last_successful(),
        last_reload_success_at_ms: control.reloads.success_at_ms(),
        warnings: control.reloads.found().0.diagnostics.len() + noticed(&snapshot, &crew.packets).count(),
        probes_static: crew.probes_static.load(Relaxed),
        read_only: snapshot.settings.admin_read_only,
        last_event: events::ring().last(),
        services: services(&snapshot, &crew.packets),
        vips: packets::vips(&snapshot),
        packets: packets::engine_document(&snapshot, &crew.packets),
        sources: control.sources.states().iter().map(source).collect(),
        pools: pools(&snapshot, reports),
    }
}

pub fn diagnostics(control: &Control) -> document::Diagnostics {
    let (mut warnings, refused) = control.reloads.found();
    let snapshot = control.crew.snapshot.load();
    for found in noticed(&snapshot, &control.crew.packets) {
        let help = found.help.as_deref().unwrap_or_default();
        let place = format!("{}:{}", found.file, found.line);
        warnings
            .rendered
            .push_str(&format!("warning[{}]: {}\n --> {place}\n  = help: {help}\n\n", found.code, found.message));
        warnings.diagnostics.push(found);
    }
    let generation = snapshot.generation;
    let found = control.sources.states().iter().flat_map(mistakes).collect();
    document::Diagnostics { generation, warnings: warnings.diagnostics, rendered: warnings.rendered, refused, found }
}

fn source(state: &SourceState) -> document::Source {
    let refused = state.verdict.refused.iter();
    document::Source {
        table: state.owner.clone(),
        kind: state.kind.to_owned(),
        about: state.about.clone(),
        up: state.is_up(),
        failure: state.failure.as_ref().map(|failure| failure.message.clone()),
        success_at_ms: state.success_at.map(unix_ms),
        members: state.verdict.members,
        leaving: state.verdict.leaving,
        routes: state.verdict.routes,
        refused: refused.map(|(why, count)| document::Drop { reason: why.word().to_owned(), count: *count }).collect(),
        mistakes: refused_of(state).take(MISTAKES_SHOWN).collect(),
    }
}

fn mistakes(state: &SourceState) -> Vec<document::FoundMistake> {
    let failure = state.failure.iter().map(|failure| document::FoundMistake {
        table: state.owner.clone(),
        reason: failure.why.word().to_owned(),
        place: state.about.clone(),
        message: failure.message.clone(),
        help: None,
    });
    failure.chain(refused_of(state)).collect()
}

fn refused_of(state: &SourceState) -> impl Iterator<Item = document::FoundMistake> {
    state.verdict.mistakes.iter().map(|mistake| document::FoundMistake {
        table: state.owner.clone(),
        reason: mistake.why.word().to_owned(),
        place: mistake.place.clone(),
        message: mistake.message.clone(),
        help: mistake.help.clone(),
    })
}

/// What no file shows, and is known since it serves.
fn noticed(snapshot: &Snapshot, packets: &Packets) -> impl Iterator<Item = document::Diagnostic> {
    masked(snapshot).chain(wayless(snapshot, packets))
}

/// Of each service whose clients' addresses seem to be lost.
fn masked(snapshot: &Snapshot) -> impl Iterator<Item = document::Diagnostic> {
    snapshot.services().filter(|service| service.kept.clients.seem_masked()).map(|service| {
        let name = &*service.spec.name;
        let message = format!("every client of service {name} seems to be this host's gateway");
        let help = "their addresses are lost on the way: run on the host's network or on a macvlan, or name the proxy before it in \
                    `trusted_proxies` (docs/docker.md)";
        warning(snapshot, &codes::MASKED_CLIENTS, message, help, &format!("/service/{name}/listen"))
    })
}

/// Of each endpoint that no way leads to.
fn wayless(snapshot: &Snapshot, packets: &Packets) -> impl Iterator<Item = document::Diagnostic> {
    packets.wayless().into_iter().map(|Wayless { pool, endpoint, why }| {
        let message = format!("no way leads to endpoint {endpoint} of pool {pool}: {why}");
        let help =
            "its packets are dropped (`unroutable`): give this machine a route to it (`ip route get`), or take it out";
        let is_found = snapshot.pool_named(&pool).is_some_and(|pool| pool.spec.sourced);
        let key = if is_found { "source" } else { "endpoints" };
        warning(snapshot, &codes::NO_WAY, message, help, &format!("/pool/{pool}/{key}"))
    })
}

/// `at`: the key that it is said of. Its first value that stands in a file is where.
fn warning(snapshot: &Snapshot, code: &codes::Code, message: String, help: &str, at: &str) -> document::Diagnostic {
    let place = snapshot.places.pointer(at).and_then(first_place).unwrap_or_default();
    let (file, line) = place.rsplit_once(':').unwrap_or((place, ""));
    document::Diagnostic {
        severity: "warning".to_owned(),
        code: code.id.to_owned(),
        message,
        help: Some(help.to_owned()),
        file: file.to_owned(),
        line: line.parse().unwrap_or(0),
        column: 1,
    }
}

fn first_place(of: &serde_json::Value) -> Option<&str> {
    match of {
        serde_json::Value::Array(all) => all.iter().find_map(first_place),
        serde_json::Value::Object(all) => all.values().find_map(first_place),
        one => one.as_str(),
    }
}

/// Of each source, in a document that shows all of them.
const MISTAKES_SHOWN: usize = 10;

pub fn events(since: Option<u64>, limit: usize) -> document::Events {
    let page = events::ring().page(since, limit);
    let event = |event: events::Event| document::Event {
        seq: event.seq,
        at_ms: unix_ms(event.at),
        level: event.level.to_owned(),
        kind: event.kind.to_owned(),
        subject: event.subject,
        text: event.text,
    };
    let events = page.events.into_iter().map(event).collect();
    document::Events { pid: std::process::id(), oldest: page.oldest, last: page.last, events }
}

/// That loops of the process do not go on, where it is so.
pub fn stuck(control: &Control) -> Option<String> {
    let silent = control.crew.beats.silent();
    (silent > 0).then(|| format!("{silent} of its loops do not get to their tasks: its log names them"))
}

pub fn services(snapshot: &Snapshot, packets: &Packets) -> Vec<document::Service> {
    snapshot.services().map(|each| service(snapshot, each, packets)).collect()
}

fn service(snapshot: &Snapshot, service: &Service, packets: &Packets) -> document::Service {
    let cells = &service.kept.cells;
    let name = |id| snapshot.pool(id).map(|pool| pool.spec.name.to_string()).unwrap_or_default();
    let (routes, mut pools): (Vec<document::Route>, Vec<String>) = match &service.traffic {
        Traffic::L4(l4) => (Vec::new(), vec![name(l4.pool)]),
        Traffic::Packet(packet) => (Vec::new(), vec![name(packet.pool)]),
        Traffic::L7(l7) => {
            let shown = |pattern: &Pattern| pattern.to_string();
            let routes = l7.spec.routes.iter().map(|route| document::Route {
                url: shown(&route.pattern),
                priority: route.priority,
                pool: name(route.pool),
            });
            (routes.collect(), l7.spec.routes.iter().map(|route| name(route.pool)).collect())
        }
    };
    let mut seen = HashSet::new();
    pools.retain(|pool| seen.insert(pool.clone()));
    let responses = responses(service);
    let packet = match &service.traffic {
        Traffic::Packet(packet) => Some(packet),
        Traffic::L4(_) | Traffic::L7(_) => None,
    };
    let opened = cells.sum(|row| row.connections_opened.get());
    document::Service {
        name: service.spec.name.to_string(),
        mode: service.mode().word().to_owned(),
        forward: packet.map(|packet| packet.forward.word().to_owned()),
        engine: engine(service, snapshot, packets).to_owned(),
        listen: listen(snapshot, service),
        vip: packet.and_then(|packet| snapshot.vip(packet.vip)).map(|vip| vip.spec.name.to_string()),
        pools,
        routes,
        connections: packet.is_none().then(|| service.kept.open.load(Relaxed).into()),
        connections_total: packet.is_none().then_some(opened),
        requests_total: responses.iter().map(|(_, count)| count).sum(),
        server_errors_total: responses.iter().filter(|(code, _)| *code >= 500).map(|(_, count)| count).sum(),
        packets_total: packet.map(|_| cells.sum(|row| row.packets.get())),
        slots_marked: packet.map(|packet| packets::marked(service, packet)),
        bytes_received_total: cells.sum(|row| row.bytes_received.get()),
        bytes_sent_total: packets::answers_here(service).then(|| cells.sum(|row| row.bytes_sent.get())),
        drops: drops(service),
        request_duration: (service.mode() == ModeKind::L7).then(|| durations(cells, |row| &row.request_duration)),
    }
}

fn durations<T: Cells>(cells: &PerWorker<T>, of: impl Fn(&T) -> &Histogram) -> document::Durations {
    let (counts, sum_us) = cells.durations(of);
    let from = [0].into_iter().chain(DURATION_BOUNDS_US);
    let to = DURATION_BOUNDS_US.into_iter().map(Some).chain([None]);
    let buckets = from.zip(to).zip(counts).filter(|(_, count)| *count > 0);
    let bucket = |((from_us, to_us), count)| document::Bucket { from_us, to_us, count };
    document::Durations { sum_us, buckets: buckets.map(bucket).collect() }
}

/// Where clients reach it: the addresses it listens on, or those of its VIP with its ports.
fn listen(snapshot: &Snapshot, service: &Service) -> Vec<String> {
    let Traffic::Packet(packet) = &service.traffic else {
        return service.spec.listen.iter().map(ToString::to_string).collect();
    };
    let addresses = snapshot.vip(packet.vip).map(|vip| vip.spec.addresses.clone()).unwrap_or_default();
    let Some(ports) = &packet.ports else { return addresses.iter().map(ToString::to_string).collect() };
    let at = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    addresses.iter().flat_map(|address| ports.iter().map(move |range| format!("{}:{range}", at(address)))).collect()
}

fn drops(service: &Service) -> Vec<document::Drop> {
    let cells = &service.kept.cells;
    let reasons = Reason::ALL.iter().map(|reason| (reason.word(), cells.sum(|row| row.dropped(*reason))));
    let rejects = Reject::ALL.iter().map(|reject| (reject.word(), cells.sum(|row| row.rejected(*reject))));
    largest_first(reasons.chain(rejects))
}

/// Those that were counted.
fn largest_first(counts: impl Iterator<Item = (&'static str, u64)>) -> Vec<document::Drop> {
    let counted = counts.filter(|(_, count)| *count > 0);
    let mut drops: Vec<_> =
        counted.map(|(reason, count)| document::Drop { reason: reason.to_owned(), count }).collect();
    drops.sort_by_key(|drop| std::cmp::Reverse(drop.count));
    drops
}

/// Final responses by status over all workers, zeros included.
pub fn responses(service: &Service) -> Vec<(u16, u64)> {
    let mut sums: Vec<(u16, u64)> = Vec::new();
    for row in service.kept.cells.rows() {
        if sums.is_empty() {
            sums.extend(row.responses.iter());
        } else {
            for (sum, (_, count)) in sums.iter_mut().zip(row.responses.iter()) {
                sum.1 = sum.1.wrapping_add(count);
            }
        }
    }
    sums
}

pub fn pools(snapshot: &Snapshot, reports: &[EndpointReport]) -> Vec<document::Pool> {
    let reports: HashMap<(&str, &str), &EndpointReport> =
        reports.iter().map(|report| ((&*report.pool, &*report.endpoint), report)).collect();
    let carriers = Carriers::of_all(snapshot);
    let carriers = |pool: &Pool| carriers.get(&pool.id).copied().unwrap_or_default();
    snapshot.pools().map(|each| pool(each, carriers(each), &reports)).collect()
}

fn pool(pool: &Pool, carriers: Carriers, reports: &HashMap<(&str, &str), &EndpointReport>) -> document::Pool {
    let view = pool.view();
    let usable = Usable::of(&view);
    let report = |endpoint: &Endpoint| reports.get(&(&*pool.spec.name, &*endpoint.name)).copied();
    document::Pool {
        name: pool.spec.name.to_string(),
        balance: pool.spec.balance.name.to_owned(),
        probe: pool.spec.probe.as_ref().map(|probe| probe.name.to_owned()),
        usable: usable.0.len(),
        panic: view.panic,
        backup: view.backup,
        local: view.local,
        queue: pool.queue.waiting(),
        retries_total: pool.cells.sum(|row| row.retries.get()),
        connect_duration: carriers.proxies.then(|| durations(&pool.cells, |row| &row.connect_duration)),
        response_duration: carriers.proxies.then(|| durations(&pool.cells, |row| &row.response_duration)),
        endpoints: pool
            .endpoints
            .iter()
            .zip(&pool.spec.endpoints)
            .map(|(each, said)| endpoint(each, said, usable.contains(each), carriers, report(each)))
            .collect(),
    }
}

fn endpoint(
    endpoint: &Endpoint,
    said: &EndpointSpec,
    usable: bool,
    carriers: Carriers,
    report: Option<&EndpointReport>,
) -> document::Endpoint {
    let status = endpoint.status();
    let cells = &endpoint.cells;
    let changed_at = endpoint.changed_at.load(Relaxed);
    let since = (changed_at > 0).then(|| clock::now().since(Moment(changed_at)));
    document::Endpoint {
        name: endpoint.name.to_string(),
        address: endpoint.address.to_string(),
        intent: status.intent.word().to_owned(),
        health: status.health.word().to_owned(),
        usable,
        weight: status.weight.get(),
        warmth_percent: (!status.warmth.is_full()).then(|| status.warmth.percent()),
        backup: said.backup,
        leaving: said.leaving,
        zone: said.zone.as_deref().map(str::to_owned),
        cause: report.and_then(|report| report.cause.clone()),
        since_ms: report.and_then(|report| report.since).or(since).map(ms),
        next_probe_ms: report.and_then(|report| report.next_probe).map(ms),
        in_flight: endpoint.load.in_flight(),
        connections: open_connections(endpoint),
        connections_total: cells.sum(|row| row.connections_opened.get()),
        requests_total: cells.sum(|row| row.requests.get()),
        errors_total: UpstreamError::ALL.iter().map(|kind| cells.sum(|row| row.errors(*kind))).sum(),
        probes_failed_total: cells.sum(|row| row.probes_failed.get()),
        packets_sent_total: carriers.packets.then(|| cells.sum(|row| row.sent.packets.get())),
        bytes_sent_total: carriers.packets.then(|| cells.sum(|row| row.sent.bytes.get())),
        packets_received_total: carriers.translated.then(|| cells.sum(|row| row.received.packets.get())),
        bytes_received_total: carriers.translated.then(|| cells.sum(|row| row.received.bytes.get())),
    }
}

/// Connections to the endpoint open now. The two counts are read one after the other: a close in between must not wrap.
pub fn open_connections(endpoint: &Endpoint) -> u64 {
    let closed = endpoint.cells.sum(|row| row.connections_closed.get());
    endpoint.cells.sum(|row| row.connections_opened.get()).saturating_sub(closed)
}

/// The endpoints of a view, for asking one after the other.
pub struct Usable(HashSet<usize>);

impl Usable {
    pub fn of(view: &PoolView) -> Usable {
        Usable(view.endpoints.iter().map(|endpoint| Arc::as_ptr(endpoint).addr()).collect())
    }

    pub fn contains(&self, endpoint: &Endpoint) -> bool {
        self.0.contains(&std::ptr::from_ref(endpoint).addr())
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
