//! The HTTP mode over real sockets on loopback: scripted endpoints, a worker on a `LocalSet`, snapshots built by hand.

mod bodies;
mod edges;
mod exchanges;
mod failures;
mod ways_out;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use crate::balance::{self, HashBy};
use crate::base::{HashKey, Reason, Weight, WorkerId, limits};
use crate::doc::{Place, Settings as PluginSettings};
use crate::mode;
use crate::net::rig::nobody;
use crate::net::{ControlEvent, Crew, Worker};
use crate::observe::access;
use crate::route::Pattern;
use crate::seam::{Accepted, Mode};
use crate::state::{
    EndpointSpec, L7Spec, Limits, Pool, PoolSpec, Route, Service, ServiceSpec, Settings, Snapshot, Specs, Timeouts,
    TrafficSpec,
};
use crate::wire::http1::Reject;

/// Longer than anything here takes; a wait that reaches it is a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test on a runtime like a worker's.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain until {what}");
}

/// One service `web` over one pool `web`, carried by one worker.
struct World {
    worker: Rc<Worker>,
    mode: Rc<dyn Mode>,
    address: SocketAddr,
    events: RefCell<mpsc::Receiver<ControlEvent>>,
}

/// What a test may change before the world begins.
struct Plan {
    service: ServiceSpec,
    pool: PoolSpec,
}

impl Plan {
    fn l7(&mut self) -> &mut L7Spec {
        match &mut self.service.traffic {
            TrafficSpec::L7(spec) => spec,
            _ => unreachable!("the plan is L7"),
        }
    }
}

impl World {
    async fn new(endpoints: &[SocketAddr]) -> World {
        World::planned(endpoints, |_| {}).await
    }

    async fn planned(endpoints: &[SocketAddr], change: impl FnOnce(&mut Plan)) -> World {
        World::recorded(endpoints, access::Sink::none(), change).await
    }

    async fn recorded(endpoints: &[SocketAddr], access: access::Sink, change: impl FnOnce(&mut Plan)) -> World {
        let settings = Settings {
            workers: 1,
            metrics: None,
            admin: None,
            admin_token: None,
            admin_read_only: false,
            random_key: false,
            hash_key: HashKey::new([7; 16]),
            packet_io: None,
            drain_timeout: Duration::from_secs(30),
            watch: false,
            log_level: "info",
            log_json: false,
            log_output: crate::observe::sink::Output::Stderr,
            access_output: crate::observe::sink::Output::Stdout,
            process: crate::state::Process::default(),
        };
        let empty = Snapshot::empty(settings.clone());
        let mut names = empty.names().clone();
        let pool_id = names.pool(&Arc::from("web")).unwrap();
        let service_id = names.service(&Arc::from("web")).unwrap();
        let mut plan = Plan { service: service(pool_id), pool: pool(endpoints) };
        change(&mut plan);
        let specs = Specs { vips: Vec::new(), pools: vec![plan.pool], services: vec![plan.service] };
        let snapshot = empty.build(settings, names, specs, serde_json::Value::Null);
        let (control, events) = mpsc::channel(64);
        let (crew, _handed) = Crew::new(1, Arc::new(snapshot), control, access);
        let worker = Rc::new(Worker::new(WorkerId(0), crew));
        let start = mode::CATALOG.iter().find(|spec| spec.name == "l7").unwrap().start;
        let mode = start(worker.clone());
        spawn_local(worker.timers.clone().run());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let carrier = mode.clone();
        spawn_local(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let local = stream.local_addr().unwrap();
                spawn_local(carrier.clone().serve(Accepted { service: service_id, stream, peer, local }));
            }
        });
        World { worker, mode, address, events: RefCell::new(events) }
    }

    async fn client(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).await.unwrap())
    }

    fn service(&self) -> Arc<Service> {
        self.worker.snapshot().service_named("web").unwrap().clone()
    }

    fn pool(&self) -> Arc<Pool> {
        self.worker.snapshot().pool_named("web").unwrap().clone()
    }

    fn dropped(&self, reason: Reason) -> u64 {
        self.service().kept.cells.sum(|cells| cells.dropped(reason))
    }

    fn rejected(&self, reject: Reject) -> u64 {
        self.service().kept.cells.sum(|cells| cells.rejected(reject))
    }

    fn responses(&self, status: u16) -> u64 {
        self.service().kept.cells.sum(|cells| cells.responses.get(status))
    }

    fn retries(&self) -> u64 {
        self.pool().cells.sum(|cells| cells.retries.get())
    }

    /// Requests in flight at all endpoints: a count that does not come back to zero is a leak.
    fn in_flight(&self) -> u32 {
        self.pool().endpoints.iter().map(|endpoint| endpoint.load.in_flight()).sum()
    }

    /// One exchange on a connection of its own.
    async fn ask(&self, request: &str) -> Message {
        let mut client = self.client().await;
        client.send(request).await;
        client.answer().await
    }
}

fn pool(endpoints: &[SocketAddr]) -> PoolSpec {
    let balance = PluginSettings::defaults(&balance::CATALOG[0].grammar);
    let endpoints = endpoints.iter().map(|address| EndpointSpec::new(*address, Weight::ONE)).collect();
    PoolSpec { connect_timeout: Duration::from_secs(1), ..PoolSpec::new("web", balance, endpoints) }
}

