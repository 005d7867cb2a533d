//! Shell: tests of the metrics page and the API over real sockets, with a control side that is played.

mod dashboard;
mod described;
mod refused;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::mpsc;

use super::client::ClientError;
use super::control::{SourceState, Sources};
use super::document::{Diagnostic, ReloadRejected, Reloaded};
use super::{Client, Control, EndpointReport, Refused, ReloadStatus, Request, Servers};
use crate::base::address::AdminListen;
use crate::base::{HashKey, Listen, Reason, ServiceId, WorkerId, clock, limits};
use crate::config::{self, Catalogs};
use crate::doc::Secret;
use crate::flow::{FlowKey, Fragments, Kind, Nat, Records, Shared, nat};
use crate::health::{Health, Intent};
use crate::net::Crew;
use crate::net::rig::local;
use crate::observe::access::Sink;
use crate::observe::cells::UpstreamError;
use crate::observe::names;
use crate::observe::packets::Lost;
use crate::state::{Family, Settings, Snapshot, Status};
use crate::wire::http1::Reject;

/// Nobody binds what the services listen on here.
const TEXT: &str = r#"
[service.edge]
mode = "l7"
listen = ["127.0.0.1:1"]
[[service.edge.route]]
url = "Example.com/v1/*"
pool = "api"
[[service.edge.route]]
pool = "web"
[service.db]
mode = "l4"
listen = ["127.0.0.1:2"]
pool = "web"
[vip.v]
address = ["10.0.0.100", "fd00::100"]
interface = "eth0"
[vip.w]
address = "10.0.0.101"
interface = "eth0"
[service.game]
mode = "l2"
vip = "v"
ports = "80/tcp"
pool = "game"
[service.translated]
mode = "l3"
forward = "full-nat"
source = "10.0.0.3"
vip = "w"
pool = "translated"
[pool.web]
balance = "maglev"
endpoints = ["192.0.2.1:80", { address = "192.0.2.2:80", weight = 3 }]
[pool.api]
endpoints = ["[2001:db8::1]:80"]
probe = { type = "tcp" }
[pool.game]
endpoints = ["10.0.0.41", "fd00::41"]
probe = { type = "tcp", port = 80 }
[pool.translated]
endpoints = ["10.0.0.51"]
"#;

/// The generation after `previous`, with both listeners on fresh ports, which no file can ask for.
fn compile(text: &str, previous: &Snapshot) -> Snapshot {
    let grammars: Vec<_> = crate::probe::CATALOG.iter().map(|spec| &spec.grammar).collect();
    let loaded = config::read(
        "test.toml",
        text.as_bytes().to_vec(),
        &crate::doc::Nowhere,
        &Catalogs { probes: &grammars, ..Catalogs::default() },
    );
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let machine = config::Machine { cores: 2, random_key: HashKey::new([3; 16]) };
    let mut snapshot = config::compile(&config, previous, &machine).unwrap();
    snapshot.settings = settings();
    snapshot
}

fn settings() -> Settings {
    let fresh = Listen::parse("127.0.0.1:0").unwrap();
    Settings { metrics: Some(fresh), admin: Some(AdminListen::Tcp(fresh)), ..crate::net::rig::settings() }
}

struct Rig {
    crew: Arc<Crew>,
    servers: Servers,
    reloads: Arc<ReloadStatus>,
    requests: mpsc::Receiver<Request>,
}

/// One, which has answered.
fn sources() -> Arc<Sources> {
    let sources = Sources::default();
    let state = SourceState::new("pool.web".to_owned(), "dns", "web.internal".to_owned());
    sources.set(vec![SourceState { success_at: Some(clock::wall()), ..state }]);
    Arc::new(sources)
}

fn rig() -> Rig {
    rig_with(settings())
}

fn rig_with(settings: Settings) -> Rig {
    let mut snapshot = compile(TEXT, &Snapshot::empty(settings.clone()));
    snapshot.settings = settings.clone();
    let snapshot = Arc::new(snapshot);
    let (events, _) = mpsc::channel(1);
    let (crew, _) = Crew::new(2, snapshot.clone(), events, Sink::none());
    let (sender, requests) = mpsc::channel(8);
    let reloads = Arc::new(ReloadStatus::default());
    // As the packet engine does when it serves an interface.
    let cells = crew.packets.interface(&"eth0".into());
    cells.set_engine("userspace");
    cells.enter();
    let control = Control { crew: crew.clone(), reloads: reloads.clone(), sources: sources(), requests: sender };
    let mut servers = Servers::new(control, Rc::default());
    let prepared = servers.prepare(&settings).unwrap();
    servers.commit(prepared);
    Rig { crew, servers, reloads, requests }
}

impl Rig {
    fn client(&self) -> Client {
        Client::new(AdminListen::Tcp(Listen::At(self.servers.admin_address().unwrap())))
    }

