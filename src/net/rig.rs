//! Wiring: what tests of the data path need: a worker on the test's thread with one service over given endpoints.
//!
//! Not here: listeners. Tests hand the connections over themselves.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::worker::{ControlEvent, Crew, Worker};
use crate::balance::{self, HashBy};
use crate::base::{HashKey, ServiceId, Weight, WorkerId, limits};
use crate::doc::Settings;
use crate::observe::access::Sink;
use crate::seam::Accepted;
use crate::state::{self, EndpointSpec, Limits, Pool, PoolSpec, Service, ServiceSpec, Snapshot, Timeouts, TrafficSpec};

pub struct Rig {
    pub worker: Rc<Worker>,
    pub control: mpsc::Receiver<ControlEvent>,
    pub pool: Arc<Pool>,
    pub service: Arc<Service>,
}

/// What a test may want otherwise.
pub struct Specs {
    pub pool: PoolSpec,
    pub service: ServiceSpec,
    pub access: Sink,
}

impl Rig {
    /// One worker whose snapshot has the L4 service `edge` over the pool `backend`. Its timers run.
    pub fn new(endpoints: &[SocketAddr], change: impl FnOnce(&mut Specs)) -> Rig {
        let settings = settings();
        let empty = Snapshot::empty(settings.clone());
        let mut names = empty.names().clone();
        let (service, pool) = (Arc::from("edge"), Arc::from("backend"));
        let (service_id, pool_id) = (names.service(&service).unwrap(), names.pool(&pool).unwrap());
        let mut specs = specs(service, pool, TrafficSpec::L4 { pool: pool_id, hash_by: HashBy::SourceAddress });
        specs.pool.endpoints = endpoints.iter().map(|endpoint| EndpointSpec::new(*endpoint, Weight::ONE)).collect();
        change(&mut specs);
        let named = state::Specs { vips: Vec::new(), pools: vec![specs.pool], services: vec![specs.service] };
        let snapshot = empty.build(settings, names, named, serde_json::Value::Null);
        let (pool, service) = (snapshot.pool(pool_id).unwrap().clone(), snapshot.service(service_id).unwrap().clone());
        let (events, control) = mpsc::channel(limits::CONTROL_QUEUE);
        let (crew, _) = Crew::new(1, Arc::new(snapshot), events, specs.access);
        let worker = Rc::new(Worker::new(WorkerId(0), crew));
        worker.timers.tick(crate::base::clock::now());
        tokio::task::spawn_local(worker.timers.clone().run());
        Rig { worker, control, pool, service }
    }

    /// A connection from a client to Strata: the client's end, and what the service is given.
    pub async fn client(&self) -> (TcpStream, Accepted) {
        let (client, stream) = pair().await;
        let (peer, local) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
        (client, Accepted { service: self.service_id(), stream, peer, local })
    }

    pub fn service_id(&self) -> ServiceId {
        self.service.id
    }
}

pub fn settings() -> crate::state::Settings {
    crate::state::Settings {
        workers: 1,
        metrics: None,
        admin: None,
        admin_token: None,
        admin_read_only: false,
        random_key: false,
        hash_key: HashKey::new([7; 16]),
        packet_io: None,
        drain_timeout: Duration::from_secs(5),
        watch: false,
        log_level: "info",
        log_json: false,
        log_output: crate::observe::sink::Output::Stderr,
        access_output: crate::observe::sink::Output::Stdout,
        process: crate::state::Process::default(),
    }
}

fn specs(service: Arc<str>, pool: Arc<str>, traffic: TrafficSpec) -> Specs {
    let long = Duration::from_secs(60);
    Specs {
        pool: PoolSpec::new(pool, Settings::defaults(&balance::find("first").unwrap().grammar), Vec::new()),
        service: ServiceSpec {
            name: service,
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
            traffic,
        },
        access: Sink::none(),
    }
}

/// A loopback address that no other test has: a port of it that is free stays free, for outgoing connections come from 127.0.0.1.
pub fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let unique = (std::process::id() << 8 | NEXT.fetch_add(1, Relaxed) & 0xff) & 0x00ff_ffff;
    Ipv4Addr::from(0x7f00_0000 | unique.max(2))
}

/// An address where nobody listens, and what keeps it from others.
pub fn nobody() -> (SocketAddr, TcpSocket) {
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (held.local_addr().unwrap(), held)
}

/// Two connected sockets.
pub async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (a, b) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (a, (b, _)) = (a.unwrap(), b.unwrap());
    a.set_nodelay(true).unwrap();
    b.set_nodelay(true).unwrap();
    (a, b)
}

/// Runs `test` where local tasks can be spawned, and fails it when it hangs.
pub async fn local<F: Future>(test: F) -> F::Output {
    let tasks = LocalSet::new();
    tokio::time::timeout(Duration::from_secs(20), tasks.run_until(test)).await.expect("the test hangs")
}

/// Waits until `holds`.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came true: {what}");
}