fn service(pool: crate::base::PoolId) -> ServiceSpec {
    let long = Duration::from_secs(60);
    ServiceSpec {
        name: "web".into(),
        listen: Vec::new(),
        timeouts: Timeouts {
            header: long,
            idle: long,
            response: long,
            body: long,
            client: long,
            tunnel: long,
            half_close: long,
        },
        limits: Limits { max_connections: 0, max_connections_per_source: 0, max_body_bytes: 0, max_requests: 0 },
        access: None,
        traffic: TrafficSpec::L7(L7Spec {
            routes: vec![Route {
                url: String::new(),
                pattern: Pattern::ANY,
                priority: 0,
                pool,
                hash_by: HashBy::SourceAddress,
                place: Place::default(),
            }],
            trusted_proxies: Vec::new(),
            reason_field: true,
            retries: 2,
        }),
    }
}

/// An endpoint whose every connection is played by `script`, which is told how many came before it.
struct Origin {
    address: SocketAddr,
    connections: Rc<Cell<usize>>,
    /// Heads of the requests that [`Wire::request`] read, as they came.
    heads: Rc<RefCell<Vec<String>>>,
}

async fn origin<F, S>(script: S) -> Origin
where
    S: Fn(usize, Wire) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Origin { address: listener.local_addr().unwrap(), connections: Rc::default(), heads: Rc::default() };
    let (connections, heads) = (origin.connections.clone(), origin.heads.clone());
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let before = connections.get();
            connections.set(before + 1);
            let mut wire = Wire::new(stream);
            wire.heads = heads.clone();
            spawn_local(script(before, wire));
        }
    });
    origin
}

/// An endpoint that gives the same answer to every request.
async fn answering(answer: &'static str) -> Origin {
    origin(move |_, mut wire| async move {
        while wire.request().await.is_some() {
            wire.send(answer).await;
        }
    })
    .await
}

/// One end of a connection, speaking HTTP by hand: nothing here uses the codec under test.
struct Wire {
    stream: TcpStream,
    /// Read and not consumed.
    ahead: Vec<u8>,
    heads: Rc<RefCell<Vec<String>>>,
    /// The request was HEAD: the next answer has no body.
    head_asked: bool,
}

/// A message as it came.
#[derive(Debug)]
struct Message {
    head: String,
    body: Vec<u8>,
    /// Trailer lines.
    trailers: String,
    /// Sizes of the chunks it came in.
    chunks: usize,
    /// The connection ended before the body did.
    truncated: bool,
}

impl Message {
    fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// The value of the one field of that name; two would be a mistake of ours.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let values: Vec<&str> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect();
    assert!(values.len() < 2, "{name} twice in {head}");
    values.first().copied()
}

impl Wire {
    fn new(stream: TcpStream) -> Wire {
        Wire { stream, ahead: Vec::new(), heads: Rc::default(), head_asked: false }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.head_asked = bytes.starts_with(b"HEAD ");
        // The other side may have closed on purpose: what it answered decides the test.
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the other side reads");
    }

    /// Reads once. False at the end of the stream, a reset included.
    async fn more(&mut self) -> bool {
        let mut block = vec![0; 64 * 1024];
        match timeout(PATIENCE, self.stream.read(&mut block)).await.expect("the other side goes on") {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.ahead.extend_from_slice(&block[..n]);
                true
            }
        }
    }

    /// Bytes up to and with `end`.
    async fn through(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.ahead.split_off(at + end.len());
                return Some(String::from_utf8(std::mem::replace(&mut self.ahead, rest)).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// `n` bytes, or what there was before the end.
    async fn take(&mut self, n: usize) -> Vec<u8> {
        while self.ahead.len() < n && self.more().await {}
        let rest = self.ahead.split_off(n.min(self.ahead.len()));
        std::mem::replace(&mut self.ahead, rest)
    }

    /// A message's head alone.
    async fn head(&mut self) -> Option<String> {
        self.through("\r\n\r\n").await
    }

    /// A whole request, or `None` when the connection ends first.
    async fn request(&mut self) -> Option<Message> {
        let head = self.head().await?;
        self.heads.borrow_mut().push(head.clone());
        let none = field(&head, "content-length").is_none() && field(&head, "transfer-encoding").is_none();
        Some(self.body(head, none).await)
    }

    /// A whole response, interim ones included.
    async fn answer(&mut self) -> Message {
        let head = self.head().await.expect("an answer");
        let status: u16 = head[9..12].parse().unwrap();
        let none = self.head_asked || matches!(status, 100..=199 | 204 | 304);
        self.body(head, none).await
    }

    async fn body(&mut self, head: String, none: bool) -> Message {
        let mut message = Message { head, body: Vec::new(), trailers: String::new(), chunks: 0, truncated: false };
        if none {
        } else if let Some(length) = message.field("content-length").map(|l| l.parse::<usize>().unwrap()) {
            message.body = self.take(length).await;
            message.truncated = message.body.len() < length;
        } else if message.field("transfer-encoding").is_some() {
            message.truncated = self.chunks(&mut message).await.is_none();
        } else {
            while self.more().await {}
            message.body = std::mem::take(&mut self.ahead);
        }
        message
    }

    async fn chunks(&mut self, message: &mut Message) -> Option<()> {
        loop {
            let line = self.through("\r\n").await?;
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            if size == 0 {
                break;
            }
            message.chunks += 1;
            let payload = self.take(size).await;
            message.body.extend_from_slice(&payload);
            if payload.len() < size || self.through("\r\n").await? != "\r\n" {
                return None;
            }
        }
        loop {
            let line = self.through("\r\n").await?;
            if line == "\r\n" {
                return Some(());
            }
            message.trailers += &line;
        }
    }

    /// Whether the connection ends here, with nothing more said.
    async fn ended(&mut self) -> bool {
        self.ahead.is_empty() && !self.more().await
    }

    /// Closes with a reset.
    fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
