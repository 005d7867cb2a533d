//! Wiring: the keeper over real endpoints on loopback that come and go. Conditions are awaited; nothing sleeps for luck.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::*;
use crate::base::{HashKey, PoolId, WorkerId};
use crate::doc::{Settings, Value};
use crate::health::Health;
use crate::net::rig::{nobody, own_ip};
use crate::observe::access;
use crate::state::snapshot::Settings as Process;
use crate::state::{Endpoint, EndpointSpec, Pool, PoolSpec, Specs};
use crate::{balance, probe};

/// Longest that a condition is awaited: far beyond what it takes, for machines under load.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    crew: Arc<Crew>,
    keeper: KeeperHandle,
}

/// A server that only accepts. Gone when it is dropped.
struct Server {
    address: SocketAddr,
    task: task::JoinHandle<()>,
}

impl Server {
    async fn start(address: SocketAddr) -> Server {
        // The port of one that was just stopped is free, but for connections that are still closing.
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = task::spawn_local(async move {
            loop {
                let _ = listener.accept().await;
            }
        });
        Server { address, task }
    }

    async fn anywhere() -> Server {
        Server::start((own_ip(), 0).into()).await
    }

    async fn stop(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    task::LocalSet::new().block_on(&runtime, test);
}

fn probe_settings(interval: Duration) -> Settings {
    let mut settings = Settings::defaults(&probe::find("tcp").unwrap().grammar);
    settings.values.insert("interval", Value::Duration(interval));
    settings
}

/// Often enough that a test need not wait, and seldom, so that it can only have been something else.
const OFTEN: Duration = Duration::from_millis(50);
const SELDOM: Duration = Duration::from_secs(3600);

fn pool(name: &str, interval: Option<Duration>, endpoints: &[(SocketAddr, u64)]) -> PoolSpec {
    let balance = Settings::defaults(&balance::find("round-robin").unwrap().grammar);
    let spec = |(address, weight): &(SocketAddr, u64)| EndpointSpec::new(*address, Weight::new(*weight).unwrap());
    PoolSpec {
        probe: interval.map(probe_settings),
        connect_timeout: Duration::from_secs(1),
        ..PoolSpec::new(name, balance, endpoints.iter().map(spec).collect())
    }
}

impl World {
    fn start() -> World {
        let process = Process {
            workers: 1,
            metrics: None,
            admin: None,
            admin_token: None,
            admin_read_only: false,
            random_key: false,
            hash_key: HashKey::new([1; 16]),
            packet_io: None,
            drain_timeout: Duration::from_secs(1),
            watch: false,
            log_level: "info",
            log_json: false,
            log_output: crate::observe::sink::Output::Stderr,
            access_output: crate::observe::sink::Output::Stdout,
            process: crate::state::Process::default(),
        };
        let (control, events) = mpsc::channel(limits::CONTROL_QUEUE);
        events::keep_in_tests();
        let (crew, _) = Crew::new(1, Arc::new(Snapshot::empty(process)), control, access::Sink::none());
        let keeper = Keeper::start(crew.clone(), events).unwrap();
        World { crew, keeper }
    }

    /// A reload to these pools.
    fn reload(&self, pools: Vec<PoolSpec>) {
        self.keeper.adopt(self.store(pools));
    }

    /// Its first half: workers see the snapshot, and the keeper knows nothing of it yet.
    fn store(&self, pools: Vec<PoolSpec>) -> Arc<Snapshot> {
        let current = self.crew.snapshot.load_full();
        let mut names = current.names().clone();
        pools.iter().for_each(|pool| assert!(names.pool(&pool.name).is_some()));
        let specs = Specs { pools, ..Specs::default() };
        let next = current.build(current.settings.clone(), names, specs, serde_json::Value::Null);
        let next = Arc::new(next);
        self.crew.snapshot.store(next.clone());
        next
    }

    fn pool(&self, name: &str) -> Arc<Pool> {
        self.crew.snapshot.load().pool_named(name).unwrap().clone()
    }

    fn endpoint(&self, pool: &str, address: SocketAddr) -> Arc<Endpoint> {
        self.pool(pool).endpoint(&address.to_string()).unwrap().clone()
    }

