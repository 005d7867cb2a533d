//! Shell: tests of the metrics page and the API over real sockets, with a control side that is played.

mod access;
mod dashboard;
mod described;
mod listeners;
mod metrics;
mod noted;
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
use super::{Client, Control, EndpointReport, Of, Refused, ReloadStatus, Request, Servers};
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

/// A path of this test's own.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("strata-admin-{}-{name}.sock", std::process::id()))
}

/// The value of the series with exactly these labels.
fn series(text: &str, name_and_labels: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' ')?.parse().ok())
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
async fn readiness_follows_the_drain() {
    local(async {
        let rig = rig();
        assert_eq!(rig.client().ready(&Of::Process).await.unwrap(), (true, "ready".to_owned()));
        rig.crew.drain();
        for of in [Of::Process, Of::Service("edge".to_owned()), Of::Everything] {
            assert_eq!(rig.client().ready(&of).await.unwrap(), (false, "draining".to_owned()));
        }
        let (status, _) = raw(
            rig.servers.metrics_address().unwrap(),
            "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert_eq!(status, 200, "the process lives");
        rig.crew.snapshot.store(Arc::new(Snapshot::empty(crate::net::rig::settings())));
        assert!(!rig.client().ready(&Of::Process).await.unwrap().0);
    })
    .await;
}

/// Nobody takes packets of the one interface; `edge` and `db` listen all the same.
#[tokio::test]
async fn a_service_that_is_not_served_takes_no_other_out_of_rotation() {
    local(async {
        let rig = rig();
        let service = |name: &str| Of::Service(name.to_owned());
        for of in [Of::Process, service("game"), service("edge"), Of::Everything] {
            assert_eq!(rig.client().ready(&of).await.unwrap(), (true, "ready".to_owned()), "{of:?}");
        }
        rig.crew.packets.interface(&"eth0".into()).leave();
        let game = "service game is not served: nobody takes packets of interface eth0";
        let (ready, text) = rig.client().ready(&Of::Process).await.unwrap();
        let mut lines = text.lines();
        assert_eq!((ready, lines.next()), (true, Some("ready")), "{text}");
        assert!(lines.clone().any(|line| line == game) && lines.all(|line| line.ends_with("interface eth0")), "{text}");
        assert_eq!(rig.client().ready(&service("game")).await.unwrap(), (false, game.to_owned()));
        assert_eq!(rig.client().ready(&service("edge")).await.unwrap(), (true, "ready".to_owned()));
        assert!(!rig.client().ready(&Of::Everything).await.unwrap().0);
        let strange = rig.client().ready(&service("gmae")).await.unwrap_err().to_string();
        assert!(strange.contains("no such service"), "{strange}");
        assert!(rig.client().status().await.unwrap().ready);

        // Where it is all there is, the process is of no use to anybody.
        let text = "[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"eth0\"\n[service.game]\nmode = \"l2\"\nvip = \"v\"\n\
            pool = \"p\"\n[pool.p]\nendpoints = [\"10.0.0.41\"]\n";
        let alone = compile(text, &rig.crew.snapshot.load_full());
        rig.crew.snapshot.store(Arc::new(alone));
        assert_eq!(rig.client().ready(&Of::Process).await.unwrap(), (false, game.to_owned()));
    })
    .await;
}
