//! Shell: `/metrics`. A `prometheus` collector that walks the snapshot in force at each scrape and sums the workers' cells.
//!
//! Because it reads the snapshot, series exist at zero as soon as their object does and vanish with it, and no metric has to be
//! registered or forgotten. Not here: names (`observe::names`), nor counting (`observe::cells`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{Encoder, Registry, TextEncoder};

use super::control::{Control, SourceState, unix_ms};
use super::describe::{self, Carriers, Usable};
use super::refusal::{RefusalCounts, Why};
use crate::base::{Reason, clock};
use crate::health::{Health, Intent};
use crate::net::pressure::{Pressure, Resource};
use crate::observe::cells::{DURATION_BOUNDS_US, UpstreamError};
use crate::observe::names::{self, Kind, Metric};
use crate::observe::{Cells, Histogram, Packets, PerWorker, log, panics};
use crate::seam::source::{Refusal, Trouble};
use crate::state::{Endpoint, ModeKind, Pool, Service, Snapshot, Traffic};
use crate::sys::vitals;
use crate::wire::http1::Reject;

mod packets;

/// Everything that `/metrics` shows.
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub fn new(control: Control, refusals: Arc<RefusalCounts>) -> Metrics {
        let registry = Registry::new();
        // Fails only for names that clash: the test that scrapes would have found it.
        let registered = registry.register(Box::new(Collected::new(control, refusals)));
        debug_assert!(registered.is_ok(), "{registered:?}");
        Metrics { registry }
    }

    /// The text exposition format, and its content type.
    pub fn text(&self) -> (Vec<u8>, String) {
        let encoder = TextEncoder::new();
        let mut text = Vec::with_capacity(64 * 1024);
        if let Err(error) = encoder.encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be encoded");
        }
        (text, encoder.format_type().to_owned())
    }
}

struct Collected {
    control: Control,
    refusals: Arc<RefusalCounts>,
    /// When the process began, Unix time: the same at every scrape.
    started_at: Option<Duration>,
    descs: Vec<Desc>,
}

impl Collected {
    fn new(control: Control, refusals: Arc<RefusalCounts>) -> Collected {
        let desc = |metric: &&Metric| {
            let labels = metric.labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(metric.name.to_owned(), metric.help.to_owned(), labels, HashMap::new()).ok()
        };
        let started_at =
            vitals::started_at().inspect_err(|error| tracing::warn!(%error, "no start of the process is known"));
        Collected {
            control,
            refusals,
            started_at: started_at.ok(),
            descs: names::ALL.iter().filter_map(desc).collect(),
        }
    }
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut page = Page::default();
        let crew = &self.control.crew;
        let snapshot = crew.snapshot.load_full();

        page.value(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
        page.value(&names::WORKERS, &[], snapshot.settings.workers as u64);
        page.value(&names::DRAINING, &[], crew.draining().into());
        let now = clock::now();
        page.float(&names::THREAD_SILENCE, &[], crew.beats.silence(now).as_secs_f64());
        page.value(&names::PROBES_STATIC, &[], crew.probes_static.load(Relaxed).into());
        page.float(&names::PROBES_OVERDUE, &[], crew.probes_overdue(now).as_secs_f64());
        page.value(&names::PANICS, &[], panics::count());
        page.pressure(&crew.pressure);
        page.value(&names::LOGS_DROPPED, &["access"], crew.access.dropped());
        page.value(&names::LOGS_DROPPED, &["program"], log::dropped());
        page.value(&names::EVENTS_LOST, &[], crew.control_lost.load(Relaxed) + crew.packets.events_lost.get());
        page.value(&names::ACCESS_UNWRITTEN, &[], crew.access.unwritten());
        for why in Why::ALL {
            page.value(&names::ADMIN_REFUSED, &[why.word()], self.refusals.of(*why));
        }
        page.process(self.started_at);
        page.value(&names::RELOAD_SUCCESSFUL, &[], self.control.reloads.last_successful().into());
        page.float(&names::RELOAD_SUCCESS_AT, &[], self.control.reloads.success_at_ms() as f64 / 1000.0);
        page.value(&names::GENERATION, &[], snapshot.generation);
        if snapshot.vips().next().is_some() {
            page.packets(&crew.packets, &snapshot);
        }
        for vip in snapshot.vips() {
            page.value(&names::VIP_OWNER, &[&vip.spec.name], vip.title.is_owner().into());
            page.value(&names::VIP_CONFLICTS, &[&vip.spec.name], vip.title.conflicts());
        }
        for source in self.control.sources.states().iter() {
            page.source(source);
        }
        for service in snapshot.services() {
            page.service(service, &snapshot, &crew.packets);
        }
        let carriers = Carriers::of_all(&snapshot);
        for pool in snapshot.pools() {
            page.pool(pool, carriers.get(&pool.id).copied().unwrap_or_default());
        }
        page.families()
    }
}

