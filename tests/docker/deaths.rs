//! Endpoints' containers are killed, stopped, paused, made anew and scaled under load: no GET fails at L7, and at L4 a connection is lost
//! only with its own endpoint. Strata finds them by the labels that docker-compose.yml gives them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use super::common::Rounds;
use super::common::wire::Wire;
use super::engine::{PATIENCE, Project, await_that, can, docker};
use super::load::{Kind, Load};

/// The pool `echo`, as the admin API shows it: endpoints that serve, by address.
struct Pool {
    admin: SocketAddr,
}

impl Pool {
    fn of(project: &Project) -> Pool {
        Pool { admin: project.port("strata", 9900) }
    }

    fn serving(&self) -> Vec<String> {
        let mut wire = Wire::connect(self.admin);
        wire.send("GET /api/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer for-trying-out-only\r\n\r\n");
        let status: serde_json::Value = serde_json::from_str(&wire.response().expect("an answer").text()).unwrap();
        let pool =
            status["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == "echo").expect("the pool").clone();
        let serves = |endpoint: &&serde_json::Value| {
            endpoint["health"] == "up" && endpoint["intent"] == "ready" && endpoint["leaving"] != true
        };
        let name = |endpoint: &serde_json::Value| endpoint["name"].as_str().unwrap_or_default().to_owned();
        pool["endpoints"].as_array().unwrap().iter().filter(serves).map(name).collect()
    }

    fn await_serving(&self, address: &str, serves: bool) {
        let what = format!("{address} {} among those that serve", if serves { "is" } else { "is not" });
        await_that(&what, || self.serving().iter().any(|name| name == address) == serves);
    }
}

/// The containers of `echo`, by what they call themselves: their addresses.
fn containers(project: &Project) -> BTreeMap<String, String> {
    let ids = project.compose(&["ps", "--quiet", "echo"]);
    let address = "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    ids.lines().map(|id| (id[..12].to_owned(), format!("{}:8080", docker(&["inspect", address, id])))).collect()
}

fn world(project: &Project) -> (Pool, BTreeMap<String, String>) {
    project.compose(&["up", "--detach", "strata", "echo", "one"]);
    project.await_healthy("strata");
    let (pool, all) = (Pool::of(project), containers(project));
    assert_eq!(all.len(), 3, "{all:?}");
    all.values().for_each(|address| pool.await_serving(address, true));
    (pool, all)
}

#[test]
fn no_get_fails_while_endpoints_are_killed_stopped_paused_and_made_anew() {
    let Some(_one) = can("deaths of endpoints under load") else { return };
    let project = Project::new();
    let (pool, all) = world(&project);
    let (l7, l4) = (project.port("strata", 8080), project.port("strata", 9000));
    let [(one, at_one), (two, at_two), (three, at_three)] = [0, 1, 2].map(|n| all.iter().nth(n).unwrap());

    // Connections of L4 that are kept, and whose endpoints are known.
    let mut relayed: Vec<(String, Wire)> = (0..12)
        .map(|_| {
            let mut wire = Wire::connect(l4);
            (ask(&mut wire).expect("an endpoint"), wire)
        })
        .collect();
    assert!(all.keys().all(|id| relayed.iter().any(|(name, _)| name == id)), "all three have some");

    let mut load = Load::start();
    load.clients(Kind::Fresh, 4, l7, "/", Duration::from_millis(10));
    load.clients(Kind::Reopened, 8, l7, "/", Duration::from_millis(10));
    load.await_more(200);

    docker(&["kill", one]);
    pool.await_serving(at_one, false);
    load.await_more(200);
    relayed.retain_mut(|(name, wire)| {
        let answered = ask(wire);
        if name == one {
            assert_eq!(answered, None, "its endpoint was killed");
        } else {
            assert_eq!(answered.as_ref(), Some(&*name), "another's connection was lost");
        }
        answered.is_some()
    });
    docker(&["start", one]);
    pool.await_serving(at_one, true);

    docker(&["stop", two]);
    pool.await_serving(at_two, false);
    load.await_more(200);
    docker(&["start", two]);
    pool.await_serving(at_two, true);

    // The kernel of a paused container takes connections and requests, and nobody answers them.
    docker(&["pause", three]);
    pool.await_serving(at_three, false);
    load.await_more(200);
    docker(&["unpause", three]);
    pool.await_serving(at_three, true);

    docker(&["rm", "--force", one]);
    project.compose(&["up", "--detach", "--no-recreate", "echo"]);
    let (_, anew) = containers(&project).into_iter().find(|(id, _)| !all.contains_key(id)).expect("a new container");
    pool.await_serving(&anew, true);
    load.await_more(200);

    let seen = load.stop();
    println!("{:.0} requests a second, {:?}", seen.rate(), seen.all());
    seen.assert_nothing_lost();
    let of_three = relayed.iter_mut().filter(|(name, _)| name == three);
    let mut names: Vec<String> = of_three.filter_map(|(_, wire)| ask(wire)).collect();
    names.dedup();
    assert_eq!(names, std::slice::from_ref(three), "what was relayed to the paused endpoint went on when it did");
}

#[test]
fn scaling_changes_the_pool_within_a_second_and_no_get_fails() {
    let Some(_one) = can("a service that is scaled under load") else { return };
    let project = Project::new();
    let (pool, all) = world(&project);
    let l7 = project.port("strata", 8080);
    let mut load = Load::start();
    load.clients(Kind::Fresh, 4, l7, "/", Duration::from_millis(10));
    load.clients(Kind::Reopened, 4, l7, "/", Duration::from_millis(10));
    load.await_more(200);

    // When each of the new ones is seen to serve, while Compose is still at it.
    let seen = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let (began, mut seen) = (Instant::now(), BTreeMap::new());
            while seen.len() < 5 && began.elapsed() < PATIENCE {
                for address in pool.serving() {
                    seen.entry(address).or_insert_with(SystemTime::now);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            seen
        });
        project.compose(&["up", "--detach", "--no-recreate", "--scale", "echo=5", "echo"]);
        watching.join().expect("the watcher")
    });
    let grown = containers(&project);
    assert_eq!((grown.len(), seen.len()), (5, 5), "{seen:?}");
    let mut rounds = Rounds::default();
    for (id, address) in grown.iter().filter(|(id, _)| !all.contains_key(*id)) {
        let started = docker(&["inspect", "--format={{.State.StartedAt}}", id]);
        let started = moment(&started);
        let took = seen[address].duration_since(started).unwrap_or_default();
        rounds.add("served after the container had started", took);
    }
    rounds.assert_within(Duration::from_secs(1));
    load.await_more(200);

    // When each of those that go is seen not to serve any more, and when the engine told it to stop: Compose takes its time.
    let since = since_epoch();
    let gone = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let (began, mut gone) = (Instant::now(), BTreeMap::new());
            while gone.len() < 3 && began.elapsed() < PATIENCE {
                let serving = pool.serving();
                for (id, _) in grown.iter().filter(|(_, address)| !serving.contains(*address)) {
                    gone.entry(id.clone()).or_insert_with(SystemTime::now);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            gone
        });
        project.compose(&["up", "--detach", "--no-recreate", "--scale", "echo=2", "echo"]);
        watching.join().expect("the watcher")
    });
    assert_eq!(gone.len(), 3, "{gone:?}");
    let format = "--format={{.Actor.ID}} {{.TimeNano}}";
    let told = docker(&["events", "--since", &since, "--until", &since_epoch(), "--filter", "event=kill", format]);
    let mut rounds = Rounds::default();
    for (id, at) in &gone {
        let line = told.lines().find(|line| line.starts_with(id.as_str())).unwrap_or_else(|| panic!("{id}: {told}"));
        let ns = line.split(' ').nth(1).and_then(|ns| ns.parse().ok()).expect("when it was told to stop");
        let took = at.duration_since(SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)).unwrap_or_default();
        rounds.add("served no more after it was told to stop", took);
    }
    rounds.assert_within(Duration::from_secs(1));
    await_that("three are gone", || pool.serving().len() == 2);
    load.await_more(200);
    let seen = load.stop();
    println!("{:.0} requests a second, {:?}", seen.rate(), seen.all());
    seen.assert_nothing_lost();
    assert_eq!(project.down(), "", "something is left");
}

/// `2026-11-27T10:00:00.123456789Z`, as `date` understands it.
fn moment(text: &str) -> SystemTime {
    let output = Command::new("date").args(["--date", text, "+%s%N"]).output().expect("date");
    let ns = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|_| panic!("{text} is no time"));
    SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)
}

/// Now, as `docker events` takes it.
fn since_epoch() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// Who answers on this connection.
fn ask(wire: &mut Wire) -> Option<String> {
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wire.response().ok()?.field("x-endpoint")
}