    /// Addresses that serve, as workers see them.
    fn serving(&self, pool: &str) -> Vec<SocketAddr> {
        self.pool(pool).view().endpoints.iter().filter_map(|endpoint| endpoint.address.socket()).collect()
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = clock::now() + PATIENCE;
        while !condition() {
            if clock::now() > deadline {
                let events: Vec<String> = events::ring().page(None, 50).events.into_iter().map(|e| e.text).collect();
                panic!("never: {what}; {:#?} after {events:#?}", self.keeper.report().await);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn until_serving(&self, pool: &str, want: &[SocketAddr]) {
        self.until(&format!("{pool} is served by {want:?}"), || self.serving(pool) == want).await;
    }

    async fn until_health(&self, pool: &str, address: SocketAddr, want: Health) {
        let endpoint = self.endpoint(pool, address);
        self.until(&format!("{address} is {}", want.word()), || endpoint.status().health == want).await;
    }

    /// What a worker does when connects fail.
    fn fail_connects(&self, pool: &str, address: SocketAddr, times: u32) {
        let (id, endpoint) = (self.pool(pool).id, self.endpoint(pool, address));
        for _ in 0..times {
            let failures = endpoint.failures_in_row.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            self.crew.tell(ControlEvent::ConnectFailing { pool: id, endpoint: endpoint.clone(), failures });
        }
    }
}

#[test]
fn endpoints_that_go_down_leave_and_come_back() {
    run(async {
        let world = World::start();
        let (a, b) = (Server::anywhere().await, Server::anywhere().await);
        let (at_a, at_b) = (a.address, b.address);
        world.reload(vec![pool("web", Some(OFTEN), &[(at_a, 1), (at_b, 1)])]);
        world.until_health("web", at_a, Health::Up).await;
        world.until_health("web", at_b, Health::Up).await;
        world.until_serving("web", &[at_a, at_b]).await;

        a.stop().await;
        world.until_serving("web", &[at_b]).await;
        world.until_health("web", at_a, Health::Down).await;
        let report = world.keeper.report().await;
        assert_eq!(report[0].cause.as_deref(), Some("probe failed: connect refused"));
        assert_eq!((&*report[0].pool, &*report[0].endpoint), ("web", &*at_a.to_string()));
        assert!(report[1].next_probe.is_none_or(|due| due < OFTEN * 2));

        let a = Server::start(at_a).await;
        world.until_serving("web", &[at_a, at_b]).await;
        let cells = &world.endpoint("web", at_a).cells;
        assert!(cells.control().probes_failed.get() >= 3);
        assert!(cells.control().probes_passed.get() >= 2);
        assert_eq!(cells.row(WorkerId(0)).probes_passed.get(), 0);
        drop((a, b));
    });
}

/// For `strata_probes_overdue_seconds`: when the next probe is due is told, so that it shows when nobody comes to it.
#[test]
fn when_the_next_probe_is_due_is_told_while_one_is() {
    run(async {
        let world = World::start();
        let server = Server::anywhere().await;
        // As if the keeper never came back.
        let overdue = || world.crew.probes_overdue(clock::now() + SELDOM * 10) > SELDOM;
        assert!(!overdue(), "nobody is probed yet");
        world.reload(vec![pool("web", Some(SELDOM), &[(server.address, 1)])]);
        world.until_health("web", server.address, Health::Up).await;
        world.until("the next probe is due", overdue).await;
        assert_eq!(world.crew.probes_overdue(clock::now()), Duration::ZERO, "in an hour");
        world.reload(vec![]);
        world.until("none is due", || !overdue()).await;
    });
}

#[test]
fn at_start_everyone_serves_until_all_are_judged() {
    run(async {
        let world = World::start();
        let up = Server::anywhere().await;
        let (dead, _held) = nobody();
        let next = world.store(vec![pool("web", Some(SELDOM), &[(dead, 1), (up.address, 1)])]);
        assert_eq!(world.serving("web"), [dead, up.address], "before any probe");
        world.keeper.adopt(next);
        world.until_serving("web", &[up.address]).await;
        assert_eq!(world.endpoint("web", dead).status().health, Health::Down);
        assert_eq!(world.pool("web").view().epoch, 1, "one view for all first results");
    });
}

#[test]
fn failing_connects_eject_at_once_and_the_probe_says_what_next() {
    run(async {
        let world = World::start();
        let (a, b) = (Server::anywhere().await, Server::anywhere().await);
        let (at_a, at_b) = (a.address, b.address);
        // The probe is slow; what happens within its interval is passive detection's.
        world.reload(vec![pool("failing", Some(SELDOM), &[(at_a, 1), (at_b, 1)])]);
        world.until_health("failing", at_a, Health::Up).await;
        world.until_health("failing", at_b, Health::Up).await;
        let probes = world.endpoint("failing", at_a).cells.control().probes_failed.get();

        a.stop().await;
        world.fail_connects("failing", at_a, 2);
        world.keeper.report().await;
        assert_eq!(world.endpoint("failing", at_a).status().health, Health::Up, "two are not enough");
        world.fail_connects("failing", at_a, 1);
        world.until_serving("failing", &[at_b]).await;
        let endpoint = world.endpoint("failing", at_a);
        world.until("it is probed at once", || endpoint.cells.control().probes_failed.get() > probes).await;

        world.fail_connects("failing", at_b, 9);
        world.keeper.report().await;
        assert_eq!(world.serving("failing"), [at_b], "the last one stays");
        let told = events::ring().page(None, limits::EVENTS).events;
        let of_pool = told.iter().filter(|event| event.subject.starts_with("failing/"));
        let causes: Vec<&str> = of_pool.filter_map(|event| Some(event.text.split_once(" cause=")?.1)).collect();
        assert_eq!(causes, ["\"probe passed\"", "\"probe passed\"", "\"3 connects in a row failed\""]);
        b.stop().await;
    });
}

#[test]
fn an_endpoint_without_a_probe_is_up_and_can_be_ejected() {
    run(async {
        let world = World::start();
        let (a, b) = ("127.0.0.1:7".parse().unwrap(), "127.0.0.1:9".parse().unwrap());
        world.reload(vec![pool("web", None, &[(a, 1), (b, 1)])]);
        world.keeper.report().await;
        assert_eq!(world.serving("web"), [a, b]);
        world.fail_connects("web", a, 3);
        world.until_serving("web", &[b]).await;
        assert_eq!(world.endpoint("web", a).status().health, Health::Ejected);
    });
}

#[test]
fn what_the_operator_sets_holds_at_once_and_across_reloads() {
    run(async {
        let world = World::start();
        let (a, b) = ("127.0.0.1:7".parse().unwrap(), "127.0.0.1:9".parse().unwrap());
        world.reload(vec![pool("web", None, &[(a, 1), (b, 1)])]);
        let weight = |n| Weight::new(n).unwrap();

        assert_eq!(world.keeper.set_intent("web", &a.to_string(), Intent::Draining).await, Ok(()));
        assert_eq!(world.serving("web"), [b], "in force when it returns");
        assert_eq!(world.keeper.set_weight("web", &b.to_string(), weight(7)).await, Ok(()));
        assert_eq!(world.pool("web").view().members[0].weight, weight(7));
        for (pool, endpoint) in [("web", "127.0.0.1:1".to_owned()), ("app", a.to_string())] {
            assert_eq!(world.keeper.set_intent(pool, &endpoint, Intent::Ready).await, Err(Refused::Unknown));
        }

        let c: SocketAddr = "127.0.0.1:13".parse().unwrap();
        world.reload(vec![pool("web", None, &[(a, 1), (b, 1), (c, 1)])]);
        world.until_serving("web", &[b, c]).await;
        assert_eq!(world.endpoint("web", b).status().weight, weight(7), "the file says what it said");
        world.reload(vec![pool("web", None, &[(a, 1), (b, 3), (c, 1)])]);
        let endpoint = world.endpoint("web", b);
        world.until("the file's new weight is in force", || endpoint.status().weight == weight(3)).await;

        assert_eq!(world.keeper.set_intent("web", &a.to_string(), Intent::Ready).await, Ok(()));
        assert_eq!(world.serving("web"), [a, b, c]);
    });
}

#[test]
fn a_reload_keeps_what_is_known_probes_what_is_new_and_forgets_what_is_gone() {
    run(async {
        let world = World::start();
        let (a, b, c) = (Server::anywhere().await, Server::anywhere().await, Server::anywhere().await);
        let (dead, _held) = nobody();
        world.reload(vec![pool("web", Some(SELDOM), &[(a.address, 1), (b.address, 1)])]);
        world.until_health("web", a.address, Health::Up).await;
        world.until_health("web", b.address, Health::Up).await;
        let known = world.endpoint("web", a.address);
        let probes = known.cells.control().probes_passed.get();

        let next = world.store(vec![pool("web", Some(SELDOM), &[(a.address, 1), (c.address, 1), (dead, 1)])]);
        assert_eq!(world.serving("web"), [a.address], "what is new waits for its probe");
        world.keeper.adopt(next);
        world.until_serving("web", &[a.address, c.address]).await;
        world.until_health("web", dead, Health::Down).await;
        assert_eq!(known.cells.control().probes_passed.get(), probes, "what is known is not probed anew");
        let names: Vec<String> = world.keeper.report().await.iter().map(|line| line.endpoint.to_string()).collect();
        assert_eq!(names, [a.address, c.address, dead].map(|address| address.to_string()));

        world.reload(vec![pool("web", None, &[(a.address, 1), (c.address, 1), (dead, 1)])]);
        world.until_serving("web", &[a.address, c.address, dead]).await;
        world.reload(Vec::new());
        let report = async || world.keeper.report().await.is_empty();
        assert!(report().await);
        assert_eq!(world.keeper.set_intent("web", &a.address.to_string(), Intent::Ready).await, Err(Refused::Unknown));
    });
}

#[test]
fn maintenance_stops_the_probe_and_restoring_begins_with_one() {
    run(async {
        let world = World::start();
        let (a, b) = (Server::anywhere().await, Server::anywhere().await);
        world.reload(vec![pool("web", Some(SELDOM), &[(a.address, 1), (b.address, 1)])]);
        world.until_health("web", a.address, Health::Up).await;
        world.until_health("web", b.address, Health::Up).await;
        let name = a.address.to_string();
        assert_eq!(world.keeper.set_intent("web", &name, Intent::Maintenance).await, Ok(()));
        assert_eq!(world.serving("web"), [b.address]);
        assert_eq!(world.keeper.report().await[0].next_probe, None);
        assert_eq!(world.keeper.set_intent("web", &name, Intent::Ready).await, Ok(()));
        world.until_serving("web", &[a.address, b.address]).await;

        // Restored when nobody answers, it does not serve: it begins with a probe.
        assert_eq!(world.keeper.set_intent("web", &name, Intent::Maintenance).await, Ok(()));
        a.stop().await;
        assert_eq!(world.keeper.set_intent("web", &name, Intent::Ready).await, Ok(()));
        world.until_health("web", name.parse().unwrap(), Health::Down).await;
        assert_eq!(world.serving("web"), [b.address]);
    });
}

#[test]
fn the_thread_ends_with_its_last_handle() {
    run(async {
        let world = World::start();
        world.reload(vec![pool("web", None, &[("127.0.0.1:7".parse().unwrap(), 1)])]);
        world.keeper.report().await;
        let World { crew, keeper } = world;
        let again = keeper.clone();
        drop(keeper);
        assert_eq!(again.report().await.len(), 1);
        drop(again);
        // The keeper's own reference goes with it; the snapshot and this test hold none of its.
        let deadline = clock::now() + PATIENCE;
        while Arc::strong_count(&crew) > 1 {
            assert!(clock::now() < deadline, "the thread lives on");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
}

#[test]
fn a_pool_of_one_dead_endpoint_has_nobody() {
    run(async {
        let world = World::start();
        let (dead, socket) = nobody();
        world.reload(vec![pool("web", Some(OFTEN), &[(dead, 1)])]);
        world.until_serving("web", &[]).await;
        assert_eq!(world.pool("web").id, PoolId(0));
        let _up = socket.listen(16).unwrap();
        world.until_serving("web", &[dead]).await;
    });
}