/// The families of one scrape, in the order of the table.
#[derive(Default)]
struct Page(HashMap<&'static str, Vec<proto::Metric>>);

impl Page {
    fn pressure(&mut self, pressure: &Pressure) {
        for (resource, used, limit) in [
            (Resource::Descriptors, &names::DESCRIPTORS_OPEN, &names::DESCRIPTORS_LIMIT),
            (Resource::Memory, &names::MEMORY_USED, &names::MEMORY_LIMIT),
        ] {
            let (is_used, is_limit) = pressure.usage(resource);
            self.value(used, &[], is_used);
            self.value(limit, &[], is_limit);
            let word = [resource.word()];
            self.value(&names::PRESSURE, &word, pressure.level_of(resource) as u64);
            self.value(&names::SHED, &word, pressure.shed(resource));
            self.value(&names::ACCEPT_PAUSES, &word, pressure.pauses(resource));
        }
        // By the names that they have everywhere.
        let (open, most) = pressure.usage(Resource::Descriptors);
        self.value(&names::OPEN_FDS, &[], open);
        self.value(&names::MAX_FDS, &[], most);
        self.value(&names::CONNECTIONS_LIMIT, &[], pressure.most_connections().into());
    }

    fn source(&mut self, source: &SourceState) {
        let labels = [source.owner.as_str(), source.kind];
        self.value(&names::SOURCE_UP, &labels, source.is_up().into());
        if let Some(at) = source.success_at {
            self.float(&names::SOURCE_SUCCESS_AT, &labels, unix_ms(at) as f64 / 1000.0);
        }
        self.value(&names::SOURCE_MEMBERS, &labels, source.verdict.members as u64);
        self.value(&names::SOURCE_LEAVING, &labels, source.verdict.leaving as u64);
        self.value(&names::SOURCE_ROUTES, &labels, source.verdict.routes as u64);
        for why in Refusal::ALL {
            let count = source.verdict.refused.get(&why).copied().unwrap_or(0);
            self.value(&names::SOURCE_REFUSED, &[&source.owner, why.word()], count);
        }
        for why in Trouble::ALL {
            let count = source.failures.get(&why).copied().unwrap_or(0);
            self.value(&names::SOURCE_FAILURES, &[&source.owner, why.word()], count);
        }
    }

    /// What the kernel cannot tell now is absent.
    fn process(&mut self, started_at: Option<Duration>) {
        if let Ok(vitals) = vitals::vitals() {
            self.float(&names::CPU_SECONDS, &[], vitals.processor.as_secs_f64());
            self.value(&names::RESIDENT_BYTES, &[], vitals.resident_bytes);
            self.value(&names::VIRTUAL_BYTES, &[], vitals.virtual_bytes);
            self.value(&names::THREADS, &[], vitals.threads);
        }
        if let Some(started_at) = started_at {
            self.float(&names::START_TIME, &[], started_at.as_secs_f64());
        }
    }

    fn service(&mut self, service: &Service, snapshot: &Snapshot, engine: &Packets) {
        let name = &*service.spec.name;
        let cells = &service.kept.cells;
        self.value(
            &names::SERVICE_INFO,
            &[name, service.mode().word(), describe::engine(service, snapshot, engine)],
            1,
        );
        let packets = matches!(service.traffic, Traffic::Packet(_));
        if packets {
            self.value(&names::PACKETS, &[name], cells.sum(|row| row.packets.get()));
            self.slots(service, snapshot);
        } else {
            // What forwards packets knows no connections.
            self.value(&names::CONNECTIONS, &[name], cells.sum(|row| row.connections_opened.get()));
            self.value(&names::CONNECTIONS_ACTIVE, &[name], service.kept.open.load(Relaxed).into());
        }
        self.value(&names::BYTES_RECEIVED, &[name], cells.sum(|row| row.bytes_received.get()));
        if describe::answers_here(service) {
            self.value(&names::BYTES_SENT, &[name], cells.sum(|row| row.bytes_sent.get()));
        }
        if !packets {
            self.value(&names::ACCESS_LOST, &[name], cells.sum(|row| row.access_records_lost.get()));
            self.value(&names::LISTEN_OVERFLOWS, &[name], cells.sum(|row| row.listen_overflows.get()));
        }
        for reason in
            Reason::ALL.iter().filter(|reason| reason.is_of_packets() == packets || **reason == Reason::NoEndpoint)
        {
            self.value(&names::DROPS, &[name, reason.word()], cells.sum(|row| row.dropped(*reason)));
        }
        if service.mode() == ModeKind::L7 {
            for reject in Reject::ALL {
                self.value(&names::DROPS, &[name, reject.word()], cells.sum(|row| row.rejected(*reject)));
            }
            self.requests(service);
            self.histogram(&names::REQUEST_DURATION, &[name], cells, |row| &row.request_duration);
        }
    }

    fn requests(&mut self, service: &Service) {
        for (code, count) in describe::responses(service) {
            if count > 0 || CODES_FROM_ZERO.contains(&code) {
                self.value(&names::REQUESTS, &[&service.spec.name, "http1", &code.to_string()], count);
            }
        }
    }

    fn pool(&mut self, pool: &Pool, carriers: Carriers) {
        let name = &*pool.spec.name;
        let view = pool.view();
        let probe = pool.spec.probe.as_ref().map_or("none", |probe| probe.name);
        self.value(&names::POOL_INFO, &[name, pool.spec.balance.name, probe], 1);
        self.value(&names::POOL_USABLE, &[name], view.endpoints.len() as u64);
        if carriers.proxies {
            self.value(&names::POOL_QUEUE, &[name], pool.queue.waiting().into());
            self.value(&names::RETRIES, &[name], pool.cells.sum(|row| row.retries.get()));
            self.histogram(&names::CONNECT_DURATION, &[name], &pool.cells, |row| &row.connect_duration);
            self.histogram(&names::RESPONSE_DURATION, &[name], &pool.cells, |row| &row.response_duration);
        }
        if pool.spec.probe.is_some() {
            self.histogram(&names::PROBE_DURATION, &[name], &pool.cells, |row| &row.probe_duration);
        }
        // Packets go by their service's own table.
        if carriers.proxies
            && let Some(fingerprint) = view.picker.fingerprint()
        {
            // What a float holds exactly.
            self.value(&names::FINGERPRINT, &[name], fingerprint >> 12);
        }
        self.value(&names::POOL_PANIC, &[name], view.panic.into());
        self.value(&names::POOL_BACKUP, &[name], view.backup.into());
        let usable = Usable::of(&view);
        for endpoint in &pool.endpoints {
            self.endpoint(pool, endpoint, usable.contains(endpoint));
            if carriers.proxies {
                self.proxied(pool, endpoint);
            }
            self.forwarded(pool, endpoint, carriers);
        }
    }

    fn endpoint(&mut self, pool: &Pool, endpoint: &Endpoint, usable: bool) {
        let status = endpoint.status();
        let cells = &endpoint.cells;
        let labels = [&*pool.spec.name, &*endpoint.name];
        self.value(&names::ENDPOINT_UP, &labels, usable.into());
        for intent in Intent::ALL {
            for health in Health::ALL {
                let is = status.intent == intent && status.health == health;
                let [pool, endpoint] = labels;
                self.value(&names::ENDPOINT_STATE, &[pool, endpoint, intent.word(), health.word()], is.into());
            }
        }
        self.float(&names::ENDPOINT_WEIGHT, &labels, status.weight_in_force());
        if pool.spec.probe.is_some() {
            let [pool, endpoint] = labels;
            self.value(&names::PROBES, &[pool, endpoint, "passed"], cells.sum(|row| row.probes_passed.get()));
            self.value(&names::PROBES, &[pool, endpoint, "failed"], cells.sum(|row| row.probes_failed.get()));
            self.value(&names::PROBES, &[pool, endpoint, "impossible"], cells.sum(|row| row.probes_impossible.get()));
        }
    }

    /// What only those who connect to an endpoint know.
    fn proxied(&mut self, pool: &Pool, endpoint: &Endpoint) {
        let cells = &endpoint.cells;
        let labels = [&*pool.spec.name, &*endpoint.name];
        self.value(&names::ENDPOINT_IN_FLIGHT, &labels, endpoint.load.in_flight().into());
        self.value(&names::ENDPOINT_REQUESTS, &labels, cells.sum(|row| row.requests.get()));
        self.value(&names::ENDPOINT_CONNECTIONS, &labels, cells.sum(|row| row.connections_opened.get()));
        self.value(&names::ENDPOINT_CONNECTIONS_ACTIVE, &labels, describe::open_connections(endpoint));
        for kind in UpstreamError::ALL {
            let [pool, endpoint] = labels;
            self.value(&names::UPSTREAM_ERRORS, &[pool, endpoint, kind.word()], cells.sum(|row| row.errors(kind)));
        }
    }

    fn value(&mut self, metric: &'static Metric, labels: &[&str], value: u64) {
        self.float(metric, labels, value as f64);
    }

    fn float(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        let mut sample = labelled(metric, labels);
        if metric.kind == Kind::Counter {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            sample.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            sample.set_gauge(gauge);
        }
        self.0.entry(metric.name).or_default().push(sample);
    }

    fn histogram<T: Cells>(
        &mut self,
        metric: &'static Metric,
        labels: &[&str],
        cells: &PerWorker<T>,
        of: impl Fn(&T) -> &Histogram,
    ) {
        let (counts, sum_us) = cells.durations(of);
        let mut total = 0_u64;
        let mut buckets = Vec::with_capacity(DURATION_BOUNDS_US.len());
        for (index, count) in counts.iter().enumerate() {
            total = total.wrapping_add(*count);
            if let Some(bound) = DURATION_BOUNDS_US.get(index) {
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(*bound as f64 / 1e6);
                bucket.set_cumulative_count(total);
                buckets.push(bucket);
            }
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(total);
        histogram.set_sample_sum(sum_us as f64 / 1e6);
        let mut sample = labelled(metric, labels);
        sample.set_histogram(histogram);
        self.0.entry(metric.name).or_default().push(sample);
    }

    fn families(mut self) -> Vec<MetricFamily> {
        let family = |metric: &&'static Metric| {
            let samples = self.0.remove(metric.name)?;
            let mut family = MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family.set_metric(samples);
            Some(family)
        };
        names::ALL.iter().filter_map(family).collect()
    }
}

fn labelled(metric: &'static Metric, values: &[&str]) -> proto::Metric {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    proto::Metric::from_label(metric.labels.iter().zip(values).map(pair).collect())
}

/// Codes that alerts are written for, so that their first occurrence is a rise from zero and not a new series.
const CODES_FROM_ZERO: [u16; 5] = [200, 404, 502, 503, 504];