    fn swap(&self, text: &str) {
        let next = compile(text, &self.crew.snapshot.load());
        self.crew.snapshot.store(Arc::new(next));
    }

    async fn metrics(&self) -> String {
        let address = self.servers.metrics_address().unwrap();
        let (status, text) =
            raw(address, "GET /metrics HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status, 200);
        text
    }
}

/// Status and the whole answer to bytes sent as they are.
async fn raw(address: std::net::SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A refused body may be answered with a reset behind the answer.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer to {request}")).parse().unwrap();
    (status, answer)
}

/// The value of the series with exactly these labels.
fn series(text: &str, name_and_labels: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn series_exist_at_zero_from_the_start() {
    local(async {
        let text = rig().metrics().await;
        for metric in names::ALL {
            assert!(text.contains(&format!("# TYPE {} ", metric.name)), "{} is missing", metric.name);
        }
        for reason in Reason::ALL.iter().filter(|reason| !reason.is_of_packets()) {
            let name = format!("strata_drops_total{{reason=\"{}\",service=\"edge\"}}", reason.word());
            let other = format!("strata_drops_total{{service=\"edge\",reason=\"{}\"}}", reason.word());
            assert_eq!(series(&text, &name).or(series(&text, &other)), Some(0.0), "{name}");
        }
        for reason in Reason::ALL.iter().filter(|reason| reason.is_of_packets()) {
            for name in ["drops_total{service=\"game\",", "stray_packets_dropped_total{"] {
                let name = format!("strata_{name}reason=\"{}\"}}", reason.word());
                assert_eq!(series(&text, &name), Some(0.0), "{name}");
            }
        }
        for why in Lost::ALL {
            let name = format!("strata_interface_frames_lost_total{{interface=\"eth0\",reason=\"{}\"}}", why.word());
            assert_eq!(series(&text, &name), Some(0.0), "{name}");
        }
        for (name, want) in [
            ("strata_service_info{service=\"game\",mode=\"l2\",engine=\"userspace\"}", 1.0),
            ("strata_source_up{source=\"pool.web\",kind=\"dns\"}", 1.0),
            ("strata_source_members{source=\"pool.web\",kind=\"dns\"}", 0.0),
            ("strata_source_refused{source=\"pool.web\",reason=\"loopback\"}", 0.0),
            ("strata_source_failures_total{source=\"pool.web\",reason=\"silent\"}", 0.0),
            ("strata_flow_records", 0.0),
            ("strata_flow_records_limit", limits::FLOW_RECORDS as f64),
            ("strata_nat_flows_limit", limits::NAT_FLOWS as f64),
            ("strata_nat_ports_lent{source=\"10.0.0.3\",protocol=\"tcp\"}", 0.0),
            ("strata_nat_ports_free{source=\"10.0.0.3\",protocol=\"icmp\"}", 64_512.0),
            ("strata_slots_marked{service=\"game\"}", 0.0),
            ("strata_slots_fingerprint{service=\"game\",family=\"v6\"}", 0.0),
            ("strata_endpoint_packets_sent_total{pool=\"game\",endpoint=\"fd00::41\"}", 0.0),
            ("strata_endpoint_bytes_received_total{pool=\"translated\",endpoint=\"10.0.0.51\"}", 0.0),
        ] {
            assert_eq!(series(&text, name), Some(want), "{name}");
        }
        for code in [200, 404, 502, 503, 504] {
            let name = format!("strata_requests_total{{service=\"edge\",protocol=\"http1\",code=\"{code}\"}}");
            assert_eq!(series(&text, &name), Some(0.0), "{name}");
        }
        for reject in Reject::ALL {
            let name = format!("strata_drops_total{{service=\"edge\",reason=\"{}\"}}", reject.word());
            assert_eq!(series(&text, &name), Some(0.0), "{name}");
        }
        assert_eq!(series(&text, "strata_endpoint_weight{pool=\"web\",endpoint=\"192.0.2.2:80\"}"), Some(3.0));
        assert_eq!(series(&text, "strata_config_generation"), Some(1.0));
        assert!(series(&text, "strata_table_fingerprint{pool=\"web\"}").is_some_and(|value| value > 0.0));
        assert!(text.contains("process_resident_memory_bytes "), "the process collector");
        // What does not apply is absent, not zero.
        for absent in [
            "strata_packets_total{service=\"db\"",
            "strata_slots_marked{service=\"edge\"",
            "strata_connections_total{service=\"game\"",
            "strata_slots_fingerprint{service=\"game\",family=\"any\"",
            "strata_endpoint_requests_total{pool=\"game\"",
            "strata_upstream_errors_total{pool=\"game\"",
            "strata_table_fingerprint{pool=\"game\"",
            "strata_endpoint_packets_sent_total{pool=\"web\"",
            "strata_endpoint_packets_received_total{pool=\"game\"",
            "strata_requests_total{service=\"db\"",
            "strata_request_duration_seconds_count{service=\"db\"",
            "strata_probes_total{pool=\"web\"",
            "strata_table_fingerprint{pool=\"api\"",
        ] {
            assert!(!text.contains(absent), "{absent}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_every_worker_counted_is_summed() {
    local(async {
        let rig = rig();
        let snapshot = rig.crew.snapshot.load_full();
        let (edge, web) = (snapshot.service_named("edge").unwrap(), snapshot.pool_named("web").unwrap());
        for worker in [WorkerId(0), WorkerId(1)] {
            let cells = edge.cells(worker);
            cells.responses.count(200);
            cells.responses.count(418);
            cells.drop(Reason::NoRoute);
            cells.reject(Reject::BareLf);
            cells.bytes_sent.add(1000);
            cells.request_duration.observe(Duration::from_micros(300));
            cells.request_duration.observe(Duration::from_secs(100));
            web.endpoints[0].cells.row(worker).error(UpstreamError::Reset);
        }
        let text = rig.metrics().await;
        for (name, want) in [
            ("strata_requests_total{service=\"edge\",protocol=\"http1\",code=\"200\"}", 2.0),
            ("strata_requests_total{service=\"edge\",protocol=\"http1\",code=\"418\"}", 2.0),
            ("strata_drops_total{service=\"edge\",reason=\"no-route\"}", 2.0),
            ("strata_drops_total{service=\"edge\",reason=\"bare-lf\"}", 2.0),
            ("strata_bytes_sent_total{service=\"edge\"}", 2000.0),
            ("strata_request_duration_seconds_count{service=\"edge\"}", 4.0),
            ("strata_request_duration_seconds_bucket{service=\"edge\",le=\"0.00025\"}", 0.0),
            ("strata_request_duration_seconds_bucket{service=\"edge\",le=\"0.0005\"}", 2.0),
            ("strata_request_duration_seconds_bucket{service=\"edge\",le=\"60\"}", 2.0),
            ("strata_request_duration_seconds_bucket{service=\"edge\",le=\"+Inf\"}", 4.0),
            ("strata_upstream_errors_total{pool=\"web\",endpoint=\"192.0.2.1:80\",kind=\"reset\"}", 2.0),
        ] {
            assert_eq!(series(&text, name), Some(want), "{name}");
        }
        let sum = series(&text, "strata_request_duration_seconds_sum{service=\"edge\"}").unwrap();
        assert!((sum - 200.0006).abs() < 1e-6, "{sum}");
    })
    .await;
}

#[tokio::test]
async fn what_the_packet_engine_tells_is_shown_while_it_serves() {
    local(async {
        let rig = rig();
        let (snapshot, packets) = (rig.crew.snapshot.load_full(), &rig.crew.packets);
        let key = HashKey::new([7; 16]);
        let source = "10.0.0.3".parse().unwrap();
        let nat = Nat::new(1000, &[source], &(5000..=5009), key);
        let target = nat::Target {
            endpoint: 0,
            generation: 0,
            address: "10.0.0.51:80".parse().unwrap(),
            idle: Duration::from_secs(60),
        };
        let flow = FlowKey::new(6, "192.0.2.1:4242".parse().unwrap(), "10.0.0.100:80".parse().unwrap());
        nat.bind_full(ServiceId(0), &flow, Kind::Syn { seq: 1 }, &target, &[source], clock::now()).unwrap();
        packets.began(Arc::new(Shared::with(Records::new(64, key), nat, Fragments::new(1, key), key)));
        packets.events_lost.add_shared(3);
        packets.interface(&"eth0".into()).lose(Lost::Overrun, 4);
        packets.interface(&"eth0".into()).divided.add_shared(2);
        let game = snapshot.service_named("game").unwrap();
        game.kept.slots(Family::V4).set(5, 6 << 12);
        game.kept.slots(Family::V6).set(7, 8 << 12);
        let sent = &snapshot.pool_named("game").unwrap().endpoints[0].cells;
        sent.row(WorkerId(0)).sent.packets.add_shared(9);
        sent.row(WorkerId(1)).sent.packets.add_shared(1);
        let text = rig.metrics().await;
        for (name, want) in [
            ("strata_control_events_lost_total", 3.0),
            ("strata_interface_workers{interface=\"eth0\"}", 1.0),
            ("strata_interface_frames_lost_total{interface=\"eth0\",reason=\"overrun\"}", 4.0),
            ("strata_interface_frames_divided_total{interface=\"eth0\"}", 2.0),
            ("strata_slots_marked{service=\"game\"}", 12.0),
            ("strata_slots_fingerprint{service=\"game\",family=\"v4\"}", 6.0),
            ("strata_slots_fingerprint{service=\"game\",family=\"v6\"}", 8.0),
            ("strata_endpoint_packets_sent_total{pool=\"game\",endpoint=\"10.0.0.41\"}", 10.0),
            ("strata_flow_records_limit", 64.0),
            ("strata_nat_flows", 1.0),
            ("strata_nat_flows_unproven", 1.0),
            ("strata_nat_ports_lent{source=\"10.0.0.3\",protocol=\"tcp\"}", 1.0),
            ("strata_nat_ports_free{source=\"10.0.0.3\",protocol=\"tcp\"}", 9.0),
            ("strata_nat_ports_free{source=\"10.0.0.3\",protocol=\"udp\"}", 10.0),
        ] {
            assert_eq!(series(&text, name), Some(want), "{name}");
        }
        // The last worker ends: nothing carries the service. The interface is closed: its series end.
        packets.interface(&"eth0".into()).leave();
        let text = rig.metrics().await;
        assert!(text.contains("strata_service_info{service=\"game\",mode=\"l2\",engine=\"none\"} 1"), "{text}");
        packets.forget("eth0");
        rig.swap(&TEXT.replace("source = \"10.0.0.3\"", "source = \"10.0.0.4\""));
        let text = rig.metrics().await;
        assert!(!text.contains("interface=\"eth0\"") && !text.contains("source=\"10.0.0.3\""), "{text}");
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_shows_the_one_state_it_is_in() {
    local(async {
        let rig = rig();
        let snapshot = rig.crew.snapshot.load_full();
        let pool = snapshot.pool_named("web").unwrap();
        let status = pool.endpoints[0].status();
        pool.endpoints[0].set_status(Status { intent: Intent::Draining, health: Health::Down, ..status });
        pool.publish();
        let text = rig.metrics().await;
        let states: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("strata_endpoint_state{pool=\"web\",endpoint=\"192.0.2.1:80\""))
            .collect();
        assert_eq!(states.len(), Intent::ALL.len() * Health::ALL.len());
        let shown: Vec<&&str> = states.iter().filter(|line| line.ends_with(" 1")).collect();
        assert_eq!(shown.len(), 1);
        assert!(shown[0].contains("intent=\"draining\",health=\"down\""), "{shown:?}");
        assert_eq!(series(&text, "strata_endpoint_up{pool=\"web\",endpoint=\"192.0.2.1:80\"}"), Some(0.0));
        assert_eq!(series(&text, "strata_endpoint_up{pool=\"web\",endpoint=\"192.0.2.2:80\"}"), Some(1.0));
        assert_eq!(series(&text, "strata_pool_endpoints_usable{pool=\"web\"}"), Some(1.0));
    })
    .await;
}

#[tokio::test]
async fn series_vanish_with_their_object() {
    local(async {
        let rig = rig();
        assert!(rig.metrics().await.contains("service=\"db\""));
        rig.swap(&TEXT.replace("[service.db]", "[service.renamed]").replace("192.0.2.1:80", "192.0.2.9:80"));
        let text = rig.metrics().await;
        for gone in ["service=\"db\"", "endpoint=\"192.0.2.1:80\""] {
            assert!(!text.contains(gone), "{gone}");
        }
        for there in ["service=\"renamed\"", "endpoint=\"192.0.2.9:80\"", "strata_config_generation 2"] {
            assert!(text.contains(there), "{there}");
        }
    })
    .await;
}

#[tokio::test]
async fn promtool_finds_nothing_to_say() {
    let found = std::process::Command::new("promtool").arg("--version").output().is_ok();
    if !found {
        assert!(std::env::var_os("STRATA_TEST_ALL").is_none(), "promtool is missing (Debian: prometheus)");
        eprintln!("SKIPPED: promtool is missing (Debian: prometheus)");
        return;
    }
    local(async {
        let text = rig().metrics().await;
        let page = text.split_once("\r\n\r\n").unwrap().1.to_owned();
        let mut tool = std::process::Command::new("promtool");
        tool.stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut tool = tool.args(["check", "metrics"]).spawn().unwrap();
        std::io::Write::write_all(&mut tool.stdin.take().unwrap(), page.as_bytes()).unwrap();
        let output = tool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.trim().is_empty(), "{said}");
    })
    .await;
}

#[tokio::test]
async fn documents_show_what_is_served() {
    local(async {
        let mut rig = rig();
        rig.reloads.succeeded(std::time::UNIX_EPOCH + Duration::from_secs(7));
        {
            let snapshot = rig.crew.snapshot.load();
            let edge = snapshot.services().find(|service| &*service.spec.name == "edge").unwrap();
            let cells = &edge.kept.cells;
            // By two threads, which are summed.
            cells.row(WorkerId(0)).request_duration.observe(Duration::from_micros(700));
            cells.control().request_duration.observe(Duration::from_secs(61));
        }
        let client = rig.client();
        let report = EndpointReport {
            pool: "api".into(),
            endpoint: "[2001:db8::1]:80".into(),
            cause: Some("connect refused".into()),
            since: Some(Duration::from_secs(3)),
            next_probe: Some(Duration::from_millis(20)),
        };
        let keeper = async {
            match rig.requests.recv().await {
                Some(Request::HealthReport { reply }) => reply.send(vec![report]).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let (status, ()) = tokio::join!(client.status(), keeper);
        let status = status.unwrap();
        assert_eq!(
            (status.generation, status.ready, status.draining, status.last_reload_successful),
            (1, true, false, true)
        );
        assert_eq!(status.last_reload_success_at_ms, 7000);
        let edge = status.services.iter().find(|service| service.name == "edge").unwrap();
        assert_eq!((edge.mode.as_str(), edge.pools.join(" ")), ("l7", "api web".to_owned()));
        let urls: Vec<&str> = edge.routes.iter().map(|route| route.url.as_str()).collect();
        assert_eq!(urls, ["example.com/v1/*", "*"]);
        let api = status.pools.iter().find(|pool| pool.name == "api").unwrap();
        assert_eq!(api.probe.as_deref(), Some("tcp"));
        let endpoint = &api.endpoints[0];
        assert_eq!((endpoint.health.as_str(), endpoint.usable), ("probing", true));
        // Histograms, for `top`: of what took 700 µs, and 61 s.
        assert_eq!(api.response_duration, Some(super::document::Durations::default()), "nothing was answered");
        let buckets = edge.request_duration.as_ref().map(|durations| (durations.sum_us, &*durations.buckets));
        let bucket = |from_us, to_us| super::document::Bucket { from_us, to_us, count: 1 };
        assert_eq!(buckets, Some((61_000_700, &[bucket(500, Some(1000)), bucket(60_000_000, None)][..])));
        assert_eq!(
            (endpoint.cause.as_deref(), endpoint.since_ms, endpoint.next_probe_ms),
            (Some("connect refused"), Some(3000), Some(20))
        );

        let config = client.config().await.unwrap();
        assert!(config["pool"]["web"].is_object(), "{config}");
    })
    .await;
}

#[tokio::test]
async fn a_busy_control_side_costs_a_document_its_causes_only() {
    local(async {
        let rig = rig();
        let status = rig.client().status().await.unwrap();
        assert_eq!(status.pools.len(), 4);
        assert!(status.pools.iter().flat_map(|pool| &pool.endpoints).all(|endpoint| endpoint.cause.is_none()));
    })
    .await;
}

#[tokio::test]
async fn changes_reach_the_control_side_and_its_answer_the_client() {
    local(async {
        let mut rig = rig();
        let client = rig.client();
        let control = async {
            match rig.requests.recv().await {
                Some(Request::SetIntent { pool, endpoint, intent, reply }) => {
                    assert_eq!(
                        (pool.as_str(), endpoint.as_str(), intent),
                        ("api", "[2001:db8::1]:80", Intent::Draining)
                    );
                    reply.send(Ok(())).unwrap();
                }
                other => panic!("{other:?}"),
            }
            match rig.requests.recv().await {
                Some(Request::SetWeight { pool, endpoint, weight, reply }) => {
                    assert_eq!((pool.as_str(), endpoint.as_str(), weight.get()), ("web", "192.0.2.1:80", 5));
                    reply.send(Err(Refused::Because("not now".into()))).unwrap();
                }
                other => panic!("{other:?}"),
            }
        };
        let asks = async {
            client.set_intent("api", "[2001:db8::1]:80", Intent::Draining).await.unwrap();
            match client.set_weight("web", "192.0.2.1:80", 5).await {
                Err(ClientError::Refused { status: 409, problem }) => assert_eq!(problem.error, "not now"),
                other => panic!("{other:?}"),
            }
            for (result, status, part) in [
                (client.set_intent("wep", "x", Intent::Ready).await, 404, "did you mean `web`?"),
                (client.set_intent("web", "192.0.2.1:81", Intent::Ready).await, 404, "did you mean `192.0.2.1:80`?"),
                (client.set_weight("web", "192.0.2.1:80", 0).await, 400, "drain the endpoint"),
                (client.set_weight("web", "192.0.2.1:80", 1001).await, 400, "1 to 1000"),
            ] {
                let error = result.unwrap_err();
                assert!(matches!(&error, ClientError::Refused { status: got, .. } if *got == status), "{error:?}");
                assert!(error.to_string().contains(part), "{error}");
            }
        };
        tokio::join!(control, asks);
    })
    .await;
}

#[tokio::test]
async fn a_reload_waits_and_brings_the_changes_or_the_diagnostics() {
    local(async {
        let mut rig = rig();
        let client = rig.client();
        let reloaded = Reloaded { generation: 2, changes: vec!["pool web added".into()], warnings: String::new() };
        let rejected = ReloadRejected {
            error: "1 error".into(),
            diagnostics: vec![Diagnostic { code: "E001".into(), line: 3, ..Diagnostic::default() }],
            rendered: "error[E001]: x".into(),
        };
        let control = async {
            for outcome in [Ok(reloaded.clone()), Err(rejected.clone())] {
                match rig.requests.recv().await {
                    Some(Request::Reload { reply, .. }) => reply.send(outcome).unwrap(),
                    other => panic!("{other:?}"),
                }
            }
            // A control side that is gone.
            drop(rig.requests);
        };
        let asks = async {
            assert_eq!(client.reload().await.unwrap(), Ok(reloaded.clone()));
            assert_eq!(client.reload().await.unwrap(), Err(rejected.clone()));
        };
        tokio::join!(control, asks);
        let gone = client.reload().await.unwrap_err();
        assert!(matches!(gone, ClientError::Refused { status: 503, .. }), "{gone}");
    })
    .await;
}

#[tokio::test]
async fn what_is_not_offered_is_refused_by_name() {
    local(async {
        let rig = rig();
        let (metrics, admin) = (rig.servers.metrics_address().unwrap(), rig.servers.admin_address().unwrap());
        let large = limits::ADMIN_BODY_BYTES + 1;
        let weight = "/api/pools/web/endpoints/192.0.2.1:80/weight";
        let cases = [
            // The metrics listener shows metrics, to anybody, and nothing else.
            (metrics, "GET /healthz HTTP/1.1\r\nHost: evil.example".to_owned(), 200),
            (metrics, "HEAD /metrics HTTP/1.1\r\nHost: x".to_owned(), 200),
            (metrics, "GET /readyz HTTP/1.1\r\nHost: x".to_owned(), 200),
            (metrics, "GET /api/status HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (metrics, "GET /api/config HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (metrics, "POST /api/reload HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (metrics, format!("POST {weight} HTTP/1.1\r\nHost: localhost"), 404),
            (metrics, "POST /metrics HTTP/1.1\r\nHost: x".to_owned(), 405),
            (metrics, "GET / HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (metrics, "GET /dashboard/script.js HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (metrics, "GET /nothing HTTP/1.1\r\nHost: x".to_owned(), 404),
            // Reads.
            (metrics, "GET /api/explain?what=GET%20/ HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/explain?what=GET+/&service=edge HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET /api/explain HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/explain?what=GET%0d%0a/ HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/explain?what=GET+/&what=GET+/ HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/explain?what=GET+/&frm=1.2.3.4 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/explain?what=GET+/&from=%ff HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/explain?what=tcp+1.2.3.4 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (
                admin,
                format!(
                    "GET /api/explain?what={} HTTP/1.1\r\nHost: localhost",
                    "x".repeat(limits::EXPLAIN_QUERY_BYTES)
                ),
                400,
            ),
            (admin, "POST /api/explain?what=GET+/&service=edge HTTP/1.1\r\nHost: localhost".to_owned(), 405),
            (admin, "GET /api/services HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET /api/services/ HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/../api/config HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/%zz HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "DELETE /api/services HTTP/1.1\r\nHost: localhost".to_owned(), 405),
            // Changes by POST only.
            (admin, "GET /api/reload HTTP/1.1\r\nHost: localhost".to_owned(), 405),
            (admin, "PUT /api/pools/web/endpoints/192.0.2.1:80/drain HTTP/1.1\r\nHost: localhost".to_owned(), 405),
            (admin, "POST /api/pools/web/endpoints/192.0.2.1:80/burn HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "POST /api/pools/nope/endpoints/x/drain HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            // Names of this machine only, however they are written.
            (admin, "GET /api/services HTTP/1.1\r\nHost: LOCALHOST:9900".to_owned(), 200),
            (admin, "GET /api/services HTTP/1.1\r\nHost: 127.8.8.8:1".to_owned(), 200),
            (admin, "GET /api/services HTTP/1.1\r\nHost: [::1]".to_owned(), 200),
            (admin, "GET /api/services HTTP/1.1\r\nHost: [::1]:9900".to_owned(), 200),
            (admin, "GET /api/services HTTP/1.1\r\nHost: evil.example".to_owned(), 403),
            (admin, "GET /api/services HTTP/1.1\r\nHost: localhost.evil.example".to_owned(), 403),
            (admin, "GET /api/services HTTP/1.1\r\nHost: 127.0.0.1.evil.example".to_owned(), 403),
            (admin, "GET /api/services HTTP/1.1\r\nHost: 192.0.2.1".to_owned(), 403),
            (admin, "GET /api/services HTTP/1.0\r\nAccept: x".to_owned(), 403),
            // A page of another origin changes nothing, whatever it claims.
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example"), 403),
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nOrigin: null"), 403),
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site"), 403),
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost"), 400),
            // Nor does a form, whatever its browser leaves out.
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain"), 415),
            (
                admin,
                "POST /api/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data".to_owned(),
                415,
            ),
            // Events and diagnostics.
            (admin, "GET /api/events HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET /api/events?since=18446744073709551615&limit=1 HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET /api/events?since=-1 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/events?limit=0 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/events?limit=1&limit=2 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/events?until=2 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (metrics, "GET /api/events HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/diagnostics HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            // Nothing is a file but those of the dashboard, and they are for names of this machine too.
            (admin, "GET / HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET /?x=y HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "HEAD /dashboard/script.js HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET / HTTP/1.1\r\nHost: evil.example".to_owned(), 403),
            (admin, "POST / HTTP/1.1\r\nHost: localhost".to_owned(), 405),
            (admin, "GET /dashboard HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /dashboard/ HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /dashboard/index.html HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /dashboard/..%2f..%2fapi.rs HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/../../etc/passwd HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/%2e%2e%2fconfig HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            // Bodies.
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost"), 400),
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {large}"), 413),
        ];
        for (address, head, want) in cases {
            let (status, answer) = raw(address, &format!("{head}\r\nConnection: close\r\n\r\n")).await;
            assert_eq!(status, want, "{head}\n{answer}");
            if want >= 400 {
                let body = answer.split_once("\r\n\r\n").unwrap().1;
                let problem: super::document::Problem = serde_json::from_str(body).unwrap();
                assert!(!problem.error.is_empty());
                assert_eq!(want == 405, answer.to_lowercase().contains("\r\nallow: "), "{answer}");
            }
            assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
        }
    })
    .await;
}

/// Hardening J13, J14: who has no token gets nothing, whatever he asks for and wherever he comes from.
#[tokio::test]
async fn a_token_is_asked_of_everybody() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let everywhere = Listen::parse("0.0.0.0:0").unwrap();
    local(async {
        for listen in [Listen::parse("127.0.0.1:0").unwrap(), everywhere] {
            let token = Some(Secret::new(TOKEN));
            let rig = rig_with(Settings { admin: Some(AdminListen::Tcp(listen)), admin_token: token, ..settings() });
            let port = rig.servers.admin_address().unwrap().port();
            let admin = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            let metrics = rig.servers.metrics_address().unwrap();
            let right = format!("Authorization: Bearer {TOKEN}");
            let lower = format!("authorization: bearer  {TOKEN}");
            let upper = format!("Authorization: Bearer {}", TOKEN.to_uppercase());
            let longer = format!("Authorization: Bearer {TOKEN}0");
            let basic = format!("Authorization: Basic {TOKEN}");
            let twice = format!("{right}\r\n{right}");
            let drain = "POST /api/pools/web/endpoints/192.0.2.1:80/drain";
            let weight = "POST /api/pools/web/endpoints/192.0.2.1:80/weight";
            for (address, ask, field, want) in [
                (admin, "GET /api/config", &*right, 200),
                (admin, "GET /metrics", &right, 200),
                (admin, "GET /api/config", &lower, 200),
                (admin, "GET /api/config", "X: y", 401),
                (admin, "GET /api/config", &upper, 401),
                (admin, "GET /api/config", &longer, 401),
                (admin, "GET /api/config", "Authorization: Bearer ", 401),
                (admin, "GET /api/config", "Authorization: Bearer", 401),
                (admin, "GET /api/config", &basic, 401),
                (admin, "GET /api/config", &twice, 401),
                (admin, "GET /metrics", "X: y", 401),
                // Nor is it told what there is.
                (admin, "GET /api/nothing", "X: y", 401),
                (admin, "GET /api/nothing", &right, 404),
                (admin, drain, "X: y", 401),
                (admin, "DELETE /api/config", "X: y", 401),
                (admin, weight, &right, 400),
                // Whether it lives, everybody may ask; and metrics where they are for everybody.
                (admin, "GET /healthz", "X: y", 200),
                (admin, "GET /readyz", "X: y", 200),
                // The page that asks for the token has nothing to hide.
                (admin, "GET /", "X: y", 200),
                (admin, "GET /dashboard/api.js", "X: y", 200),
                (metrics, "GET /metrics", "X: y", 200),
            ] {
                let request = format!("{ask} HTTP/1.1\r\nHost: localhost\r\n{field}\r\nConnection: close\r\n\r\n");
                let (status, answer) = raw(address, &request).await;
                assert_eq!(status, want, "{listen} {ask} {field}\n{answer}");
                let challenge = answer.to_lowercase().contains("\r\nwww-authenticate: bearer realm=\"strata\"");
                assert_eq!(challenge, want == 401, "{answer}");
                let wrong = field.starts_with("Authorization") && want == 401;
                assert_eq!(answer.contains("error=\"invalid_token\""), wrong, "{field}\n{answer}");
                assert!(!answer.contains(TOKEN), "{answer}");
            }
            // Names of this machine only where others do not come in.
            let (status, _) = raw(
                admin,
                &format!("GET /api/pools HTTP/1.1\r\nHost: lb.example\r\n{right}\r\nConnection: close\r\n\r\n"),
            )
            .await;
            assert_eq!(status, if listen == everywhere { 200 } else { 403 });
            let client = Client::new(AdminListen::Tcp(Listen::At(admin)));
            let error = client.status().await.unwrap_err().to_string();
            assert!(error.contains("--token-file"), "{error}");
            let client = client.token(&Secret::new(TOKEN)).unwrap();
            assert_eq!(client.status().await.unwrap().generation, 1);
        }
        // While a reload takes the token and such a listener away.
        let rig = rig_with(Settings { admin: Some(AdminListen::Tcp(everywhere)), ..settings() });
        let admin = std::net::SocketAddr::from(([127, 0, 0, 1], rig.servers.admin_address().unwrap().port()));
        for path in ["/api/config", "/metrics"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            assert_eq!(raw(admin, &request).await.0, 401, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn readiness_follows_the_drain() {
    local(async {
        let rig = rig();
        assert_eq!(rig.client().ready().await.unwrap(), (true, "ready".to_owned()));
        rig.crew.drain();
        assert_eq!(rig.client().ready().await.unwrap(), (false, "draining".to_owned()));
        let (status, _) = raw(
            rig.servers.metrics_address().unwrap(),
            "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert_eq!(status, 200, "the process lives");
        rig.crew.snapshot.store(Arc::new(Snapshot::empty(crate::net::rig::settings())));
        assert!(!rig.client().ready().await.unwrap().0);
    })
    .await;
}

/// A path of this test's own.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("strata-admin-{}-{name}.sock", std::process::id()))
}

#[tokio::test]
async fn a_unix_socket_is_its_owners_and_serves_whatever_the_host_is() {
    local(async {
        let path = scratch("owner");
        let on_path = Settings { admin: Some(AdminListen::Unix(path.clone())), ..settings() };
        // A file that a killed process left behind.
        drop(UnixListener::bind(&path).unwrap());
        let mut first = rig_with(on_path.clone());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let client = Client::new(AdminListen::Unix(path.clone()));
        assert_eq!(client.status().await.unwrap().generation, 1);

        // Another process would not take it away.
        let error = rig().servers.prepare(&on_path).err().unwrap();
        assert!(error.contains("[admin]") && error.contains("another process serves there"), "{error}");

        let prepared = first.servers.prepare(&settings()).unwrap();
        first.servers.commit(prepared);
        assert!(!path.exists(), "the file goes with its listener");
        let gone = client.status().await.unwrap_err();
        assert!(matches!(gone, ClientError::Unreachable { .. }), "{gone}");
    })
    .await;
}

#[tokio::test]
async fn a_reload_leaves_the_listeners_it_does_not_name_alone() {
    local(async {
        let mut rig = rig();
        let (metrics, admin) = (rig.servers.metrics_address().unwrap(), rig.servers.admin_address().unwrap());
        let mut kept = TcpStream::connect(admin).await.unwrap();

        let same = rig.servers.prepare(&settings()).unwrap();
        rig.servers.commit(same);
        assert_eq!((rig.servers.metrics_address(), rig.servers.admin_address()), (Some(metrics), Some(admin)));

        // An address that cannot be had changes nothing.
        let taken = Settings { metrics: Some(Listen::At(admin)), ..settings() };
        let error = rig.servers.prepare(&taken).err().unwrap();
        assert!(error.starts_with("[metrics]: ") && error.contains(&admin.to_string()), "{error}");

        let gone = rig.servers.prepare(&Settings { metrics: None, ..settings() }).unwrap();
        rig.servers.commit(gone);
        assert_eq!((rig.servers.metrics_address(), rig.servers.admin_address()), (None, Some(admin)));
        assert!(TcpStream::connect(metrics).await.is_err());

        kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        kept.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn clients_that_say_nothing_do_not_keep_others_out() {
    local(async {
        let mut rig = rig();
        rig.servers.idle = Duration::from_millis(200);
        for settings in [Settings { admin: None, ..settings() }, settings()] {
            let prepared = rig.servers.prepare(&settings).unwrap();
            rig.servers.commit(prepared);
        }
        let admin = rig.servers.admin_address().unwrap();
        let mut idle = Vec::new();
        for _ in 0..limits::ADMIN_CONNECTIONS + 1 {
            idle.push(TcpStream::connect(admin).await.unwrap());
        }
        let (status, _) = raw(admin, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status, 200);
    })
    .await;
}
