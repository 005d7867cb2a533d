//! Value: the one table of metrics: name, kind, labels, help. The collector, the reference page and the tests read it.
//!
//! Base units, `_total` on counters. Labels are names and addresses of the file (`service`, `pool`, `endpoint`, `interface`,
//! `source`) and words from closed lists, never a client's address, path or Host: a client must not be able to make series
//! (hardening J15). Histograms exist per service and pool only.
//!
//! Not here: values (`cells`), nor series: what exists follows from the snapshot (`admin::metrics`).

/// A family of series.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub group: Group,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// One line, as `/metrics` shows it.
    pub help: &'static str,
}

/// What a metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Process,
    Configuration,
    /// Of services of every mode.
    Services,
    /// Of `l2`, `l3` and `l4` NAT services alone. There are none in a file without a VIP.
    Packets,
    /// Of tables with a `source`. There are none in a file without one.
    Sources,
    Pools,
    Endpoints,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! metrics {
    ($($group:ident {
        $($constant:ident = $kind:ident $name:literal [$($label:literal)*] $help:literal;)*
    })*) => {
        $($(
            #[doc = $help]
            pub static $constant: Metric = Metric {
                name: $name,
                group: Group::$group,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*)*

        /// Every family. `process_…` are those that every exporter has, by the names that they have everywhere.
        pub static ALL: &[&Metric] = &[$($(&$constant),*),*];
    };
}

metrics! {
    Process {
        BUILD_INFO = Gauge "strata_build_info" ["version"] "1, labelled with the version that runs.";
        WORKERS = Gauge "strata_workers" [] "Threads that carry traffic.";
        DRAINING = Gauge "strata_draining" [] "1 while the process finishes what it carries and takes no more.";
        PANICS = Counter "strata_panics_total" [] "Panics; one in a task costs one connection. Each is a bug.";
        THREAD_SILENCE = Gauge "strata_thread_silence_seconds" []
            "For how long the loop (worker, accepting, health, control) that was silent for longest has not come to its tasks: milliseconds, unless one is stuck or a panic has ended it.";
        PROBES_STATIC = Gauge "strata_probes_static" []
            "1 while probes reach nobody and this machine is to blame: endpoints keep the state they had.";
        PROBES_OVERDUE = Gauge "strata_probes_overdue_seconds" []
            "For how long the probe that has waited for longest should have run: near 0, unless probes are late or have stopped.";
        DESCRIPTORS_OPEN = Gauge "strata_descriptors_open" [] "File descriptors that are open.";
        DESCRIPTORS_LIMIT = Gauge "strata_descriptors_limit" [] "File descriptors that may be open (RLIMIT_NOFILE).";
        MEMORY_USED = Gauge "strata_memory_used_bytes" []
            "Memory in use where the limit nearest to being reached counts it: of the control group without idle page cache, or of the process.";
        MEMORY_LIMIT = Gauge "strata_memory_limit_bytes" []
            "Limit of the memory that strata_memory_used_bytes counts: of the control group, or `[process] max_memory`; 0 where there is none.";
        CONNECTIONS_LIMIT = Gauge "strata_connections_limit" []
            "Client connections that the process takes at once: what its descriptors carry, or `[process] max_connections`.";
        PRESSURE = Gauge "strata_pressure" ["resource"]
            "What is done because a resource runs out: 0 nothing, from 95 % in use 1, idle connections are closed, and from 98 % 2, no connection is taken.";
        SHED = Counter "strata_idle_connections_shed_total" ["resource"]
            "Idle connections that were closed because a resource ran out.";
        ACCEPT_PAUSES = Counter "strata_accept_pauses_total" ["resource"]
            "Times that accepting paused because a resource had run out; what waits is in the kernel's queue.";
        LOGS_DROPPED = Counter "strata_logs_dropped_total" ["log"]
            "Lines that are not in a log because its output was full, slow or closed; the traffic went on.";
        EVENTS_LOST = Counter "strata_control_events_lost_total" [] "Events that the control side was too busy to take.";
        ACCESS_UNWRITTEN = Counter "strata_access_records_unwritten_total" []
            "Access records taken from their queue that the output refused: disk full, pipe closed.";
        ADMIN_REFUSED = Counter "strata_admin_requests_refused_total" ["reason"]
            "Requests to the admin API and the metrics listener that were not answered with what they asked for.";
    }
    Process {
        CPU_SECONDS = Counter "process_cpu_seconds_total" [] "Processor time in user and kernel mode, in seconds.";
        RESIDENT_BYTES = Gauge "process_resident_memory_bytes" [] "Memory that is resident, shared with others or not.";
        VIRTUAL_BYTES = Gauge "process_virtual_memory_bytes" [] "Addresses that memory may be at; most of it never is.";
        START_TIME = Gauge "process_start_time_seconds" [] "When the process began, Unix time.";
        OPEN_FDS = Gauge "process_open_fds" [] "File descriptors that are open.";
        MAX_FDS = Gauge "process_max_fds" [] "File descriptors that may be open.";
        THREADS = Gauge "process_threads" [] "Threads of the process.";
    }
    Configuration {
        RELOAD_SUCCESSFUL = Gauge "strata_config_last_reload_successful" []
            "1 if the last configuration that was read is in force and served, 0 if it was rejected, or is not served in full.";
        RELOAD_SUCCESS_AT = Gauge "strata_config_last_reload_success_timestamp_seconds" []
            "When a configuration last came into force, Unix time.";
        GENERATION = Gauge "strata_config_generation" [] "Generation of the configuration in force, from 1.";
    }
    Services {
        SERVICE_INFO = Gauge "strata_service_info" ["service" "mode" "engine"] "1, labelled with how the service works.";
        CONNECTIONS = Counter "strata_connections_total" ["service"] "Client connections that were let in.";
        CONNECTIONS_ACTIVE = Gauge "strata_connections_active" ["service"] "Client connections open now.";
        BYTES_RECEIVED = Counter "strata_bytes_received_total" ["service"] "Bytes read from clients.";
        BYTES_SENT = Counter "strata_bytes_sent_total" ["service"] "Bytes written to clients.";
        DROPS = Counter "strata_drops_total" ["service" "reason"]
            "Connections, requests and packets that were not forwarded, or ended otherwise than they should.";
        REQUESTS = Counter "strata_requests_total" ["service" "protocol" "code"]
            "Final responses sent to clients, those that Strata made included.";
        REQUEST_DURATION = Histogram "strata_request_duration_seconds" ["service"]
            "From the first byte of a request to the last of its response.";
        LISTEN_OVERFLOWS = Counter "strata_listen_overflows_total" ["service"]
            "Connections, and repeated attempts, that the kernel dropped because the queue of those to be accepted was full.";
        ACCESS_LOST = Counter "strata_access_records_lost_total" ["service"]
            "Access records that found their queue full; the traffic went on.";
    }
    Packets {
        PACKETS = Counter "strata_packets_total" ["service"]
            "Packets forwarded or answered, of both directions where both pass through Strata.";
        SLOTS_MARKED = Gauge "strata_slots_marked" ["service"]
            "Slots of a packet service in transition: flows of what they named before may live on.";
        SLOTS_FINGERPRINT = Gauge "strata_slots_fingerprint" ["service" "family"]
            "The upper 52 bits of a hash of which endpoint each slot names: nodes that agree show the same number.";
        ENDPOINT_PACKETS_SENT = Counter "strata_endpoint_packets_sent_total" ["pool" "endpoint"]
            "Packets forwarded to the endpoint.";
        ENDPOINT_BYTES_SENT = Counter "strata_endpoint_bytes_sent_total" ["pool" "endpoint"]
            "Bytes of packets forwarded to the endpoint.";
        ENDPOINT_PACKETS_RECEIVED = Counter "strata_endpoint_packets_received_total" ["pool" "endpoint"]
            "Packets of the endpoint forwarded to clients: under NAT, for elsewhere its answers do not come by.";
        ENDPOINT_BYTES_RECEIVED = Counter "strata_endpoint_bytes_received_total" ["pool" "endpoint"]
            "Bytes of packets of the endpoint forwarded to clients, under NAT.";
        VIP_OWNER = Gauge "strata_vip_owner" ["vip"]
            "1 while this process answers for every address of the VIP, and no other machine has claimed one for 30 seconds.";
        VIP_CONFLICTS = Counter "strata_vip_conflicts_total" ["vip"]
            "Frames in which another machine claimed an address of the VIP; they are answered as often as RFC 5227 allows.";
        STRAYS = Counter "strata_stray_packets_dropped_total" ["reason"]
            "Packets to a VIP that were dropped before it was known whose they were.";
        FLOW_RECORDS = Gauge "strata_flow_records" []
            "Flows that are remembered because their slot is in transition. None while nothing changes, whatever the traffic.";
        FLOW_RECORDS_UNPROVEN = Gauge "strata_flow_records_unproven" []
            "Remembered flows that have shown no more than a flood of single packets would.";
        FLOW_RECORDS_LIMIT = Gauge "strata_flow_records_limit" []
            "The most flows that are remembered; without room a flow stays where its slot pointed before.";
        NAT_FLOWS = Gauge "strata_nat_flows" []
            "Flows that are translated by a record: full NAT, and NAT of every port.";
        NAT_FLOWS_UNPROVEN = Gauge "strata_nat_flows_unproven" []
            "Translated flows that have not been answered, or did not answer back.";
        NAT_FLOWS_LIMIT = Gauge "strata_nat_flows_limit" [] "The most flows that are translated by a record.";
        NAT_FLOWS_EVICTED = Counter "strata_nat_flows_evicted_total" []
            "Flows that had not been answered, or did not answer back, and made room for others, as do all of UDP: a flood of forged packets.";
        NAT_PORTS_LENT = Gauge "strata_nat_ports_lent" ["source" "protocol"]
            "Ports of an address of full NAT that flows have now.";
        NAT_PORTS_FREE = Gauge "strata_nat_ports_free" ["source" "protocol"]
            "Ports of an address of full NAT that new flows could have now; others rest after a flow.";
        INTERFACE_WORKERS = Gauge "strata_interface_workers" ["interface"] "Threads that take frames from the interface.";
        INTERFACE_RECEIVED = Counter "strata_interface_frames_received_total" ["interface"]
            "Frames for VIPs, and from endpoints under NAT, that came in by the interface.";
        INTERFACE_SENT = Counter "strata_interface_frames_sent_total" ["interface"]
            "Frames that came in by the interface, and answers to them, that the kernel took to send, on this interface or another.";
        INTERFACE_DIVIDED = Counter "strata_interface_frames_divided_total" ["interface"]
            "Frames that came in by the interface as many packets in one and had to be taken apart, for a tunnel.";
        INTERFACE_LOST = Counter "strata_interface_frames_lost_total" ["interface" "reason"]
            "Frames that the interface or the way out had no place for, beside what strata_drops_total counts.";
    }
    Sources {
        SOURCE_UP = Gauge "strata_source_up" ["source" "kind"]
            "1 while the source answers; while it does not, what it found last stays in force.";
        SOURCE_SUCCESS_AT = Gauge "strata_source_last_success_timestamp_seconds" ["source" "kind"]
            "When the source last answered, Unix time; absent before it has.";
        SOURCE_MEMBERS = Gauge "strata_source_members" ["source" "kind"]
            "Endpoints in force that the source has found, those that leave not among them.";
        SOURCE_LEAVING = Gauge "strata_source_leaving" ["source" "kind"]
            "Endpoints that the source has no more, and that may finish what is under way.";
        SOURCE_ROUTES = Gauge "strata_source_routes" ["source" "kind"] "Routes in force that the source has found.";
        SOURCE_REFUSED = Gauge "strata_source_refused" ["source" "reason"]
            "Of what the source finds now, what is refused: the log and the diagnostics say what it is.";
        SOURCE_FAILURES = Counter "strata_source_failures_total" ["source" "reason"]
            "Times that the source could not be asked, or did not answer as it should.";
    }
    Pools {
        POOL_INFO = Gauge "strata_pool_info" ["pool" "balance" "probe"]
            "1, labelled with how the pool picks an endpoint and how it probes them.";
        POOL_USABLE = Gauge "strata_pool_endpoints_usable" ["pool"] "Endpoints that new work may go to.";
        POOL_PANIC = Gauge "strata_pool_panic" ["pool"]
            "1 while so few endpoints are usable that all serve but those the operator took out.";
        POOL_BACKUP = Gauge "strata_pool_backup" ["pool"] "1 while backups serve, because no primary is usable.";
        POOL_QUEUE = Gauge "strata_pool_queue" ["pool"]
            "Requests, at L4 connections, that wait for an endpoint with room.";
        RETRIES = Counter "strata_retries_total" ["pool"] "Attempts after the first.";
        CONNECT_DURATION = Histogram "strata_connect_duration_seconds" ["pool"] "Time to connect to an endpoint.";
        RESPONSE_DURATION = Histogram "strata_response_duration_seconds" ["pool"]
            "From the first byte sent to an endpoint to the head of its response.";
        PROBE_DURATION = Histogram "strata_probe_duration_seconds" ["pool"] "Time a probe took, failed ones included.";
        FINGERPRINT = Gauge "strata_table_fingerprint" ["pool"]
            "The upper 52 bits of a hash of the picker's table: nodes that agree show the same number.";
    }
    Endpoints {
        ENDPOINT_UP = Gauge "strata_endpoint_up" ["pool" "endpoint"] "1 while new work may go to the endpoint.";
        ENDPOINT_STATE = Gauge "strata_endpoint_state" ["pool" "endpoint" "intent" "health"]
            "1 for the pair of intent and health that the endpoint is in, 0 for the others.";
        ENDPOINT_WEIGHT = Gauge "strata_endpoint_weight" ["pool" "endpoint"] "Weight in force: less than the file's while the endpoint warms up.";
        ENDPOINT_IN_FLIGHT = Gauge "strata_endpoint_in_flight" ["pool" "endpoint"]
            "Requests, at L4 connections, that the endpoint carries now.";
        ENDPOINT_REQUESTS = Counter "strata_endpoint_requests_total" ["pool" "endpoint"]
            "Requests sent to the endpoint; at L4, connections relayed to it.";
        ENDPOINT_CONNECTIONS = Counter "strata_endpoint_connections_total" ["pool" "endpoint"]
            "Connections made to the endpoint, probes excluded.";
        ENDPOINT_CONNECTIONS_ACTIVE = Gauge "strata_endpoint_connections_active" ["pool" "endpoint"]
            "Connections to the endpoint open now, idle ones included.";
        UPSTREAM_ERRORS = Counter "strata_upstream_errors_total" ["pool" "endpoint" "kind"]
            "Ways in which the endpoint failed the data path.";
        PROBES = Counter "strata_probes_total" ["pool" "endpoint" "result"] "Probes of the endpoint by result.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_help_keep_to_the_conventions() {
        const LABELS: &[&str] = &[
            "version",
            "service",
            "mode",
            "engine",
            "reason",
            "protocol",
            "code",
            "pool",
            "endpoint",
            "intent",
            "health",
            "kind",
            "result",
            "family",
            "interface",
            "source",
            "vip",
            "resource",
            "log",
            "balance",
            "probe",
        ];
        let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len(), "a name stands twice");
        for metric in ALL {
            let name = metric.name;
            let is_everywhere =
                name.starts_with("process_") && metric.group == Group::Process && metric.labels.is_empty();
            assert!(name.starts_with("strata_") || is_everywhere, "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_duration_seconds"), metric.kind == Kind::Histogram, "{name}");
            assert!(metric.labels.iter().all(|label| LABELS.contains(label)), "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{name}");
            // Graphs show it alone: there is no line before it that "those" could mean.
            assert!(!["Those", "That", "These", "The same"].iter().any(|word| metric.help.starts_with(word)), "{name}");
            assert!(metric.kind != Kind::Histogram || !metric.labels.contains(&"endpoint"), "{name}: too many series");
        }
    }
}
